"""Gap analysis of the siamese classifier as a Prefect task."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from blocks.runtime import Runtime
from tasks.artifacts import read_json
from tasks.gap_analysis.gap_files import check_gap_files
from tasks.stage import StageResult, run_stage


class VcnGaps(BaseModel):
    """What gap analysis hands on: the weak samples, the threshold, and the defects to work on."""

    stage: StageResult
    gaps_parquet: Path
    weak_samples: Path
    metrics_json: Path
    threshold: float
    target_defects: list[str]
    queue_usable: bool


def analyse_vcn_gaps(
    *,
    inference_results_dir: Path,
    train_config: Path,
    kpi_media_path: str,
    results_dir: Path,
    min_recall: float | None,
    top_k_per_label: int | None,
    threshold: float = -1.0,
    runtime: Runtime,
) -> VcnGaps:
    """Run `gap_analysis vcn_aoi` and check that the image files it names exist.

    Raises:
        TargetUnreachable: no threshold meets the recall target.
        InputError: an input is not usable, or image files do not exist (GAP-E07).
    """
    stage = run_stage(
        "gap_analysis",
        "vcn_aoi",
        {
            "inference_results_dir": inference_results_dir,
            "train_config": train_config,
            "kpi_media_path": kpi_media_path,
            "results_dir": results_dir,
            **({} if min_recall is None else {"min_recall": min_recall}),
            "top_k_per_label": top_k_per_label,
            "threshold": threshold,
        },
        runtime,
    )
    check_gap_files(stage.path("kpi_gaps.parquet"))
    metrics = read_json(stage.path("metrics.json"))
    return VcnGaps(
        stage=stage,
        gaps_parquet=stage.path("kpi_gaps.parquet"),
        weak_samples=stage.path("weak_samples.parquet"),
        metrics_json=stage.path("metrics.json"),
        threshold=metrics["threshold"],
        target_defects=metrics["target_defects"],
        queue_usable=metrics["queue_usable"],
    )
