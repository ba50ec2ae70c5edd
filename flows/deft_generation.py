"""The generation step of the DEFT loop: synthetic pairs of the defects that the model is weak on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import BaseModel

from blocks.runtime import Runtime
from tasks.anomalygen.defects import painter_of
from tasks.anomalygen.tree import counts_in
from tasks.dataset.table import MANDATORY, PASS, read_table
from tasks.dataset.workspace import Workspace
from tasks.deft.run import Run
from tasks.deft.stages import Step
from tasks.stage import StageResult, run_stage

logger = logging.getLogger("deft.flow")


class Generated(BaseModel):
    """What generation adds to an iteration; without a request of ours the first four are None."""

    sdg_csv: Path | None = None
    allocation_json: Path | None = None
    requested: int | None = None
    allocated: int | None = None
    rows_csv: Path
    ingest_summary: Path
    count: int


def make_pairs(run: Run, step: Step, runtime: Runtime) -> Generated:
    """Paint or generate defects on clean pictures and make training pairs of them.

    Raises:
        DeftError: nothing could be placed, less than asked for beyond the tolerance, or a pair is broken.
    """
    if run.settings.sdg_source == "pregenerated":
        assert run.settings.pregenerated_dir is not None
        return _ingested(run, step, runtime, run.settings.pregenerated_dir)
    stage = _generated(run, step, runtime)
    allocation = stage.path("allocation.json")
    generated = _ingested(run, step, runtime, stage.folder, requested=run.settings.num_sdg)
    return generated.model_copy(
        update={
            "sdg_csv": stage.path("SDG_result.csv"),
            "allocation_json": allocation,
            "requested": run.settings.num_sdg,
            "allocated": sum(counts_in(allocation).values()),
        }
    )


def supported_defects(run: Run, gaps: Path) -> tuple[str, ...] | None:
    """The labels of weak samples that the generator can make; None where the stage knows itself."""
    if run.settings.sdg_source != "open":
        return None
    labels = dict.fromkeys(map(str, pq.read_table(gaps, columns=["label"])["label"].to_pylist()))
    return (PASS, *(label for label in labels if painter_of(label)))


def _generated(run: Run, step: Step, runtime: Runtime) -> StageResult:
    space, settings = run.workspace, run.settings
    return run_stage(
        "anomalygen",
        "generate",
        {
            "gaps_parquet": run.state.phase(step.label).routing_anomalygen_parquet,
            "project": settings.project,
            "num_SDG": settings.num_sdg,
            "seed": settings.seed + step.iteration,
            **(
                _our_pictures(run, space)
                if settings.sdg_source == "open"
                else _assets(space, settings.project)
            ),
            "results_dir": run.place(step.label, "anomalygen"),
        },
        runtime,
        native=settings.sdg_source == "open",
    )


def _our_pictures(run: Run, space: Workspace) -> dict[str, Any]:
    """Where our generator finds clean pictures: the base training set, and a pool that has goldens."""
    pool = space.pool_csv
    has_goldens = pool is not None and set(MANDATORY) <= set(read_table(pool, ()).columns)
    return {
        "clean_csv": [space.training_csv, *([pool] if has_goldens else [])],
        "images_dir": space.images_dir,
        "train_yaml": space.baseline_spec,
        "keep_out": [space.validation_csv, space.kpi_csv],
        "paint_on": run.settings.paint_on,
    }


def _assets(space: Workspace, project: str) -> dict[str, Any]:
    """Where NVIDIA's generator finds its pictures and its checkpoint (spec deft-loop 1.1)."""
    assets = space.root / "augmentation" / "anomalygen"
    checkpoint = assets / "checkpoints" / project
    return {"dataset_dir": assets / "datasets" / project, "checkpoint_dir": checkpoint}


def _ingested(
    run: Run, step: Step, runtime: Runtime, sdg_dir: Path, requested: int | None = None
) -> Generated:
    space = run.workspace
    stage = run_stage(
        "anomalygen",
        "ingest",
        {
            "sdg_dir": sdg_dir,
            "workspace": space.root,
            "train_yaml": space.baseline_spec,
            "images_out": run.place(step.label, "dataset", "images"),
            "name": step.label,
            "requested": requested,
            "require_allocation": requested is not None,
            "min_allocation_ratio": run.settings.min_allocation_ratio,
            "results_dir": run.place(step.label, "mining_filter"),
        },
        runtime,
    )
    rows = stage.path("sdg_rows.csv")
    return Generated(
        rows_csv=rows, ingest_summary=stage.path("ingest_summary.json"), count=len(read_table(rows))
    )
