"""The mining step of the DEFT loop: neighbours, similarity floor, history, and rows for training."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from blocks.runtime import Runtime
from tasks.artifacts import timestamp_folder, write_parquet
from tasks.dataset.leakage import ImageSet, check_disjoint
from tasks.dataset.table import read_table
from tasks.deft.run import Run, previous_label
from tasks.deft.state import Step
from tasks.errors import DeftError
from tasks.mining.control import draw_control
from tasks.mining.floor import FloorSummary, apply_floor
from tasks.mining.ledger import mined_before, select_new
from tasks.mining.pool import resolve_pool
from tasks.mining.precheck import precheck, yield_warning
from tasks.mining.rows import write_mined_rows
from tasks.mining.targets import write_targets
from tasks.mining.task import EncoderChoice, Search, find_neighbours

logger = logging.getLogger("deft.flow")


class Mined(BaseModel):
    """What mining adds to an iteration: the selected images, their rows, and the counts on the way."""

    parquet: Path
    rows_csv: Path
    raw_count: int
    candidate_count: int
    count: int


def mine_new_rows(run: Run, step: Step, runtime: Runtime) -> Mined:
    """Find pool samples like the weak ones, above the floor, not used before, and make rows of them.

    Raises:
        DeftError: nothing new is left to train on.
        InputError: pool, images or goldens are not usable, or a mined image is in the validation or KPI set.
    """
    space, settings = run.workspace, run.settings
    gaps = run.state.phase(step.label).routing_mining_parquet
    assert gaps is not None
    assert space.pool_csv is not None
    folder = timestamp_folder(run.place(step.label, "mining_results"))
    filtered = run.place(step.label, "mining_filter")
    pool = _resolved_pool(run)
    targets = folder / "targets.parquet"
    write_targets(gaps, space.kpi_csv, space.images_dir, space.lighting, targets)
    for warning in precheck(_labels(targets), _labels(pool)):
        logger.warning(warning)
    found = find_neighbours(
        targets,
        pool,
        _encoder(run),
        folder,
        Search(
            topn=settings.topn,
            knn_metric=settings.knn_metric,
            filter_by_label=settings.filter_by_label,
        ),
        output="mined_raw.parquet",
        runtime=runtime,
        exclude=_used_before(run, step, folder),
    )
    floor = settings.min_similarity if settings.knn_metric == "cosine" else None
    kept = apply_floor(found.mined, found.source_embeddings, found.target_embeddings, filtered, floor)
    selection = select_new(
        _history(run),
        step.iteration,
        _control(run, step, kept, pool) if settings.selection == "random" else kept.candidates,
        filtered / "mined.parquet",
        filtered / "mining_history_summary.json",
        settings.topn,
        settings.max_new_rows,
    )
    if selection.selected_count == 0:
        raise DeftError(f"mining found nothing new in {space.pool_csv}: {selection.recommendation}")
    rows = write_mined_rows(
        filtered / "mined.parquet",
        pool,
        space.root,
        space.lighting,
        space.images_dir / "self_golden",
        filtered / "mining_pool.csv",
    )
    _check_leakage(run, rows.csv)
    _warn_of_low_yield(run, step, kept.kept_count)
    return Mined(
        parquet=filtered / "mined.parquet",
        rows_csv=rows.csv,
        raw_count=kept.candidate_count,
        candidate_count=kept.kept_count,
        count=rows.samples,
    )


def _history(run: Run) -> Path:
    return run.folder / "mining_history.json"


def _resolved_pool(run: Run) -> Path:
    """The pool with one existing image a row; found once a run."""
    stem = run.folder / "inputs" / "mining_pool.resolved"
    parquet = stem.with_name(f"{stem.name}.parquet")
    if not parquet.is_file():
        assert run.workspace.pool_csv is not None
        resolve_pool(run.workspace.pool_csv, run.workspace.images_dir, run.workspace.lighting, stem)
    return parquet


def _encoder(run: Run) -> EncoderChoice:
    """The encoder that was chosen; ChangeNet means the best model so far."""
    if run.settings.encoder != "ChangeNet":
        return EncoderChoice(model=run.settings.encoder, model_path=run.settings.encoder_path)
    best = run.best(run.state)[1]
    return EncoderChoice(
        model="ChangeNet",
        model_path=str(best.best_ckpt_path),
        model_config_path=run.workspace.baseline_spec,
    )


def _used_before(run: Run, step: Step, folder: Path) -> Path:
    """The images of earlier iterations, left out of the search so that every neighbour found is new."""
    paths = pa.array(mined_before(_history(run), step.iteration), pa.string())
    return write_parquet(folder / "used_before.parquet", pa.table({"filepath": paths}))


def _control(run: Run, step: Step, kept: FloorSummary, pool: Path) -> Path:
    """As many pool images as mining would have given, drawn at random; drawn once an iteration."""
    control = kept.candidates.with_name("control.parquet")
    if not control.is_file():
        count = min(kept.kept_count, run.settings.max_new_rows or kept.kept_count)
        draw_control(pool, count, run.settings.seed + step.iteration, _history(run), control)
    return control


def _check_leakage(run: Run, rows_csv: Path) -> None:
    space = run.workspace
    mined = ImageSet("mined rows", read_table(rows_csv), space.root, space.lighting)
    for name, file in (("validation set", space.validation_csv), ("KPI set", space.kpi_csv)):
        check_disjoint(mined, ImageSet(name, read_table(file), space.images_dir, space.lighting))


def _warn_of_low_yield(run: Run, step: Step, kept: int) -> None:
    before = run.state.phase(previous_label(step.label)).mined_count if step.iteration > 1 else None
    warning = yield_warning(kept, before) if before else None
    if warning:
        logger.warning(warning)


def _labels(parquet: Path) -> list[str]:
    return list(pq.read_table(parquet, columns=["label"])["label"].to_pylist())
