"""The gate after each of the six steps: what has to hold before the next one may start, and its record."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from tasks.artifacts import now, read_json, write_json
from tasks.errors import DeftError, StageFailed, listed
from tasks.huggingface import preflight
from tasks.huggingface.commands import commands_of
from tasks.huggingface.push import missing_in, read_pushed
from tasks.huggingface.recipe import check_recipe, read_recipe
from tasks.huggingface.research import SLOTS
from tasks.huggingface.results import (
    DONE,
    HARDWARE,
    IMAGE,
    RECIPE,
    failed_tests,
    lacking,
    read_config,
)
from tasks.huggingface.smoke import Verdict, descends, read_history
from tasks.reports.markdown import table

logger = logging.getLogger("deft")

Step = Literal[1, 2, 3, 4, 5, 6]
RECORD = Path("meta") / "gates.json"
SMOKE = Path("meta") / "smoke.json"
NOTICE_LINE = "# Copyright (c) 2026"
PROGRAMS = ("prepare_data.py", "train.py", "run_eval.py", "infer.py")
FILES = ("config.yaml", "Dockerfile", "requirements.txt", ".gitignore", *PROGRAMS)
TITLES: dict[Step, str] = {
    1: "qualify",
    2: "audit and image",
    3: "recipe",
    4: "project and smoke",
    5: "train, evaluate, infer",
    6: "push and re-run recipe",
}


class Gate(BaseModel):
    """How one gate was passed, or not."""

    model_config = ConfigDict(frozen=True)

    step: Step
    title: str
    passed: bool
    findings: list[str]
    at: str


def check_gate(step: Step, project: Path) -> Gate:
    """Check one gate on the files of the project and add it to `meta/gates.json`.

    Raises:
        StageFailed: it does not hold; the message lists what is missing.
    """
    gate = _looked_at(step, project)
    known = {one.step: one for one in gates_in(project)} | {step: gate}
    write_json(project / RECORD, [known[number].model_dump() for number in sorted(known)])
    if not gate.passed:
        raise StageFailed(f"gate {step} ({gate.title}) does not hold: {listed(gate.findings)}")
    logger.info("gate %d (%s) holds", step, gate.title)
    return gate


def holds(step: Step, project: Path) -> bool:
    """Whether a gate was passed before and still holds: its step need not be done again."""
    recorded = {one.step: one for one in gates_in(project)}
    return step in recorded and recorded[step].passed and _looked_at(step, project).passed


def reopen(step: Step, project: Path) -> None:
    """Forget this gate and those after it: their steps are done again.

    Steps 1 to 3 decide what config.yaml says, so with one of them every command and the project's files are
    forgotten, too.
    """
    known = gates_in(project)
    if any(gate.step >= step and gate.passed for gate in known):
        logger.warning("step %d (%s) and those after it are done again", step, TITLES[step])
    write_json(project / RECORD, [gate.model_dump() for gate in known if gate.step < step])
    if step < 4:
        (project / DONE).unlink(missing_ok=True)


def gates_in(project: Path) -> list[Gate]:
    """The recorded gates of a project, in the order of the steps."""
    file = project / RECORD
    return [Gate.model_validate(one) for one in read_json(file)] if file.is_file() else []


def gate_table(gates: list[Gate]) -> str:
    """The gates as a Markdown table."""
    rows = [(gate.step, gate.title, gate.passed, "; ".join(gate.findings) or None, gate.at) for gate in gates]
    return table(["Step", "What", "Holds", "Missing", "Time"], rows)


def _looked_at(step: Step, project: Path) -> Gate:
    try:
        findings = CHECKS[step](project, read_config(project))
    except DeftError as error:
        findings = [str(error)]
    return Gate(
        step=step,
        title=TITLES[step],
        passed=not findings,
        findings=findings,
        at=now(),
    )


def _qualified(_project: Path, config: Mapping[str, Any]) -> list[str]:
    findings = [f"config.yaml: {name} is missing" for name in ("model_id", "task") if not config.get(name)]
    if bool(config.get("dataset_id")) == bool(config.get("local_dataset_path")):
        findings.append("config.yaml: one of dataset_id and local_dataset_path has to be set")
    if not isinstance(config.get("applicable_workarounds"), list):
        findings.append("config.yaml: applicable_workarounds is missing; it may be an empty list")
    return findings


def _audited(project: Path, config: Mapping[str, Any]) -> list[str]:
    names = ("ngc_image", "gpu_count", "gpu_name", "driver_major", "vram_gb_per_gpu")
    findings = [f"config.yaml: {name} is missing" for name in names if config.get(name) in (None, "")]
    file = project / HARDWARE
    if not file.is_file() or not read_json(file).get("hw_rules_walked"):
        findings.append("meta/hardware.json: the rules that look at the hardware were not walked")
    return findings


def _researched(project: Path, _config: Mapping[str, Any]) -> list[str]:
    file = project / RECIPE
    recipe = read_json(file)
    slots = recipe.get("slots", recipe) if isinstance(recipe, dict) else {}
    findings = []
    for name in SLOTS:
        slot = slots.get(name)
        if not isinstance(slot, Mapping) or "value" not in slot:
            findings.append(f"{file.name}: slot {name} is not filled")
        elif not slot.get("source_url") and not slot.get("fallback"):
            findings.append(f"{file.name}: slot {name} has neither a source nor a fallback note")
    return findings


def _smoked(project: Path, config: Mapping[str, Any]) -> list[str]:
    findings = [f"{name} is missing" for name in FILES if not (project / name).is_file()]
    if config.get("use_lora") and not (project / "merge_lora.py").is_file():
        findings.append("merge_lora.py is missing")
    for file in sorted([*project.glob("*.py"), *project.glob("tests/*.py")]):
        head = file.read_text(encoding="utf-8").splitlines()[:3]
        if not any(line.startswith(NOTICE_LINE) for line in head):
            findings.append(f"{file.name} does not begin with the licence notice")
    if not (project / IMAGE).is_file():
        findings.append("the image was not built")
    if not (project / SMOKE).is_file():
        findings.append("the smoke test was not run")
    else:
        verdict = Verdict.model_validate(read_json(project / SMOKE))
        findings += [] if verdict.passed else [f"the smoke test {verdict.line()}"]
    if config.get("emit_unit_tests"):
        findings += failed_tests(project)
    fields = preflight.read_preflight(project)
    return findings + [f"preflight: {name} is blank" for name in preflight.blanks(fields)]


def _trained(project: Path, config: Mapping[str, Any]) -> list[str]:
    names = [name for name in commands_of(config) if name not in {"prepare", "smoke", "tests"}]
    findings = [finding for name in names for finding in lacking(name, project, config)]
    flat = descends(read_history(project / "checkpoints")) is False
    if flat and config.get("training_method") != "grpo":  # trained again unasked it would be the same
        findings.append(
            "the loss does not descend: mend config.yaml, remove checkpoints/final, then start it again"
        )
    return findings


def _delivered(project: Path, config: Mapping[str, Any]) -> list[str]:
    findings = _trained(project, config)
    if config.get("push_to_hub") is not False:
        pushed = read_pushed(project)
        if pushed.repo_id != config.get("hf_model_repo"):
            findings.append(f"pushed to {pushed.repo_id}, not to {config.get('hf_model_repo')}")
        findings += [f"{pushed.url} lacks {name}" for name in missing_in(pushed.files, project, config)]
    return findings + [
        f"recipe: {one}" for one in check_recipe(read_recipe(project, config), project, config)
    ]


CHECKS: dict[Step, Callable[[Path, Mapping[str, Any]], list[str]]] = {
    1: _qualified,
    2: _audited,
    3: _researched,
    4: _smoked,
    5: _trained,
    6: _delivered,
}
