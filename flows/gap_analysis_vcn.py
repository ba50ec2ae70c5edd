"""Gap analysis of a siamese classifier: the threshold that misses nothing, and the weakest samples."""

import logging
from pathlib import Path

from prefect import flow

from blocks.reaping import reap
from tasks.artifacts import timestamp_folder
from tasks.gap_analysis.spot_check import SpotCheck
from tasks.gap_analysis.task import RULES, VcnGaps, analyse_vcn_gaps
from tasks.publishing import publish_file
from tasks.stage import load_runtime

logger = logging.getLogger("deft.flow")


@flow(name="gap-analysis-vcn", on_cancellation=[reap])
def gap_analysis_vcn(
    inference_results_dir: Path,
    train_config: Path,
    kpi_media_path: str = "",
    results_dir: Path | None = None,
    min_recall: float | None = None,
    top_k_per_label: int | None = 50,
    threshold: float = -1.0,
    runtime: str = "inline",
    spot_check: SpotCheck = RULES,
) -> VcnGaps:
    """Choose the threshold of best F1 at the recall target, rank every label's weakest samples, and report.

    Args:
        inference_results_dir: folder that directly holds inference.csv.
        train_config: train YAML with dataset.classify.input_map and image_ext.
        kpi_media_path: image root that the input_path of each row is relative to; empty for absolute paths.
        results_dir: output folder; by default rca_results/<clock> beside the inference folder.
        min_recall: share of defects that must be found, 0 to 1; none: 1, or no floor if threshold is given.
        top_k_per_label: weakest samples kept of each label; none keeps only misclassified samples.
        threshold: a value of 0 or more is used as it is; a negative one asks for the sweep.
        runtime: where actions run: inline, or the type/name of a saved runtime block.
        spot_check: who looks at the ten weakest samples for the report: rules, a person later (manual), a
            vision language model (vlm), or nobody (none).
    """
    folder = results_dir or timestamp_folder(inference_results_dir.absolute().parent / "rca_results")
    gaps = analyse_vcn_gaps(
        inference_results_dir=inference_results_dir,
        train_config=train_config,
        kpi_media_path=kpi_media_path,
        results_dir=folder,
        min_recall=min_recall,
        top_k_per_label=top_k_per_label,
        threshold=threshold,
        runtime=load_runtime(runtime),
        spot_check=spot_check,
    )
    logger.info(
        "threshold %.6g; weakest defects: %s; report: %s",
        gaps.threshold,
        ", ".join(gaps.target_defects) or "none",
        gaps.report,
    )
    publish_file("rca report", gaps.report)
    return gaps
