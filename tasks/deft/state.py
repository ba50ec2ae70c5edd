"""The state of a DEFT run: `deft_state.json` and `loop_log.jsonl` (spec deft-loop 2.1 to 2.3).

The files are the truth; `tasks/deft/commits.py` alone changes them.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.artifacts import read_json, write_json, write_text
from tasks.deft.stages import FIRST, STAGES, Step, step_after
from tasks.errors import InputError
from tasks.spec import digest, explained

logger = logging.getLogger("deft")

STATE_FILE = "deft_state.json"
LOG_FILE = "loop_log.jsonl"


class Event(BaseModel):
    """One commit, as it stands in the state and as a line of the log.

    Attributes:
        fields_sha256: digest of the fields that the stage set.
        evidence_sha256: content of the files that the stage left, by field.
    """

    seq: int
    ts: str
    iter: str
    stage: str
    status: Literal["ok", "error"]
    summary: str
    duration_sec: int
    skip_reason: str | None = None
    fields_sha256: str = ""
    evidence_sha256: dict[str, str] = {}

    @property
    def step(self) -> Step:
        """The step that was committed."""
        return Step(label=self.iter, stage=self.stage)


class Phase(BaseModel):
    """What one training phase (the baseline or an iteration) has reached; its fields accumulate."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["in_progress", "complete", "failed"] = "in_progress"
    stage_completed: str | None = None
    best_ckpt_path: Path | None = None
    best_ckpt_kind: Literal["best_val", "latest"] | None = None
    best_val_ckpt_path: Path | None = None
    latest_ckpt_path: Path | None = None
    training_spec: Path | None = None
    training_rows: int | None = None
    val_loss: float | None = None
    val_loss_best_val: float | None = None
    val_loss_latest: float | None = None
    metric_result: dict[str, Any] | None = None
    metric_result_file: Path | None = None
    passed: bool | None = None
    threshold: float | None = None
    inference_csv: Path | None = None
    rca_gaps_parquet: Path | None = None
    rca_metrics: Path | None = None
    rca_threshold: float | None = None
    rca_target_defects: list[str] | None = None
    rca_report: Path | None = None
    routing_mining_parquet: Path | None = None
    routing_anomalygen_parquet: Path | None = None
    routing_summary: Path | None = None
    routed_to_mining: int | None = None
    routed_to_generation: int | None = None
    routing_report: Path | None = None
    anomalygen_sdg_csv: Path | None = None
    anomalygen_allocation_json: Path | None = None
    anomalygen_amp_requested: int | None = None
    anomalygen_amp_allocated: int | None = None
    anomalygen_skipped: bool | None = None
    ingest_summary: Path | None = None
    sdg_rows_csv: Path | None = None
    sdg_count: int | None = None
    data_mining_skipped: bool | None = None
    mined_parquet: Path | None = None
    mined_candidates_parquet: Path | None = None
    knn_summary: Path | None = None
    mining_history_file: Path | None = None
    mining_history_summary: Path | None = None
    source_embeddings: Path | None = None
    target_embeddings: Path | None = None
    source_log: Path | None = None
    target_log: Path | None = None
    neighbours_log: Path | None = None
    mined_raw_count: int | None = None
    mined_candidate_count: int | None = None
    mined_count: int | None = None
    mining_warnings: list[str] | None = None
    mining_report: Path | None = None
    new_rows_csv: Path | None = None
    combined_training_csv: Path | None = None
    provenance_csv: Path | None = None
    merge_validation_report: Path | None = None
    source: str | None = None

    def fields_of(self, stage: str) -> dict[str, Any]:
        """The fields that a stage has set, as plain values.

        Without those that are not set, so that a field which a later version adds changes no digest.
        """
        return self.model_dump(mode="json", include=set(STAGES[stage].fields), exclude_none=True)

    def evidence_of(self, stage: str) -> dict[str, Path]:
        """The files that a stage left, by field; those that are not set are left out."""
        found = {name: getattr(self, name) for name in STAGES[stage].evidence}
        return {name: path for name, path in found.items() if path is not None}


class Restart(BaseModel):
    """A resume that did not trust all that the state said: what was wrong, and where it went on."""

    ts: str
    findings: list[str]
    went_on_with: str


class DeftState(BaseModel):
    """The content of `deft_state.json`."""

    version: str = "4+"
    started_at: str
    completed_at: str | None = None
    registered_at: str | None = None
    status: Literal["in_progress", "complete", "failed"] = "in_progress"
    kpi_target: str
    metric_contract: dict[str, Any]
    results_dir: Path
    max_iterations: int = Field(ge=1)
    current_iteration: int = Field(0, ge=0)
    execution_policy: dict[str, Any]
    config: dict[str, Any]
    iterations: dict[str, Phase] = {}
    events: list[Event] = []
    restarts: list[Restart] = []
    final_artifacts: dict[str, str] | None = None
    content_sha256: str = ""

    def phase(self, label: str) -> Phase:
        """The phase of that label, empty when nothing is committed yet."""
        return self.iterations.get(label, Phase())

    def measured(self) -> dict[str, Phase]:
        """The phases that have been evaluated, oldest first."""
        return {label: phase for label, phase in self.iterations.items() if phase.metric_result}

    def done(self) -> list[Event]:
        """The commits of steps that were done."""
        return [event for event in self.events if event.status == "ok"]

    def next_step(self) -> Step | None:
        """The one step that may be committed next; none once the loop has stopped."""
        done = self.done()
        if not done:
            return FIRST
        last = done[-1].step
        return step_after(last, bool(self.phase(last.label).passed), self.max_iterations)

    def fingerprint(self) -> str:
        """Digest of everything but the stored digest itself; another one means a change by hand."""
        return digest(json.loads(self.model_dump_json(exclude={"content_sha256"})))


def create_state(folder: Path, state: DeftState) -> DeftState:
    """Write the first state into `folder`; raises `InputError` where there is one already."""
    if (folder / STATE_FILE).exists():
        raise InputError(f"{folder / STATE_FILE} exists; a new run needs a new folder")
    return write_state(folder, state)


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
    if state.content_sha256 != state.fingerprint():
        logger.warning("%s was changed by hand after its last commit", file)
    _mend_log(folder, state)
    return state


def write_state(folder: Path, state: DeftState) -> DeftState:
    """Write the state with the digest of its content."""
    state.content_sha256 = state.fingerprint()
    write_json(folder / STATE_FILE, state.model_dump(mode="json"))
    return state


def append_to_log(folder: Path, event: Event) -> None:
    """Add an event to the log; the state has it already."""
    with (folder / LOG_FILE).open("a", encoding="utf-8") as log:
        log.write(_line(event))


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
