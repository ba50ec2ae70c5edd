"""Gap analysis of the siamese classifier as a Prefect task."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from blocks.runtime import Runtime
from tasks.artifacts import read_json, write_yaml
from tasks.errors import DeftError, TargetUnreachable
from tasks.gap_analysis.gap_files import check_gap_files
from tasks.gap_analysis.report.inputs import LOG, Origin, origin_in_log
from tasks.gap_analysis.report.writer import SPEC, write_report
from tasks.gap_analysis.spec import VcnSpec
from tasks.gap_analysis.spot_check import SpotCheck
from tasks.spec import load_spec, plain
from tasks.stage import StageResult, run_stage

logger = logging.getLogger("deft.flow")

RULES = SpotCheck()


class VcnGaps(BaseModel):
    """What gap analysis hands on: the weak samples, the threshold, the defects to work on, the report."""

    stage: StageResult
    gaps_parquet: Path
    weak_samples: Path
    metrics_json: Path
    threshold: float
    target_defects: list[str]
    queue_usable: bool
    report: Path


def analyse_vcn_gaps(  # noqa: PLR0913 - they are the parameters of the flow
    *,
    inference_results_dir: Path,
    train_config: Path,
    kpi_media_path: str,
    results_dir: Path,
    min_recall: float | None,
    top_k_per_label: int | None,
    threshold: float = -1.0,
    runtime: Runtime,
    spot_check: SpotCheck = RULES,
) -> VcnGaps:
    """Run `gap_analysis vcn_aoi`, check that the image files it names exist, and write RCA_Report.md.

    Raises:
        TargetUnreachable: no threshold meets the recall target; the abridged report says so.
        InputError: an input is not usable, or image files do not exist (GAP-E07).
        StageFailed: the report does not hold against the files; validation.json says in what.
    """
    values = {
        "inference_results_dir": inference_results_dir,
        "train_config": train_config,
        "kpi_media_path": kpi_media_path,
        "results_dir": results_dir,
        **({} if min_recall is None else {"min_recall": min_recall}),
        "top_k_per_label": top_k_per_label,
        "threshold": threshold,
    }
    try:
        stage = run_stage("gap_analysis", "vcn_aoi", values, runtime)
    except TargetUnreachable:
        _report_unreachable(values, spot_check)
        raise
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
        report=write_report(_spec(values), spot_check, _origin(stage)),
    )


def _spec(values: dict[str, Any]) -> VcnSpec:
    """The resolved spec; where the stage was taken from cache, its file is written now."""
    spec = load_spec(VcnSpec, values)
    file = spec.results_dir / SPEC
    if not file.is_file():
        write_yaml(file, plain(values))
    return spec


def _origin(stage: StageResult) -> Origin:
    told = origin_in_log(stage.folder / LOG)
    return told.model_copy(
        update={"cached": stage.cached, "computed_by": stage.computed_by, "seconds": stage.seconds}
    )


def _report_unreachable(values: dict[str, Any], spot_check: SpotCheck) -> None:
    """The abridged report; that no threshold was found stays the error, also where this fails."""
    try:
        write_report(_spec(values), spot_check)
    except DeftError as error:
        logger.warning("no report on the unreachable target: %s", error)
