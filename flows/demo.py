"""The demo: a sample workspace, and a loop on it that must make the model better."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from tasks.dataset.sample import write_sample_workspace
from tasks.deft.state import DeftState

logger = logging.getLogger("deft.flow")


def run_demo(folder: Path, seed: int) -> int:
    """Build the sample workspace of this seed unless it is there, run the loop, and say what came out.

    Returns:
        0 when FAR at 100 % recall on the KPI set fell from the baseline to the last iteration, else 1.

    Raises:
        DeftError: as the loop does.
    """
    from flows.deft_aoi import deft_aoi

    started = time.monotonic()
    root = folder / f"seed{seed}"
    if not root.exists():
        logger.info("rendering a sample workspace in %s", root)
        write_sample_workspace(root, seed=seed)
    state = deft_aoi(root, max_iterations=2, metric="FAR < 1% at Recall=100%", min_similarity=0.5, seed=seed)
    values = far_of(state)
    logger.info(
        "FAR at 100 %% recall: %.2f %% -> %.2f %% in %.0f s",
        values[0],
        values[-1],
        time.monotonic() - started,
    )
    return 0 if values[-1] < values[0] else 1


def far_of(state: DeftState) -> list[float]:
    """FAR at 100 % recall in percent, one value a measured phase."""
    return [float((phase.metric_result or {})["value"]) for phase in state.measured().values()]
