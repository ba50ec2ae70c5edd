"""Training, scoring and measuring of image classifiers as Prefect tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from blocks.runtime import Runtime
from tasks.artifacts import write_parquet
from tasks.classifier.loop import LoopRun
from tasks.classifier.metrics import measured, read_scores, weakest_rows
from tasks.classifier.workspace import Row, inference_values, read_baseline, read_list
from tasks.embedding.sidecar import Sidecar
from tasks.embedding.tables import read_parquet, texts
from tasks.evaluation.contract import MetricContract, MetricResult
from tasks.mining.floor import apply_floor
from tasks.mining.ledger import mined_before, select_new
from tasks.stage import StageResult, run_stage


class Scored(BaseModel):
    """What an inference leaves: scores, and features in the same order."""

    inference_csv: Path
    features: Path


def train_classifier(values: dict[str, Any], runtime: Runtime) -> StageResult:
    """Run `image_classifier train`; its best and last checkpoint are `path("best")` and `path("last")`."""
    return run_stage("image_classifier", "train", values, runtime)


def score(
    checkpoint: Path,
    spec: dict[str, Any],
    workspace: Path,
    rows_csv: Path,
    results_dir: Path,
    runtime: Runtime,
) -> Scored:
    """Run `image_classifier inference` over a list of rows."""
    values = inference_values(
        spec, workspace, rows_csv=rows_csv, checkpoint=checkpoint, results_dir=results_dir
    )
    stage = run_stage("image_classifier", "inference", values, runtime)
    return Scored(inference_csv=stage.path("inference.csv"), features=stage.path("features.parquet"))


def measure(
    checkpoint: Path,
    spec: dict[str, Any],
    workspace: Path,
    rows_csv: Path,
    contract: MetricContract,
    results_dir: Path,
    runtime: Runtime,
) -> MetricResult:
    """Score a list of rows, such as the KPI set, and measure what the contract asks for.

    Raises:
        InputError: the contract asks for what image classifiers are not measured in.
        DeftError: as the inference does.
    """
    scored = score(checkpoint, spec, workspace, rows_csv, results_dir, runtime)
    return measured(read_scores(scored.inference_csv), contract)


def mine(run: LoopRun, folder: Path, runtime: Runtime) -> list[Row]:
    """Pool images nearest to the weakest KPI samples of the best model, and new to the run.

    Neighbours are looked up by features of that model, among the pool images of a sample's label.

    Raises:
        DeftError: as the inference and the search do.
    """
    history = run.folder / "mining_history.json"
    pool = {row["filepath"]: row for row in read_list(run.lists.pool)} if run.lists.pool else {}
    had = mined_before(history, run.iteration)
    if run.lists.pool is None or len(had) == len(pool):
        return []
    spec = read_baseline(run.workspace)
    source = score(run.best.checkpoint, spec, run.workspace, run.lists.pool, folder, runtime).features
    weak = _weakest(run, folder / "weak.parquet")
    exclude = write_parquet(folder / "had.parquet", pa.table({"filepath": pa.array(had, pa.string())}))
    search = {
        "source_parquet": source,
        "target_parquet": weak,
        "output_parquet": folder / "mined_raw.parquet",
        "exclude_parquet": exclude,
        "topn": run.settings.topn,
        "knn_metric": "cosine",
        "filter_by_label": "true",
        "filter_mode": "within_label",
    }
    found = run_stage("tmm", "nearest_neighbors", search, runtime).path("mined")
    selection = select_new(
        history,
        run.iteration,
        # No floor is set: this puts them into fair order, of which `max_new_rows` takes the first.
        apply_floor(found, source, weak, folder, None).candidates,
        folder / "mined.parquet",
        folder / "mining_history_summary.json",
        run.settings.topn,
        run.settings.max_new_rows,
    )
    mined = read_parquet(selection.output_parquet, "mined", may_be_empty=True)
    return [pool[path] for path in texts(mined, "filepath", "mined")]


def _weakest(run: LoopRun, output: Path) -> Path:
    """The features of the KPI samples of whose label the best model is least sure, weakest first."""
    rows = weakest_rows(read_scores(run.best.inference_csv), run.settings.num_weak)
    weak = read_parquet(run.best.features, "features").take(pa.array(rows))
    sidecar = Sidecar.of(run.best.features)
    assert sidecar is not None  # the inference wrote it
    write_parquet(output, weak)
    sidecar.model_copy(update={"rows": len(rows)}).write(output)
    return output
