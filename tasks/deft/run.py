"""A run of the DEFT loop: its settings, its folder, and which folder the same command goes on with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field

from tasks.artifacts import sha256_of, timestamp_folder
from tasks.dataset.workspace import Workspace, check_sets, open_workspace
from tasks.deft.state import BASELINE, STATE_FILE, DeftState, Phase, create_state, load_state
from tasks.errors import DeftError
from tasks.evaluation.contract import MetricContract, MetricResult

logger = logging.getLogger("deft.flow")


class LoopSettings(BaseModel):
    """What a person chooses for a loop; equal settings on equal data are the same run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    max_iterations: int = Field(ge=1)
    min_recall: float = Field(ge=0, le=1)
    top_k_per_label: int = Field(ge=1)
    topn: int = Field(ge=1)
    knn_metric: Literal["cosine", "euclidean", "manhattan"]
    min_similarity: float = Field(ge=-1, le=1)
    filter_by_label: bool
    max_new_rows: int | None = Field(ge=1)
    selection: Literal["nearest", "random"]
    encoder: Literal["ChangeNet", "SigLIP", "CLIP"]
    encoder_path: str | None
    num_epochs: int | None = Field(ge=1)
    seed: int = Field(ge=0)


@dataclass(frozen=True)
class Run:
    """A run on disk: where it lies, the workspace it improves, and what was chosen."""

    folder: Path
    workspace: Workspace
    settings: LoopSettings
    contract: MetricContract

    @property
    def state(self) -> DeftState:
        """The state as it stands on disk now."""
        return load_state(self.folder)

    def place(self, label: str, *parts: str) -> Path:
        """A path inside the folder of a phase."""
        return self.folder.joinpath(label, *parts)

    def best(self, state: DeftState) -> tuple[str, Phase]:
        """Label and phase of the best measured model: feasible first, then the metric, then the earlier."""
        results = {
            label: MetricResult.model_validate(phase.metric_result)
            for label, phase in state.measured().items()
        }
        best = self.contract.best(list(results.values()))
        label = next(label for label, result in results.items() if result is best)
        return label, state.phase(label)


def previous_label(label: str) -> str:
    """The phase before an iteration: `baseline` before `iter1`."""
    number = int(label.removeprefix("iter"))
    return BASELINE if number == 1 else f"iter{number - 1}"


@contextmanager
def opened_run(
    workspace_path: Path, settings: LoopSettings, results_dir: Path | None, offline: bool
) -> Iterator[Run]:
    """The run that these settings go on with, or a new one, held against other processes.

    Args:
        workspace_path: the workspace's root.
        settings: what the person chose.
        results_dir: the run's own folder; by default the latest unfinished run of equal settings and
            equal data, else a new `results/run_<clock>`.
        offline: whether hub access is off, for the record.

    Raises:
        DeftError: another process works on the run, or its folder belongs to other settings or data.
        InputError: the workspace, the metric or a state file is not usable.
    """
    contract = MetricContract.parse(settings.metric)
    workspace = open_workspace(workspace_path)
    check_sets(workspace)
    config = _config(workspace, settings)
    folder = results_dir or _unfinished(workspace.results, config) or _new_folder(workspace.results)
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            if not (folder / STATE_FILE).exists():
                create_state(
                    folder,
                    kpi_target=settings.metric,
                    metric_contract=contract.model_dump(mode="json"),
                    max_iterations=settings.max_iterations,
                    config=config,
                    offline=offline,
                )
            elif load_state(folder).config != config:
                raise DeftError(f"{folder} is a run with other settings or data; choose another results_dir")
            yield Run(folder, workspace, settings, contract)
    except Timeout as error:
        raise DeftError(f"another process works on {folder}; wait for it or stop it") from error


def _new_folder(results: Path) -> Path:
    return timestamp_folder(results, prefix="run_", form="%Y%m%d_%H%M%S")


def _unfinished(results: Path, config: dict[str, Any]) -> Path | None:
    for state_file in sorted(results.glob(f"run_*/{STATE_FILE}"), reverse=True):
        state = load_state(state_file.parent)
        if state.status != "complete" and state.config == config:
            logger.info("going on with %s after %d committed stages", state_file.parent, len(state.events))
            return state_file.parent
    return None


def _config(workspace: Workspace, settings: LoopSettings) -> dict[str, Any]:
    """The run's configuration as it stands in the state: paths, content of the sets, settings."""
    sets = {
        "specs_file": workspace.baseline_spec,
        "training_csv": workspace.training_csv,
        "validation_csv": workspace.validation_csv,
        "kpi_test_csv": workspace.kpi_csv,
        "mining_pool_csv": workspace.pool_csv,
    }
    return {
        **{name: str(path) if path else None for name, path in sets.items()},
        "images_dir": str(workspace.images_dir),
        "sha256": {name: sha256_of(path) for name, path in sets.items() if path},
        **settings.model_dump(mode="json"),
    }
