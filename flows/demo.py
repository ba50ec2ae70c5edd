"""The demo: a sample workspace, and the whole pipeline on it, which must make the model better."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from tasks.automl.settings import SweepSettings
from tasks.dataset.sample import write_sample_workspace
from tasks.pipeline.trajectory import PipelineResult

logger = logging.getLogger("deft.flow")

PHASE1_TRIALS, PHASE3_TRIALS = 2, 2
"""Small budgets, so that a laptop has it done in minutes."""
LOOP = {"max_iterations": 2, "metric": "FAR < 1% at Recall=100%", "min_similarity": 0.5}


def run_demo(folder: Path, seed: int) -> int:
    """Build the sample workspace of this seed unless it is there, run the pipeline, and say what came out.

    Returns:
        0 when FAR at 100 % recall on the KPI set fell from the first to the delivered model, else 1.

    Raises:
        DeftError: as the pipeline does.
    """
    from flows.pipeline import deft_pipeline

    started = time.monotonic()
    root = folder / f"seed{seed}"
    if not root.exists():
        logger.info("rendering a sample workspace in %s", root)
        write_sample_workspace(root, seed=seed)
    result = deft_pipeline(
        root,
        "inline",
        phase1=SweepSettings(trials=PHASE1_TRIALS, seed=seed),
        loop={**LOOP, "seed": seed},
        phase3=SweepSettings(trials=PHASE3_TRIALS, seed=seed),
        yes=True,
    )
    assert result is not None
    first, best = ends_of(result)
    logger.info("FAR at 100 %% recall: %.2f %% -> %.2f %% in %.0f s", first, best, time.monotonic() - started)
    return 0 if best < first else 1


def ends_of(result: PipelineResult) -> tuple[float, float]:
    """FAR at 100 % recall on the KPI set, in percent: of its first measurement and of the delivered model."""
    measured = [stage for stage in result.stages if stage.set == "KPI"]
    return measured[0].value, min(stage.value for stage in measured)
