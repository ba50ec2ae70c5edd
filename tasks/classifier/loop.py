"""A run of the classifier loop: its settings, its state on disk, and what it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.artifacts import existing_file, read_json, sha256_of, sha256_of_all, write_json
from tasks.classifier.metrics import check_contract
from tasks.classifier.rows import read_rows
from tasks.classifier.workspace import BASELINE_SPEC, RowLists, write_row_lists
from tasks.errors import DeftError, InputError, listed
from tasks.evaluation.contract import MetricContract, MetricResult
from tasks.run_folder import held, new_run_folder
from tasks.spec import explained

STATE_FILE = "loop_state.json"
BASELINE = "baseline"

LoopStatus = Literal["metric_met", "max_iterations", "no_new_images"]


class LoopSettings(BaseModel):
    """What a person chooses for a loop; a run goes on only with the settings that it began with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: dict[str, Any]
    max_iterations: int = Field(ge=1)
    num_weak: int = Field(ge=1)
    topn: int = Field(ge=1)
    max_new_rows: int | None = Field(ge=1)
    num_epochs: int | None = Field(ge=1)
    seed: int = Field(ge=0)


class LoopPhase(BaseModel):
    """The baseline or an iteration, trained and measured on the KPI set.

    Attributes:
        rows: of the training set.
        inference_csv: the scores of the KPI set.
        features: the features of the KPI set, in the order of the scores.
        trained: False for a baseline that was given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    checkpoint: Path
    checkpoint_sha256: str
    training_csv: Path
    rows: int
    training_spec: Path
    inference_csv: Path
    features: Path
    metric_result: MetricResult
    passed: bool
    trained: bool


class LoopState(BaseModel):
    """`loop_state.json`."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    settings: LoopSettings
    sha256: dict[str, str]
    phases: list[LoopPhase] = []
    status: LoopStatus | None = None
    complete: bool = False

    @property
    def best(self) -> LoopPhase:
        """The phase that the contract prefers; of equally good ones the earlier."""
        best = MetricContract.of(self.settings.metric).best([phase.metric_result for phase in self.phases])
        return next(phase for phase in self.phases if phase.metric_result is best)


class LoopOutcome(BaseModel):
    """What a loop came to.

    Attributes:
        status: why it stopped.
        phases: in order, the baseline first.
        best_label: the phase whose model the metric contract prefers.
        last_label: the last phase.
        checkpoint: the model of the best phase.
        combined_csv: the enlarged training set of the last phase; None when no iteration ran.
    """

    status: LoopStatus
    phases: list[LoopPhase]
    best_label: str
    last_label: str
    checkpoint: Path
    combined_csv: Path | None


class LoopRun:
    """A run on disk: where it lies, what it works on, and what it has done."""

    def __init__(self, folder: Path, workspace: Path, lists: RowLists, state: LoopState) -> None:
        self.folder, self.workspace, self.lists = folder, workspace, lists
        self.contract = MetricContract.of(state.settings.metric)
        self._state = state

    @property
    def settings(self) -> LoopSettings:
        """What was chosen."""
        return self._state.settings

    @property
    def phases(self) -> list[LoopPhase]:
        """The complete phases, in order."""
        return self._state.phases

    @property
    def iteration(self) -> int:
        """The number of the iteration that comes next, from 1."""
        return len(self.phases)

    @property
    def best(self) -> LoopPhase:
        """The phase that the contract prefers; of equally good ones the earlier."""
        return self._state.best

    @property
    def goes_on(self) -> bool:
        """Whether another iteration is to come."""
        return not (self._state.complete or self.best.passed or self.iteration > self.settings.max_iterations)

    def commit(self, phase: LoopPhase) -> None:
        """Add a complete phase to the state on disk."""
        self.phases.append(phase)
        self._write()

    def finish(self) -> LoopOutcome:
        """Mark the run complete and say what it came to; doing so twice changes nothing."""
        if not self._state.complete:
            self._state.status = self._reason()
            self._state.complete = True
            self._write()
        assert self._state.status is not None
        last = self.phases[-1]
        return LoopOutcome(
            status=self._state.status,
            phases=self.phases,
            best_label=self.best.label,
            last_label=last.label,
            checkpoint=self.best.checkpoint,
            combined_csv=None if last.label == BASELINE else last.training_csv,
        )

    def _reason(self) -> LoopStatus:
        if self.best.passed:
            return "metric_met"
        return "max_iterations" if self.iteration > self.settings.max_iterations else "no_new_images"

    def _write(self) -> None:
        write_json(self.folder / STATE_FILE, self._state.model_dump(mode="json"))


@contextmanager
def opened_loop(
    workspace: Path,
    settings: LoopSettings,
    results_dir: Path | None = None,
    baseline_checkpoint: Path | None = None,
) -> Iterator[LoopRun]:
    """A new run, or the one in `results_dir` where it stopped, held against other processes.

    Raises:
        DeftError: another process works on the run, or it has other settings or data.
        InputError: the workspace, the metric or the state is not usable, sets share images, or the
            checkpoint of a phase is gone or changed.
    """
    check_contract(MetricContract.of(settings.metric))
    workspace = workspace.absolute()
    folder = (results_dir or new_run_folder(workspace / "results")).absolute()
    with held(folder):
        lists = write_row_lists(workspace, folder / "dataset")
        sha256 = _fingerprint(workspace, lists, baseline_checkpoint)
        state = LoopState(settings=settings, sha256=sha256)
        if (folder / STATE_FILE).is_file():
            state = _taken_up(folder / STATE_FILE, state)
        yield LoopRun(folder, workspace, lists, state)


def _fingerprint(workspace: Path, lists: RowLists, baseline_checkpoint: Path | None) -> dict[str, str]:
    """What a run works on, by content."""
    csvs = {"train": lists.train, "validation": lists.validation, "kpi": lists.kpi, "pool": lists.pool}
    sets = {name: sha256_of_all([csv, *read_rows(csv, workspace).files]) for name, csv in csvs.items() if csv}
    files = {"baseline_spec": workspace / BASELINE_SPEC, "baseline_checkpoint": baseline_checkpoint}
    return {**sets, **{name: sha256_of(existing_file(file, name)) for name, file in files.items() if file}}


def _taken_up(file: Path, wanted: LoopState) -> LoopState:
    try:
        state = LoopState.model_validate(read_json(file))
    except ValidationError as error:
        raise InputError(f"{file} is no state of a classifier loop: {explained(error)}") from error
    if state.settings != wanted.settings or state.sha256 != wanted.sha256:
        raise DeftError(f"{file.parent} is a run with other settings or data; choose another results_dir")
    bad = [
        str(phase.checkpoint)
        for phase in state.phases
        if not phase.checkpoint.is_file() or sha256_of(phase.checkpoint) != phase.checkpoint_sha256
    ]
    if bad:
        raise InputError(f"gone or changed since the run wrote them: {listed(bad)}; restore them")
    return state
