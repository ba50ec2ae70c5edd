"""Commits: the only way in which the state of a run changes (spec deft-loop 2.2, 2.3).

A commit reads the state again, checks that the step is the next one, that its evidence says what the
stage claims and that a skip is legal; then it writes, flushes, renames and appends to the log. A
refused commit changes nothing. Whoever commits holds the lock of the run (see `tasks/deft/run.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tasks.artifacts import now, sha256_of
from tasks.deft.evidence import check_evidence, check_skip
from tasks.deft.stages import FINAL, FIRST, GROWS, LOOP_STOP, STAGES, Step
from tasks.deft.state import DeftState, Event, Phase, append_to_log, load_state, write_state
from tasks.errors import DeftError
from tasks.spec import digest


def commit(
    folder: Path,
    step: Step,
    summary: str,
    seconds: float,
    *,
    skip_reason: str | None = None,
    final_artifacts: dict[str, str] | None = None,
    **fields: Any,
) -> DeftState:
    """Record that `step` is done: its fields go into the phase, an event is appended.

    Raises:
        DeftError: it is not the next step, a field is not its own, its evidence is absent or contradicts
            it, or it may not be skipped; nothing is written.
    """
    state = load_state(folder)
    if step != state.next_step():
        raise DeftError(f"{step} cannot be committed: next is {state.next_step() or 'nothing'}")
    phase = _with_fields(state.phase(step.label), step, fields)
    state.final_artifacts = final_artifacts
    if skip_reason is None:
        check_evidence(state, step, phase)
    else:
        check_skip(state, step, phase)
    phase.stage_completed = step.stage
    if step.stage == "train":
        phase.best_ckpt_path = phase.best_val_ckpt_path
    phase.status = "in_progress" if phase.metric_result is None else "complete"
    state.iterations[step.label] = phase
    state.current_iteration = step.iteration
    state.status = "in_progress"
    if step.stage == LOOP_STOP:
        state.status, state.completed_at = "complete", now()
    duration = 0 if skip_reason else max(1, round(seconds))
    return _with_event(folder, state, step, "ok", summary, duration, skip_reason)


def commit_error(folder: Path, step: Step, message: str, seconds: float) -> DeftState:
    """Record that `step` failed; the same step stays the next one, so that it may be tried again."""
    state = load_state(folder)
    phase = state.phase(step.label)
    phase.status = "failed"
    state.iterations[step.label] = phase
    state.status = "failed"
    return _with_event(folder, state, step, "error", message, max(1, round(seconds)), None)


def preseed_baseline(folder: Path, source: str, summary: str, **fields: Any) -> DeftState:
    """Record a baseline that was trained elsewhere: an event of duration 0 (spec pipeline 5, step 3).

    Raises:
        DeftError: the run has begun, or the checkpoint is not in the baseline's train folder.
    """
    return commit(folder, FIRST, summary, 0, skip_reason=source, source=source, **fields)


def register_final(folder: Path, summary: str, seconds: float, **fields: Any) -> DeftState:
    """Add the model of the tuning after the loop as the phase `final_automl` (spec pipeline 7).

    The run stays complete as of when it stopped; `registered_at` says when this was added.

    Raises:
        DeftError: the loop has not stopped or has such a phase already, or evidence is absent.
    """
    state, step = load_state(folder), Step(label=FINAL, stage=FINAL)
    if state.status != "complete" or FINAL in state.iterations:
        raise DeftError(f"{step} cannot be committed: {folder} is {state.status}, {list(state.iterations)}")
    phase = _with_fields(Phase(status="complete", stage_completed="evaluate"), step, fields)
    check_evidence(state, step, phase)
    state.iterations[FINAL] = phase
    state.registered_at = now()
    return _with_event(folder, state, step, "ok", summary, max(1, round(seconds)), None)


def _with_fields(phase: Phase, step: Step, fields: dict[str, Any]) -> Phase:
    foreign = sorted(set(fields) - set(STAGES[step.stage].fields))
    if foreign:
        raise DeftError(f"{step} cannot set {', '.join(foreign)}: that belongs to another stage")
    return Phase.model_validate({**phase.model_dump(), **fields})


def _with_event(
    folder: Path,
    state: DeftState,
    step: Step,
    status: Literal["ok", "error"],
    summary: str,
    duration: int,
    skip_reason: str | None,
) -> DeftState:
    phase = state.phase(step.label)
    evidence = phase.evidence_of(step.stage) if status == "ok" else {}
    event = Event(
        seq=len(state.events) + 1,
        ts=now(),
        iter=step.label,
        stage=step.stage,
        status=status,
        summary=summary,
        duration_sec=duration,
        skip_reason=skip_reason,
        fields_sha256=digest(phase.fields_of(step.stage)) if status == "ok" else "",
        evidence_sha256={name: sha256_of(path) for name, path in evidence.items() if name not in GROWS},
    )
    state.events.append(event)
    written = write_state(folder, state)
    append_to_log(folder, event)
    return written
