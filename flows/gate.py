"""The one gate of a pipeline: look at everything, have it approved, and only then write the first file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from blocks.runtime import Runtime
from flows.approval import decide
from flows.approved import own_parameters
from flows.automl import metric_of, space_of
from flows.profiles import Profile
from tasks.artifacts import existing_file
from tasks.automl.settings import SweepSettings
from tasks.automl.space import Space
from tasks.errors import DeftError
from tasks.pipeline.handover import keep_base_spec
from tasks.pipeline.record import PipelineRecord, PipelineRun, begun, taken_up, unfinished
from tasks.pipeline.settings import PipelineSettings
from tasks.preflight.execution import summarise
from tasks.preflight.render import render, write
from tasks.preflight.sets import content_digest
from tasks.preflight.subject import LoopPhase, SpaceRow, Subject, SweepPhase
from tasks.preflight.summary import Summary, ready
from tasks.run_folder import held, new_run_folder

logger = logging.getLogger("deft.flow")

LOCK = ".pipeline.lock"
"""Beside the lock of the loop, which works in the same folder."""


def approved_run(
    asked: PipelineSettings,
    kind: Profile,
    runtime: Runtime,
    *,
    yes: bool,
    token: str | None,
    timeout_seconds: int,
    folder: Path | None,
) -> PipelineRun:
    """The unfinished run that was approved with these parameters, or a new one after its approval.

    Raises:
        DeftError: something blocks, a check is missing, it was rejected, or parameters changed since.
    """
    results = kind.root / "results"
    data = contents(asked, kind)
    parameters = asked.model_dump(mode="json")
    known = folder or unfinished(results, parameters, data, token)
    if known and (run := taken_up(known, parameters, data, token)):
        logger.info("going on with %s, approved by %s", run.folder, run.record.approved_by)
        return run
    chosen, shown = asked, 0
    while True:
        shown += 1
        summary = summarise(subject_of(chosen, kind, runtime))
        ready(summary)
        text = render(summary)
        _show(summary, text, quiet=yes or token is not None)
        decision = decide(
            text,
            summary.token,
            given="yes" if yes else "ask",
            given_token=token,
            key=f"preflight-{shown}",
            timeout_seconds=timeout_seconds,
        )
        if decision.approved:
            break
        if not decision.corrections:
            raise DeftError(f"the preflight was rejected: {decision.note or 'no reason given'}")
        chosen = chosen.corrected(decision.corrections)
    place = (folder or new_run_folder(results)).absolute()
    with held(place, LOCK):
        keep_base_spec(place, kind.base_file)
        write(place, summary)
        record = PipelineRecord(
            asked=parameters,
            parameters=chosen.model_dump(mode="json"),
            data_sha256=data,
            token=summary.token,
            approved_by=decision.how,
            note=decision.note,
        )
        return begun(place, record)


def contents(chosen: PipelineSettings, kind: Profile) -> dict[str, str]:
    """The content of the data sets, and of the files that parameters name, by name.

    Raises:
        InputError: a file that a parameter names is not there.
    """
    named = {
        "phase1.search_space": chosen.phase1.search_space,
        "phase3.search_space": chosen.phase3.search_space,
        "baseline_checkpoint": chosen.baseline_checkpoint,
    }
    given = {name: existing_file(path, name) for name, path in named.items() if path}
    return {name: content_digest(path) for name, path in {**kind.data(), **given}.items()}


def look(asked: PipelineSettings, kind: Profile, runtime: Runtime) -> None:
    """Show what there is to approve, and its token; raises `DeftError` where it could not be approved."""
    summary = summarise(subject_of(asked, kind, runtime))
    _show(summary, render(summary), quiet=False)
    ready(summary)


def _show(summary: Summary, text: str, *, quiet: bool) -> None:
    """The summary before a person is asked; else its findings in a line."""
    if not quiet:
        logger.info("%s", text)
        return
    for warning in summary.warnings:
        logger.info("preflight: %s", warning)
    logger.info(
        "preflight: %d checks, %d warnings, token %s",
        len(summary.findings),
        len(summary.warnings),
        summary.token[:12],
    )


def subject_of(chosen: PipelineSettings, kind: Profile, runtime: Runtime) -> Subject:
    """What the preflight looks at."""
    results = kind.root / "results" / "run_<clock>"
    covered = covered_parameters(chosen, kind)
    loop = None
    if chosen.mode != "automl_only":
        loop = LoopPhase(
            settings=covered["loop"],
            baseline=_baseline_of(chosen),
            results_dir=results,
        )
    return Subject(
        workspace=kind.root,
        mode=chosen.mode,
        profile=chosen.profile,
        runtime_name=chosen.runtime,
        starts_images=runtime.starts_images,
        images=_images(kind, chosen, runtime),
        parameters={**chosen.model_dump(mode="json"), **covered, "contents": contents(chosen, kind)},
        phase1=_sweep_phase(chosen, kind, 1, results) if chosen.sweeps_first else None,
        loop=loop,
        phase3=_sweep_phase(chosen, kind, 3, results)
        if chosen.mode == "full" and not chosen.skip_phase3
        else None,
        skipped=chosen.skipped,
        per_job_minutes=chosen.per_job_minutes,
    )


def _images(kind: Profile, chosen: PipelineSettings, runtime: Runtime) -> dict[str, str]:
    """The images that the phases run in, by their keys."""
    if not runtime.starts_images:
        return {}
    try:
        keys = {runtime.image_for(key) for key in kind.images(chosen.loop)}
        return {key: runtime.image_uri(key) for key in sorted(keys)}
    except ValueError as error:
        raise DeftError(str(error)) from error


def covered_parameters(chosen: PipelineSettings, kind: Profile) -> dict[str, Any]:
    """The parameters of each inner flow by the phase's name, as the flow itself will know them."""
    loop = kind.loop_parameters(kind.root, chosen.loop)
    return {
        "phase1": {"sweep": chosen.phase1.model_dump(mode="json"), "metric": chosen.metric},
        "loop": own_parameters(loop),
        "phase3": {"sweep": chosen.phase3.model_dump(mode="json"), "metric": chosen.metric},
    }


def _baseline_of(chosen: PipelineSettings) -> str:
    if chosen.sweeps_first:
        return "winner of phase 1"
    return str(chosen.baseline_checkpoint) if chosen.baseline_checkpoint else "trained by the loop"


def _sweep_phase(chosen: PipelineSettings, kind: Profile, phase: Any, results: Path) -> SweepPhase:
    sweep: SweepSettings = chosen.phase1 if phase == 1 else chosen.phase3
    aim, base = metric_of(kind, chosen.metric), kind.base_spec()
    if phase == 3:
        base = kind.fine_tuned(base)
    first = phase == 1
    return SweepPhase(
        algorithm=sweep.algorithm,
        trials=sweep.trials,
        metric=aim.name,
        direction=aim.direction,
        selection=sweep.selection,
        training_set=str(kind.training_set) if first else "combined CSV of the last iteration",
        validation_set=kind.validation_set,
        results_dir=results / ("automl_phase1" if first else "final_automl"),
        spec_source=str(kind.base_file) if first else "tuned spec, learning rate scaled for a warm start",
        seed=sweep.seed,
        concurrency=sweep.concurrency,
        warm_start=None if first else "best model of the loop, in every trial",
        space=_space_rows(space_of(kind, sweep, base, phase), kind, phase),
        more={"reruns of a suspicious winner": sweep.reruns, "pruning": sweep.prune},
    )


def _space_rows(space: Space, kind: Profile, phase: int) -> tuple[SpaceRow, ...]:
    rows = []
    for one in space.searched:
        name, shown, scale = one.shown()
        if phase == 3 and kind.lr_key in one.places:
            shown = f"{shown} (moves with the winner of phase 1)"
        rows.append(SpaceRow(parameter=name, role="searched", range=shown, scale=scale, reason=one.reason))
    rows += [
        SpaceRow(parameter=key, role="pinned", range=f"= {value}") for key, value in space.pinned.items()
    ]
    for name, reason in space.inert:
        idle = reason.startswith("no effect")
        rows.append(SpaceRow(parameter=name, role="inert" if idle else "left out", reason=reason))
    return tuple(rows)


def go_on_without_gain(text: str, run: PipelineRun) -> None:
    """Ask a person whether to go on although phase 1 gained nothing; raises `DeftError` when not."""
    decision = decide(
        f"# Go on?\n\n{text}\n\nRun folder `{run.folder}`.",
        run.record.token,
        given="ask",
        given_token=None,
        key="no-gain",
        timeout_seconds=24 * 3600,
    )
    if not decision.approved and not decision.corrections:
        raise DeftError(f"{text}; a person stopped the run: {decision.note or 'no reason given'}")
