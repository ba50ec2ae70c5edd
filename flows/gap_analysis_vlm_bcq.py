"""Gap analysis of a vision-language model's yes/no answers."""

import logging
from pathlib import Path

from prefect import flow

from blocks.reaping import reap
from tasks.artifacts import read_json, timestamp_folder
from tasks.stage import StageResult, load_runtime, run_stage

logger = logging.getLogger("deft.flow")


@flow(name="gap-analysis-vlm-bcq", on_cancellation=[reap])
def gap_analysis_vlm_bcq(
    predictions_json: Path,
    results_dir: Path | None = None,
    videos_dir: Path | None = None,
    check_exists: bool = False,
    runtime: str = "inline",
) -> StageResult:
    """Compare each yes/no answer with its truth; write the false ones and their counts.

    Args:
        predictions_json: JSON array of objects with video_id, response, gt and, if wanted, question.
        results_dir: output folder; by default bcq_results/<clock> beside the predictions.
        videos_dir: folder that relative video ids are resolved against.
        check_exists: also count the videos that do not exist.
        runtime: where actions run: inline, or the type/name of a saved runtime block.
    """
    folder = results_dir or timestamp_folder(predictions_json.absolute().parent / "bcq_results")
    stage = run_stage(
        "gap_analysis",
        "vlm_bcq",
        {
            "predictions_json": predictions_json,
            "results_dir": folder,
            "videos_dir": str(videos_dir or ""),
            "check_exists": check_exists,
        },
        load_runtime(runtime),
    )
    facts = read_json(stage.path("bcq_summary.json"))
    logger.info(
        "%d of %d answers evaluated: %d false yes, %d false no, %d skipped; %s",
        facts["n_evaluated"],
        facts["n_items"],
        facts["n_fp"],
        facts["n_fn"],
        facts["n_skipped"],
        stage.folder,
    )
    return stage
