"""A run of the DEFT loop: its settings, its folder, and which folder the same command goes on with."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from blocks.network import offline_variable
from tasks.artifacts import now, only_grown, sha256_of
from tasks.dataset.leakage import ImageSet, check_disjoint
from tasks.dataset.specs import read_spec
from tasks.dataset.table import read_table
from tasks.dataset.workspace import Workspace, check_sets, open_workspace
from tasks.deft.audit import LEDGER, audited
from tasks.deft.stages import FINAL
from tasks.deft.state import STATE_FILE, DeftState, Phase, create_state, load_state
from tasks.errors import DeftError, InputError
from tasks.evaluation.contract import MetricContract, MetricResult
from tasks.gap_analysis.spot_check import SpotCheck
from tasks.run_folder import held, new_run_folder

logger = logging.getLogger("deft.flow")

SHOWN_EVENTS = 5
POOL = "mining_pool_csv"
BY_RULES = SpotCheck()


class RegressionGate(BaseModel):
    """What happens when an iteration is worse than the best before it: the loop may rise between iterations.

    Attributes:
        enabled: whether to look at all.
        max_worse: how much worse is let through, in the unit of the metric.
        action: say so and go on, or stop the run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = True
    max_worse: float = Field(0, ge=0)
    action: Literal["warn", "stop"] = "warn"


class LoopSettings(BaseModel):
    """What a person chooses for a loop; equal settings on equal data are the same run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str | dict[str, Any]
    max_iterations: int = Field(ge=1)
    min_recall: float = Field(ge=0, le=1)
    top_k_per_label: int = Field(ge=1)
    topn: int = Field(ge=1)
    knn_metric: Literal["cosine", "euclidean", "manhattan"]
    min_similarity: float = Field(ge=-1, le=1)
    filter_by_label: bool
    max_new_rows: int | None = Field(ge=0)
    selection: Literal["nearest", "nearest_defects", "random"]
    sdg_source: Literal["open", "pregenerated", "anomalygen", "none"]
    num_sdg: int = Field(ge=1)
    pregenerated_dir: Path | None
    project: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    paint_on: Literal["golden", "pass_sample"]
    min_allocation_ratio: float = Field(ge=0, le=1)
    regression_gate: RegressionGate
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
    spot_check: SpotCheck

    @property
    def state(self) -> DeftState:
        """The state as it stands on disk now."""
        return load_state(self.folder)

    def place(self, label: str, *parts: str) -> Path:
        """A path inside the folder of a phase."""
        return self.folder.joinpath(label, *parts)

    def spec(self) -> dict[str, Any]:
        """The workspace's ChangeNet spec with the epochs and the seed that the person chose."""
        spec = read_spec(self.workspace.baseline_spec)
        train_keys = spec.setdefault("train", {})
        train_keys["seed"] = self.settings.seed
        if self.settings.num_epochs is not None:
            train_keys["num_epochs"] = self.settings.num_epochs
            train_keys["checkpoint_interval"] = self.settings.num_epochs
        return spec

    @property
    def ledger(self) -> Path:
        """The mining ledger of the run."""
        return self.folder / LEDGER

    def best(self, state: DeftState, *, with_final: bool = False) -> tuple[str, Phase]:
        """Label and phase of the best measured model: feasible first, then the metric, then the earlier.

        `with_final` also lets the model compete that tuning after the loop has registered.
        """
        results = {
            label: MetricResult.model_validate(phase.metric_result)
            for label, phase in state.measured().items()
            if with_final or label != FINAL
        }
        best = self.contract.best(list(results.values()))
        label = next(label for label, result in results.items() if result is best)
        return label, state.phase(label)


@contextmanager
def opened_run(
    workspace_path: Path,
    settings: LoopSettings,
    results_dir: Path | None,
    *,
    spot_check: SpotCheck = BY_RULES,
    tell: bool = True,
) -> Iterator[Run]:
    """The run that these settings go on with, or a new one, held against other processes.

    A run that is taken up again is audited first, and its training set is held against the validation
    and the KPI set once more.

    Args:
        workspace_path: the workspace's root.
        settings: what the person chose.
        results_dir: the run's own folder; by default the latest unfinished run of equal settings and
            equal data, else a new `results/run_<clock>`.
        spot_check: who looks at the weakest samples; not part of what makes two runs the same.
        tell: say in the log what a run that is taken up has behind it.

    Raises:
        DeftError: another process works on the run, or its folder belongs to other settings or data.
        InputError: the workspace, the metric or a state file is not usable; or sets share images.
    """
    contract = MetricContract.of(settings.metric)
    workspace = open_workspace(workspace_path)
    check_sets(workspace)
    config = _config(workspace, settings)
    folder = results_dir or _unfinished(workspace.results, config) or new_run_folder(workspace.results)
    folder = folder.absolute()
    with held(folder):
        run = Run(folder, workspace, settings, contract, spot_check)
        if (folder / STATE_FILE).exists():
            _take_up(run, config, tell)
        else:
            create_state(folder, _first_state(run, config))
        yield run


def _take_up(run: Run, config: dict[str, Any], tell: bool) -> None:
    if not _is_of(load_state(run.folder), config):
        raise DeftError(f"{run.folder} is a run with other settings or data; choose another results_dir")
    state = audited(run.folder)
    for event in state.events[-SHOWN_EVENTS:] if tell else []:
        logger.info("so far: %d %s %s: %s", event.seq, event.step, event.status, event.summary)
    combined = [phase.combined_training_csv for phase in state.iterations.values()]
    newest = next((path for path in reversed(combined) if path), None)
    if newest and state.status != "complete":
        check_leakage(run, newest, "training set so far")


def check_leakage(run: Run, rows_csv: Path, name: str) -> None:
    """Check that rows in workspace coordinates show no image of the validation or the KPI set.

    Raises:
        InputError: some do.
    """
    space = run.workspace
    rows = ImageSet(name, read_table(rows_csv), space.root, space.lighting)
    for other, file in (("validation set", space.validation_csv), ("KPI set", space.kpi_csv)):
        check_disjoint(rows, ImageSet(other, read_table(file), space.images_dir, space.lighting))


def _unfinished(results: Path, config: dict[str, Any]) -> Path | None:
    for state_file in sorted(results.glob(f"run_*/{STATE_FILE}"), reverse=True):
        try:
            state = load_state(state_file.parent)
        except InputError as error:
            logger.warning("%s is left alone: %s", state_file.parent, error)
            continue
        if state.status != "complete" and _is_of(state, config):
            logger.info("going on with %s after %d committed stages", state_file.parent, len(state.done()))
            return state_file.parent
    return None


def _is_of(state: DeftState, config: dict[str, Any]) -> bool:
    """Whether a run is the one of this configuration: equal settings on equal data.

    Production may add rows to the pool while a run lasts: it is mined as it is at each iteration.
    """
    before, sets = state.config.get("sha256", {}), config["sha256"]
    if state.config.get("settings") != config["settings"] or before.keys() != sets.keys():
        return False
    changed = [name for name in sets if before[name] != sets[name]]
    size = state.config.get("mining_pool_bytes")
    return not changed or (
        changed == [POOL] and size is not None and only_grown(Path(config[POOL]), before[POOL], size)
    )


def _first_state(run: Run, config: dict[str, Any]) -> DeftState:
    metric, contract = run.settings.metric, run.contract
    return DeftState(
        started_at=now(),
        kpi_target=metric
        if isinstance(metric, str)
        else f"{contract.display_name} {contract.operator} {contract.target:g} {contract.unit}",
        metric_contract=contract.model_dump(mode="json"),
        results_dir=run.folder,
        max_iterations=run.settings.max_iterations,
        execution_policy=_execution_policy(),
        config=config,
    )


def _execution_policy() -> dict[str, Any]:
    offline = offline_variable()
    allowed = ("package_install", "remote_fetch", "container_pull", "registry_login")
    return {
        "network_mode": "airgap" if offline else "network-enabled",
        "activation_source": f"environment variable {offline}" if offline else "default",
        **{f"allow_{what}": not offline for what in allowed},
        "python_executable": sys.executable,
        "hf_offline": bool(offline),
    }


def _config(workspace: Workspace, settings: LoopSettings) -> dict[str, Any]:
    """The run's configuration as it stands in the state: paths, generator, mining, settings, data."""
    sets = {
        "specs_file": workspace.baseline_spec,
        "training_csv": workspace.training_csv,
        "validation_csv": workspace.validation_csv,
        "kpi_test_csv": workspace.kpi_csv,
        POOL: workspace.pool_csv,
    }
    spec = read_spec(workspace.baseline_spec)
    train = spec.get("train") or {}
    return {
        **{name: str(path) if path else None for name, path in sets.items()},
        "images_dir": str(workspace.images_dir),
        "mining_images_root": str(workspace.images_dir),
        "batch_size": spec["dataset"]["classify"].get("batch_size"),
        "num_epochs": settings.num_epochs or train.get("num_epochs"),
        "num_gpus": train.get("num_gpus", 1),
        "anomalygen": {
            "mode": "inference_only",
            "source": settings.sdg_source,
            "project": settings.project,
            "num_SDG": settings.num_sdg,
        },
        "mining_filter": {
            "top_k_per_target": settings.topn,
            "metric": settings.knn_metric,
            "min_similarity": settings.min_similarity,
            "history_aware": {"enabled": True, "identity": "filepath", "history_file": LEDGER},
        },
        "settings": settings.model_dump(mode="json"),
        "mining_pool_bytes": workspace.pool_csv.stat().st_size if workspace.pool_csv else None,
        "sha256": {name: sha256_of(path) for name, path in sets.items() if path},
    }
