"""The state of a DEFT run: `deft_state.json` and `loop_log.jsonl` (spec deft-loop 2.1 to 2.3).

The files are the truth. Every change is one commit: read again, check that the step is the next one
and that its evidence exists, write, flush, rename, append to the log. A refused commit changes nothing.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.artifacts import read_json, write_json, write_text
from tasks.errors import DeftError, InputError
from tasks.spec import digest, explained

logger = logging.getLogger("deft")

STATE_FILE = "deft_state.json"
LOG_FILE = "loop_log.jsonl"
BASELINE = "baseline"

BASELINE_STAGES = ("train", "evaluate", "rca")
ITERATION_STAGES = ("routing", "anomalygen", "data_mining", "data_merge", *BASELINE_STAGES)
LOOP_STOP = "loop_stop"

EVIDENCE: dict[str, tuple[str, ...]] = {
    "train": ("best_ckpt_path", "latest_ckpt_path", "training_spec"),
    "evaluate": ("best_ckpt_path", "inference_csv", "metric_result_file"),
    "rca": ("rca_gaps_parquet", "rca_metrics"),
    "routing": ("routing_mining_parquet", "routing_anomalygen_parquet"),
    "anomalygen": ("anomalygen_sdg_csv",),
    "data_mining": ("mined_parquet", "mined_rows_csv"),
    "data_merge": ("combined_training_csv", "provenance_csv", "merge_validation_report"),
    LOOP_STOP: (),
}
"""The files that must exist before a stage counts as done; a skipped stage needs none."""


class Event(BaseModel):
    """One commit, as it stands in the state and as a line of the log."""

    seq: int
    ts: str
    iter: str
    stage: str
    status: Literal["ok", "error"]
    summary: str
    duration_sec: int
    skip_reason: str | None = None


class Phase(BaseModel):
    """What one training phase (the baseline or an iteration) has reached; its fields accumulate."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["in_progress", "complete", "failed"] = "in_progress"
    stage_completed: str | None = None
    best_ckpt_path: Path | None = None
    best_ckpt_kind: Literal["best_val", "latest"] | None = None
    latest_ckpt_path: Path | None = None
    training_spec: Path | None = None
    training_rows: int | None = None
    val_loss: float | None = None
    metric_result: dict[str, Any] | None = None
    metric_result_file: Path | None = None
    passed: bool | None = None
    threshold: float | None = None
    inference_csv: Path | None = None
    rca_gaps_parquet: Path | None = None
    rca_metrics: Path | None = None
    rca_threshold: float | None = None
    rca_target_defects: list[str] | None = None
    routing_mining_parquet: Path | None = None
    routing_anomalygen_parquet: Path | None = None
    anomalygen_sdg_csv: Path | None = None
    anomalygen_skipped: bool | None = None
    data_mining_skipped: bool | None = None
    mined_parquet: Path | None = None
    mined_rows_csv: Path | None = None
    mined_raw_count: int | None = None
    mined_candidate_count: int | None = None
    mined_count: int | None = None
    combined_training_csv: Path | None = None
    provenance_csv: Path | None = None
    merge_validation_report: Path | None = None
    source: str | None = None


class Step(BaseModel):
    """The next thing to do: a stage of the baseline or of an iteration."""

    model_config = ConfigDict(frozen=True)

    label: str
    stage: str

    @property
    def iteration(self) -> int:
        """0 for the baseline, else the number of the iteration."""
        return 0 if self.label == BASELINE else int(self.label.removeprefix("iter"))


class DeftState(BaseModel):
    """The content of `deft_state.json`."""

    version: str = "4+"
    started_at: str
    completed_at: str | None = None
    status: Literal["in_progress", "complete", "failed"] = "in_progress"
    kpi_target: str
    metric_contract: dict[str, Any]
    results_dir: Path
    max_iterations: int = Field(ge=1)
    current_iteration: int = 0
    execution_policy: dict[str, Any]
    config: dict[str, Any]
    iterations: dict[str, Phase] = {}
    events: list[Event] = []
    final_artifacts: dict[str, str] | None = None
    content_sha256: str = ""

    def phase(self, label: str) -> Phase:
        """The phase of that label, empty when nothing is committed yet."""
        return self.iterations.get(label, Phase())

    def measured(self) -> dict[str, Phase]:
        """The phases that have been evaluated, oldest first."""
        return {label: phase for label, phase in self.iterations.items() if phase.metric_result}

    def next_step(self) -> Step | None:
        """The one step that may be committed next; none once the loop has stopped."""
        done = [event for event in self.events if event.status == "ok"]
        if not done:
            return Step(label=BASELINE, stage=BASELINE_STAGES[0])
        last = Step(label=done[-1].iter, stage=done[-1].stage)
        if last.stage == LOOP_STOP:
            return None
        if last.stage == "evaluate":
            at_end = bool(self.phase(last.label).passed) or last.iteration >= self.max_iterations
            return Step(label=last.label, stage=LOOP_STOP if at_end else "rca")
        if last.stage == "rca":
            return Step(label=f"iter{last.iteration + 1}", stage=ITERATION_STAGES[0])
        order = BASELINE_STAGES if last.label == BASELINE else ITERATION_STAGES
        return Step(label=last.label, stage=order[order.index(last.stage) + 1])


def create_state(
    folder: Path,
    *,
    kpi_target: str,
    metric_contract: dict[str, Any],
    max_iterations: int,
    config: dict[str, Any],
    offline: bool,
) -> DeftState:
    """Write the first state into `folder`; raises `InputError` where there is one already."""
    if (folder / STATE_FILE).exists():
        raise InputError(f"{folder / STATE_FILE} exists; a new run needs a new folder")
    state = DeftState(
        started_at=now(),
        kpi_target=kpi_target,
        metric_contract=metric_contract,
        results_dir=folder,
        max_iterations=max_iterations,
        execution_policy={
            "network_mode": "airgap" if offline else "network-enabled",
            "python_executable": sys.executable,
            "hf_offline": offline,
        },
        config=config,
    )
    return _written(folder, state)


def load_state(folder: Path) -> DeftState:
    """The state in `folder`, its log brought up to date where a crash left it one line short.

    Raises:
        InputError: there is no state, or it is not valid.
    """
    file = folder / STATE_FILE
    try:
        state = DeftState.model_validate(read_json(file))
    except ValidationError as error:
        raise InputError(f"{file}: {explained(error)}; restore it or start a new run") from error
    if state.content_sha256 != _fingerprint(state):
        logger.warning("%s was changed by hand after its last commit; its content is used as it is", file)
    _mend_log(folder, state)
    return state


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
        DeftError: it is not the next step, or a file of its evidence does not exist; nothing is written.
    """
    state = load_state(folder)
    if step != state.next_step():
        raise DeftError(f"{step.label}/{step.stage} cannot be committed: next is {state.next_step()}")
    phase = Phase.model_validate({**state.phase(step.label).model_dump(), **fields})
    if skip_reason is None:
        _check_evidence(step, phase)
    phase.stage_completed = step.stage
    if step.stage == "evaluate":
        phase.status = "complete"
    state.iterations[step.label] = phase
    state.current_iteration = step.iteration
    state.status = "in_progress"
    if step.stage == LOOP_STOP:
        state.status, state.completed_at, state.final_artifacts = "complete", now(), final_artifacts
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


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _check_evidence(step: Step, phase: Phase) -> None:
    for name in EVIDENCE[step.stage]:
        path = getattr(phase, name)
        if path is None or not Path(path).is_file():
            raise DeftError(f"{step.label}/{step.stage} has no {name} ({path}); the stage must be run again")


def _with_event(
    folder: Path,
    state: DeftState,
    step: Step,
    status: Literal["ok", "error"],
    summary: str,
    duration: int,
    skip_reason: str | None,
) -> DeftState:
    event = Event(
        seq=len(state.events) + 1,
        ts=now(),
        iter=step.label,
        stage=step.stage,
        status=status,
        summary=summary,
        duration_sec=duration,
        skip_reason=skip_reason,
    )
    state.events.append(event)
    written = _written(folder, state)
    with (folder / LOG_FILE).open("a", encoding="utf-8") as log:
        log.write(_line(event))
    return written


def _written(folder: Path, state: DeftState) -> DeftState:
    state.content_sha256 = _fingerprint(state)
    write_json(folder / STATE_FILE, state.model_dump(mode="json"))
    return state


def _fingerprint(state: DeftState) -> str:
    return digest(json.loads(state.model_dump_json(exclude={"content_sha256"})))


def _line(event: Event) -> str:
    return event.model_dump_json() + "\n"


def _mend_log(folder: Path, state: DeftState) -> None:
    log = folder / LOG_FILE
    expected = "".join(map(_line, state.events))
    found = log.read_text(encoding="utf-8") if log.is_file() else ""
    if found == expected:
        return
    if found != "".join(map(_line, state.events[:-1])):
        logger.warning("%s did not agree with the state; rebuilt, the old one is kept as .bak", log)
        write_text(log.with_suffix(".jsonl.bak"), found)
    write_text(log, expected)
