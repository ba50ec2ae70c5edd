"""What scores say about a labelled set."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.evaluation import kpi
from tasks.gap_analysis.sweep import sweep

Scores = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


def percent(part: Any, whole: Any) -> float:
    """100 · part / whole; 0 where the whole is empty."""
    return 100.0 * float(part) / float(whole) if whole else 0.0


def counted(scores: Scores, defect: Flags, margin: float) -> dict[str, float]:
    """`acc` and `fpr` in percent of all rows, with score > margin meaning NO_PASS.

    The container's names: `fpr` is over all rows, which makes it no false-alarm rate (that is FAR).
    """
    alarms = scores > margin
    return {
        "acc": percent((alarms == defect).sum(), len(defect)),
        "fpr": percent((alarms & ~defect).sum(), len(defect)),
    }


def far_at_full_recall(scores: Scores, defect: Flags) -> float:
    """Percent of the PASS rows that score at least as high as the lowest defect; 100 without both classes.

    At the threshold just below the lowest defect every defect is found, and ties are alarms.
    """
    if defect.all() or not defect.any():
        return 100.0
    far = kpi.far_pct_without(scores.astype(np.float64), ~defect, 0)
    assert far is not None
    return far


def auc(scores: Scores, defect: Flags) -> float:
    """Probability that a defect scores above a PASS row, ties half; NaN without both classes.

    The KPI's own computation, so that training and evaluation never disagree.
    """
    if defect.all() or not defect.any():
        return float("nan")
    return kpi.auc(sweep(scores.astype(np.float64), ~defect))


def validation_metrics(scores: Scores, defect: Flags, margin: float) -> dict[str, float]:
    """The `val_*` metrics: those of the container, and what it takes to judge a model by them."""
    alarms = scores > margin
    values = {
        **counted(scores, defect, margin),
        "far": far_at_full_recall(scores, defect),
        "recall": percent((alarms & defect).sum(), defect.sum()),
        "auc": auc(scores, defect),
        "pred_pos": percent(alarms.sum(), len(alarms)),
    }
    return {f"val_{name}": value for name, value in values.items()}


def test_metrics(scores: Scores, defect: Flags, margin: float) -> dict[str, float]:
    """The four metrics of `evaluate`, in percent: three over all rows, `defect_acc` over the defects."""
    alarms = scores > margin
    rows = len(defect)
    return {
        "test_acc": percent((alarms == defect).sum(), rows),
        "test_fpr": percent((alarms & ~defect).sum(), rows),
        "test_fnr": percent((~alarms & defect).sum(), rows),
        "defect_acc": percent((alarms & defect).sum(), defect.sum()),
    }
