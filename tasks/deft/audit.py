"""The audit of a run that is taken up again (spec deft-loop 2.4).

What the state says is held against the files. Where they part, the run goes back to the last stage whose
evidence is valid: later commits are struck, later phases are put aside, and what was found stays in the
state. Nothing is removed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from tasks.artifacts import now, sha256_of, write_text
from tasks.deft.evidence import FINAL_ARTIFACTS, problems
from tasks.deft.stages import BASELINE, FINAL, FIRST, LOOP_STOP, Step, step_after
from tasks.deft.state import STATE_FILE, DeftState, Event, Phase, Restart, load_state, write_state
from tasks.mining.ledger import forget_after
from tasks.spec import digest

logger = logging.getLogger("deft.flow")

LEDGER = "mining_history.json"


@dataclass(frozen=True)
class Finding:
    """What is wrong, and the position of the first event that is not to be trusted; None: all are."""

    text: str
    event: int | None = None


def audit(state: DeftState) -> list[Finding]:
    """Everything in which the state contradicts itself or the files."""
    findings = list(_of_the_whole(state))
    expected: Step | None = FIRST
    for position, event in enumerate(state.events):
        texts = list(_of_event(state, event, position, expected))
        findings += [Finding(f"event {event.seq} ({event.step}): {text}", position) for text in texts]
        if event.status == "error":
            continue
        if event.step != expected and not _registers(event, expected):
            break
        passed = bool(state.phase(event.iter).passed)
        expected = step_after(event.step, passed, state.max_iterations)
    return findings


def _registers(event: Event, expected: Step | None) -> bool:
    return event.stage == FINAL and expected is None


def _of_the_whole(state: DeftState) -> Iterator[Finding]:
    if state.content_sha256 != state.fingerprint():
        yield Finding(f"{STATE_FILE} was changed by hand after its last commit")
    if state.current_iteration != _iteration(state):
        yield Finding(
            f"current_iteration is {state.current_iteration}, the last commit is of {_iteration(state)}"
        )
    if state.status != _status(state):
        yield Finding(f"status is {state.status}, by the last event it is {_status(state)}")
    if state.status == "complete":
        yield from _of_completion(state)


def _iteration(state: DeftState) -> int:
    """The iteration of the last commit."""
    return max((event.step.iteration for event in state.done() if event.stage != FINAL), default=0)


def _status(state: DeftState) -> Literal["in_progress", "complete", "failed"]:
    """The status that the last event stands for."""
    if not state.events:
        return "in_progress"
    last = state.events[-1]
    if last.status == "error":
        return "failed"
    return "complete" if last.stage in (LOOP_STOP, FINAL) else "in_progress"


def _of_completion(state: DeftState) -> Iterator[Finding]:
    stop = next((n for n, event in enumerate(state.events) if event.stage == LOOP_STOP), None)
    for label in {BASELINE, *(event.iter for event in state.done())}:
        if state.phase(label).status != "complete":
            yield Finding(f"the run says complete, {label} is {state.phase(label).status}", stop)
    for name in FINAL_ARTIFACTS:
        path = (state.final_artifacts or {}).get(name)
        if path is None or not Path(path).is_file():
            yield Finding(f"the run says complete, its {name} is gone ({path})", stop)


def _of_event(state: DeftState, event: Event, position: int, expected: Step | None) -> Iterator[str]:
    if event.seq != position + 1:
        yield f"its number should be {position + 1}"
    if event.step != expected and not _registers(event, expected):
        yield f"it cannot follow, next would be {expected or 'nothing'}"
        return
    if event.status == "error":
        return
    phase = state.phase(event.iter)
    if digest(phase.fields_of(event.stage)) != event.fields_sha256:
        yield "its fields in the state are not what was committed"
    wrong = list(problems(state, event.step, phase, skipped=event.skip_reason is not None))
    yield from wrong
    if wrong:
        return
    files = phase.evidence_of(event.stage)
    for name, sha256 in event.evidence_sha256.items():
        if name in files and sha256_of(files[name]) != sha256:
            yield f"{name} {files[name]} was changed after its commit"


def audited(folder: Path) -> DeftState:
    """The state of a run, taken back to the last stage that can be trusted.

    Raises:
        InputError: state or mining ledger are corrupt.
    """
    state = load_state(folder)
    findings = audit(state)
    if not findings:
        return state
    for finding in findings:
        logger.warning("audit: %s", finding.text)
    first = min((finding.event for finding in findings if finding.event is not None), default=None)
    clock = datetime.now().strftime("%Y%m%d_%H%M%S")
    write_text(folder / f"{STATE_FILE}.stale_{clock}", (folder / STATE_FILE).read_text(encoding="utf-8"))
    if first is not None:
        _go_back(state, first, clock)
    state.current_iteration, state.status = _iteration(state), _status(state)
    restart = Restart(
        ts=now(),
        findings=[finding.text for finding in findings],
        went_on_with=str(state.next_step() or "nothing"),
    )
    state.restarts.append(restart)
    logger.warning("audit: %d findings; the run goes on with %s", len(findings), restart.went_on_with)
    return write_state(folder, state)


def _go_back(state: DeftState, first: int, clock: str) -> None:
    """Strike the commits from `first` on; put phases aside that have none left."""
    kept = state.events[:first]
    stages: dict[str, list[Event]] = {}
    for event in kept:
        if event.status == "ok":
            stages.setdefault(event.iter, []).append(event)
    for label in list(state.iterations):
        if label in stages:
            state.iterations[label] = _phase_of(state.phase(label), stages[label])
            continue
        del state.iterations[label]
        place = state.results_dir / label
        if place.exists():
            place.rename(place.with_name(f"{label}.stale_{clock}"))
    rounds = sum(event.stage == "data_mining" and not event.skip_reason for event in kept)
    forget_after(state.results_dir / LEDGER, rounds)
    state.events, state.completed_at, state.final_artifacts = kept, None, None
    if all(event.stage != FINAL for event in kept):
        state.registered_at = None


def _phase_of(phase: Phase, kept: list[Event]) -> Phase:
    fields = {name: value for event in kept for name, value in phase.fields_of(event.stage).items()}
    fields.setdefault("best_ckpt_path", fields.get("best_val_ckpt_path"))
    status = "complete" if fields.get("metric_result") else "in_progress"
    return Phase.model_validate({**fields, "status": status, "stage_completed": kept[-1].stage})
