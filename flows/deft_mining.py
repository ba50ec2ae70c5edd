"""The mining step of the DEFT loop: neighbours, similarity floor, history, and rows for training."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from blocks.runtime import Runtime
from tasks.artifacts import read_json, timestamp_folder, write_parquet, write_text
from tasks.dataset.table import MANDATORY, read_table
from tasks.deft.run import Run, check_leakage
from tasks.deft.stages import Step, previous_label
from tasks.errors import DeftError
from tasks.mining.control import draw_control, with_random_pass
from tasks.mining.floor import FloorSummary, apply_floor
from tasks.mining.ledger import mined_before, select_new
from tasks.mining.pool import PoolSummary, resolve_pool
from tasks.mining.precheck import precheck, yield_warning
from tasks.mining.report import write_report
from tasks.mining.report.facts import ReportInputs
from tasks.mining.rows import write_mined_rows
from tasks.mining.targets import write_targets
from tasks.mining.task import EncoderChoice, Search, find_neighbours

logger = logging.getLogger("deft.flow")


class Mined(BaseModel):
    """What mining leaves: the selected images, the evidence for the state, the counts on the way."""

    mined_parquet: Path
    mined_candidates_parquet: Path
    knn_summary: Path
    mining_history_file: Path
    mining_history_summary: Path
    source_embeddings: Path
    target_embeddings: Path
    source_log: Path
    target_log: Path
    neighbours_log: Path
    mined_raw_count: int
    mined_candidate_count: int
    mined_count: int
    mining_report: Path
    mining_warnings: list[str]


def mine_new_rows(run: Run, step: Step, runtime: Runtime) -> tuple[Mined, Path | None]:
    """Find pool samples like the weak ones, above the floor, not used before, and make rows of them.

    Returns:
        What was mined, and the CSV of its rows; None when nothing new was found.

    Raises:
        InputError: pool, images or goldens are not usable.
    """
    space, settings = run.workspace, run.settings
    gaps = run.state.phase(step.label).routing_mining_parquet
    assert gaps is not None
    folder = timestamp_folder(run.place(step.label, "mining_results"))
    filtered = run.place(step.label, "mining_filter")
    pool = _resolved_pool(run)
    targets = folder / "targets.parquet"
    write_targets(gaps, space.kpi_csv, space.images_dir, space.lighting, targets)
    warnings = precheck(_labels(targets), _labels(pool))
    found = find_neighbours(
        targets,
        pool,
        _encoder(run),
        folder,
        Search(
            topn=settings.topn,
            knn_metric=settings.knn_metric,
            filter_by_label=settings.filter_by_label,
            filter_mode="within_label" if settings.filter_by_label else "post",
        ),
        output="mined_raw.parquet",
        runtime=runtime,
        exclude=_used_before(run, step, folder),
    )
    floor = settings.min_similarity if settings.knn_metric == "cosine" else None
    kept = apply_floor(found.mined, found.source_embeddings, found.target_embeddings, filtered, floor)
    candidates = _candidates(run, step, kept, pool)
    selection = select_new(
        run.ledger,
        _round(run, step),
        candidates,
        filtered / "mined.parquet",
        filtered / "mining_history_summary.json",
        settings.topn,
        settings.max_new_rows,
    )
    rows = None
    if selection.selected_count:
        rows = write_mined_rows(
            filtered / "mined.parquet",
            pool,
            space.root,
            space.lighting,
            space.images_dir / "self_golden",
            filtered / "mined_rows.csv",
        )
    warnings += [text for text in (selection.recommendation, _low_yield(run, step, kept.kept_count)) if text]
    for warning in warnings:
        logger.warning(warning)
    _report_inputs(run, step, gaps).write(folder)
    mined = Mined(
        mined_parquet=filtered / "mined.parquet",
        mined_candidates_parquet=candidates,
        knn_summary=filtered / "knn_summary.csv",
        mining_history_file=run.ledger,
        mining_history_summary=filtered / "mining_history_summary.json",
        source_embeddings=found.source_embeddings,
        target_embeddings=found.target_embeddings,
        source_log=folder / "source_embeddings.log",
        target_log=folder / "target_embeddings.log",
        neighbours_log=folder / "nearest_neighbors.log",
        mined_raw_count=kept.candidate_count,
        mined_candidate_count=selection.candidate_row_count,
        mined_count=rows.samples if rows else 0,
        mining_report=write_report(folder),
        mining_warnings=warnings,
    )
    return mined, rows.csv if rows else None


def join_new_rows(run: Run, step: Step, mined_rows: Path | None) -> Path:
    """Write the iteration's synthetic and mined rows into one CSV, `mining_filter/mining_pool.csv`.

    Raises:
        DeftError: there are none, so that training again would change nothing.
        InputError: a row shows an image of the validation or the KPI set (leakage).
    """
    phase = run.state.phase(step.label)
    tables = [read_table(path) for path in (phase.sdg_rows_csv, mined_rows) if path]
    if not tables:
        raise DeftError(
            f"{step.label} has no new row: mining and generation gave nothing; "
            "raise topn, lower min_similarity, enlarge the pool, or set sdg_source=open"
        )
    rows = pd.concat(tables, ignore_index=True).fillna("")
    others = [name for name in rows.columns if name not in (*MANDATORY, "origin")]
    file = run.place(step.label, "mining_filter", "mining_pool.csv")
    write_text(file, rows[[*MANDATORY, *others, "origin"]].to_csv(index=False, lineterminator="\n"))
    check_leakage(run, file, "new rows")
    return file


def _round(run: Run, step: Step) -> int:
    """The number of this mining in the ledger: iterations that did not mine do not count."""
    mined = [event for event in run.state.done() if event.stage == "data_mining" and not event.skip_reason]
    return 1 + sum(event.iter != step.label for event in mined)


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
    paths = pa.array(mined_before(run.ledger, _round(run, step)), pa.string())
    return write_parquet(folder / "used_before.parquet", pa.table({"filepath": paths}))


def _candidates(run: Run, step: Step, kept: FloorSummary, pool: Path) -> Path:
    """What the ledger selects from, by the selection that was chosen."""
    settings = run.settings
    if settings.selection == "nearest":
        return kept.candidates
    output = kept.candidates.with_name(f"{settings.selection}.parquet")
    seed, used = settings.seed + step.iteration, mined_before(run.ledger, _round(run, step))
    if settings.selection == "nearest_defects":
        with_random_pass(kept.candidates, pool, seed, used, output)
    else:
        count = min(kept.kept_count, settings.max_new_rows or kept.kept_count)
        draw_control(pool, count, seed, used, output)
    return output


def _low_yield(run: Run, step: Step, kept: int) -> str | None:
    before = _mined_before(run, step)
    return yield_warning(kept, before) if before else None


def _mined_before(run: Run, step: Step) -> int | None:
    return run.state.phase(previous_label(step.label)).mined_count if step.iteration > 1 else None


def _report_inputs(run: Run, step: Step, gaps: Path) -> ReportInputs:
    """What the report tells beside what the stages have written."""
    assert run.workspace.pool_csv is not None
    resolved = PoolSummary(**read_json(_resolved_pool(run).with_suffix(".json")))
    return ReportInputs.of(
        gaps, run.workspace.pool_csv, resolved, loop=True, mined_before=_mined_before(run, step)
    )


def _labels(parquet: Path) -> list[str]:
    return list(pq.read_table(parquet, columns=["label"])["label"].to_pylist())
