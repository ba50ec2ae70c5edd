"""Running the commands of a project: watched, mended by the playbook, each done once."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tasks.artifacts import log_text, now, write_json
from tasks.errors import DeftError, StageFailed, listed
from tasks.huggingface.asking import Question
from tasks.huggingface.commands import Command, Name, commands_of, has_gpus
from tasks.huggingface.compat import runtime_environment
from tasks.huggingface.progress import Bug
from tasks.huggingface.recovery import (
    Remedy,
    attempts_in,
    change_config,
    remedy_for,
    remember,
    struck_out,
    told,
)
from tasks.huggingface.results import DONE, commands_done, lacking
from tasks.huggingface.run import Run
from tasks.huggingface.runner import Outcome, Watch
from tasks.huggingface.smoke import Kind, failure_of, history_of_log, share_done, step_entries, watch_training
from tasks.reports.markdown import escaped

logger = logging.getLogger("deft")
progress = logging.getLogger("deft.progress")

TAIL = 20_000
RESUMED = "going on from "
"""What train.py logs where it goes on from a checkpoint."""
MEND = (
    "Mend `config.yaml` or what else is wrong in the project, then approve: the command is run again. "
    "Reject: the run ends."
)
MILESTONES = {"prepare": "data", "smoke": "script", "tests": "script"}
"""Of the diary; that of every other command is `train`."""
USED_BY: dict[Name, tuple[Name, ...]] = {
    "prepare": ("tests", "baseline", "train", "merge", "evaluate", "infer", "report"),
    "baseline": ("report",),
    "train": ("merge", "evaluate", "infer", "report"),
    "merge": ("evaluate", "infer", "report"),
    "evaluate": ("report",),
    "infer": ("report",),
}
"""Which commands read what a command leaves: once it is done again, they are no longer done."""

WITHOUT_MODEL: tuple[Name, ...] = ("prepare", "report")
"""Commands that compute nothing on GPUs."""


def commands_here(run: Run) -> dict[Name, Command]:
    """The commands of the project as its configuration is now."""
    config = run.config
    return commands_of(config, runtime_environment(config.get("applicable_workarounds") or []))


def done_once(run: Run, name: Name) -> None:
    """Run a command unless it was done before and what it leaves is there; then those that use it, too.

    Raises:
        StageFailed: it failed and no remedy helped, its time was over, or what it leaves is not whole.
        DeftError: the person who was asked said no.
    """
    if name not in commands_here(run):
        return
    record = commands_done(run.project)
    if name in record and not lacking(name, run.project, run.config):
        logger.info("%s was done at %s", name, record[name]["at"])
        return
    undone = (name, *USED_BY.get(name, ()))
    write_json(run.project / DONE, {one: entry for one, entry in record.items() if one not in undone})
    outcome = run_recovering(run, name)
    if missing := lacking(name, run.project, run.config):
        raise StageFailed(f"{name} ended without an error, but: {listed(missing)}; see {outcome.log}")
    note_done(run.project, name, seconds=round(outcome.seconds, 1))
    progress.info("%s done in %.0f s", name, outcome.seconds)


def note_done(project: Path, name: str, **facts: Any) -> None:
    """Note that something was done now."""
    write_json(project / DONE, commands_done(project) | {name: {"at": now(), **facts}})


def run_recovering(run: Run, name: Name) -> Outcome:
    """Run a command, and again after the smallest change that the playbook knows for its failure.

    Raises:
        StageFailed: the time of the command was over.
        DeftError: the run was ended, or the person who was asked said no.
    """
    while True:
        config = run.config
        command = commands_here(run)[name]
        progress.info("%s: %s", name, " ".join(command.argv()))
        watch = _watch(config) if name == "train" else None
        on_gpus = run.runner.gpus and has_gpus(config) and name not in WITHOUT_MODEL
        with run.turn() if on_gpus else nullcontext():
            outcome = run.runner.run(
                command, run.project, config, limit_seconds=run.limit_seconds, watch=watch
            )
        failure = _failure(name, outcome, config)
        if failure is None:
            return outcome
        _recover(run, name, failure, outcome)
        if name != "prepare":
            done_once(run, "prepare")  # a person may have mended what the data are made from


def _watch(config: Mapping[str, Any]) -> Watch:
    method, tenths, judged = str(config.get("training_method") or "sft"), 0, 0

    def look(text: str) -> str | None:
        nonlocal tenths, judged
        history, share = _course(text, config)
        if len(history) == judged:
            return None  # a progress bar writes far more often than the training
        judged = len(history)
        done = int(10 * share_done(history, config))
        if done > tenths:
            tenths = done
            progress.info("train: %d %% done, loss %s", 10 * done, step_entries(history)[-1]["loss"])
        found = watch_training(history, method=method, share=share)
        return found[1] if found else None

    return look


def _course(log: str, config: Mapping[str, Any]) -> tuple[list[dict[str, Any]], float]:
    """What a training logged, and the share of the whole that it can be judged by.

    The log of one that went on from a checkpoint has only the flat end of the curve: that is no share.
    """
    history = history_of_log(log, int(config.get("logging_steps") or 1))
    return history, 0.0 if RESUMED in log else share_done(history, config)


def _failure(name: Name, outcome: Outcome, config: Mapping[str, Any]) -> tuple[Kind, str] | None:
    if outcome.stopped in {"its time was over", "the run was ended"}:
        raise StageFailed(f"{name} was ended: {outcome.stopped}; see {outcome.log}")
    text = outcome.text()
    if (outcome.status == 0 and name != "train") or (name == "smoke" and "SMOKE FAILED" in text):
        return None  # a smoke test that ran is judged by its figures
    history, share = _course(text, config) if name == "train" else ([], 0.0)
    method = str(config.get("training_method") or "sft")
    return failure_of(outcome.status, text[-TAIL:], history, method=method, share=share)


def _recover(run: Run, name: Name, failure: tuple[Kind, str], outcome: Outcome) -> None:
    kind, message = failure
    remedy = remedy_for(kind, message, run.config, log=outcome.text()[-TAIL:], command=name)
    if remedy.changes and struck_out(attempts_in(run.project), name, message):
        remedy = Remedy(changes={}, why=f"the same error three times in a row; not tried: {remedy.why}")
    remember(run.project, name, kind, message, remedy)
    attempts, why = attempts_in(run.project), remedy.why
    bug = Bug(symptom=message[:300], root_cause=kind, fix=why)
    run.progress.say(MILESTONES.get(name, "train"), f"{name} failed: {kind}", sign="⚠️", bug=bug)
    if remedy.needs_a_person:
        logger.warning("%s: %s; a person is asked", name, why)
        question = Question(
            key=f"{name}-failed-{len(attempts)}",
            title=f"{name} failed",
            text=f"{escaped(why)}.\n\n{told(attempts[-5:])}\n\nThe log is `{outcome.log}`. {MEND}",
        )
        try:
            run.approved(question, once=False)
        except DeftError as error:
            answer = str(error).removeprefix(f"{question.title}: ")
            raise StageFailed(f"{name} failed: {why}; {answer}; see {outcome.log}") from error
        return
    logger.warning("%s: %s", name, why)
    change_config(run.project / "config.yaml", remedy.changes)


def wandb_url(project: Path) -> str | None:
    """The address of the training at Weights & Biases, as its log says; None where it was not online."""
    found = re.findall(r"https://wandb\.ai/\S+/runs/\w+", log_text(project / "logs" / "train.log"))
    return str(found[-1]) if found else None
