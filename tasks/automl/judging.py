"""What the scores of a trial on the validation set say: its figure, and whether the model is of any use.

A model that calls every part good has a fine loss on data of which most is good. So each trial is judged
by its scores, and one that cannot tell the classes apart can never win (spec automl 8.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tasks.errors import InputError
from tasks.evaluation import kpi
from tasks.gap_analysis.scores import BoolArray, FloatArray

FEWEST_SCORES = 3
LOWEST_AUC = 0.55
HIGHEST_FAR_PCT = 99.0
WORST_FAR_PCT = 100.0
TIE_SHARE = 0.9
"""Of a step of FAR, what the AUC may add at most: less than one, so that a step always counts for more."""


@dataclass(frozen=True)
class Judgement:
    """What one set of scores says.

    Attributes:
        far_pct: FAR at 100 % recall, in percent of the PASS rows; 100 where scores are not finite.
        target: what the sampler minimises, see `tie_broken`.
        step_pct: the smallest difference that `far_pct` can show: one PASS row.
        threshold: at which FAR was taken; None where scores are not finite, as are `auc` and the counts.
        auc: the probability that a defect scores above a PASS row.
        distinct: how many different scores there are.
        at_margin: rows by predicted class at the model's own margin, score > margin being NO_PASS.
        at_threshold: the same at the threshold.
        collapse: why the model is no use; empty when it is.
        warnings: what a person should know all the same.
    """

    far_pct: float
    target: float
    step_pct: float
    threshold: float | None
    auc: float | None
    distinct: int
    at_margin: dict[str, int]
    at_threshold: dict[str, int]
    collapse: str
    warnings: tuple[str, ...]

    @property
    def one_class(self) -> bool:
        """Whether one class alone is predicted at the margin: by its loss such a model must not be chosen."""
        return is_one_class(self.at_margin)


def judge(scores: FloatArray, defect: BoolArray, margin: float) -> Judgement:
    """Judge the scores of a labelled set; higher means defect.

    Args:
        scores: one per row.
        defect: whether the row is NO_PASS.
        margin: of the model itself, above which it says NO_PASS.

    Raises:
        InputError: not one score per row, or the set lacks a class, so that it has no FAR at full recall.
    """
    if len(scores) != len(defect):
        raise InputError(f"{len(scores)} scores for {len(defect)} validation rows; run inference again")
    passes = int(np.count_nonzero(~defect))
    if passes in (0, len(defect)):
        missing = "NO_PASS" if passes else "PASS"
        raise InputError(f"the validation set has no {missing} rows, so no FAR at full recall; add some")
    scores = scores.astype(np.float64)
    step, distinct = 100.0 / passes, len(np.unique(scores))
    bad = int(np.count_nonzero(~np.isfinite(scores)))
    if bad:
        reason = f"{bad} of {len(scores)} scores are not finite"
        worst = tie_broken(WORST_FAR_PCT, 0.0, passes)
        return Judgement(WORST_FAR_PCT, worst, step, None, None, distinct, {}, {}, reason, ())
    found = kpi.far_at_recall(scores, ~defect)
    far, auc = kpi.far_pct(found.point), kpi.auc(found.points)
    at_margin = _predicted(scores, margin)
    return Judgement(
        far_pct=far,
        target=tie_broken(far, auc, passes),
        step_pct=step,
        threshold=found.point.threshold,
        auc=auc,
        distinct=distinct,
        at_margin=at_margin,
        at_threshold=_predicted(scores, found.point.threshold),
        collapse=_collapse(far, auc, distinct),
        warnings=_warnings(at_margin, margin),
    )


def tie_broken(far_pct: float, auc: float, passes: int) -> float:
    """What the sampler minimises: FAR, and where it does not move, the AUC.

    far_pct + 0.9 · (100 / passes) · (1 - auc), spec automl 8.1. FAR is a share of the PASS rows, so it
    moves in steps of 100 / passes percent; the second term stays below one step and never reorders trials
    that differ by one. (With the number of defects in its place, which is the smaller, it would.)

    Args:
        far_pct: FAR at full recall, in percent.
        auc: between 0 and 1.
        passes: PASS rows of the validation set.
    """
    return far_pct + TIE_SHARE * (100.0 / passes) * (1.0 - auc)


def is_one_class(predicted: Mapping[str, int]) -> bool:
    """Whether counts by predicted class say that one class was never predicted."""
    return bool(predicted) and min(predicted.values()) == 0


def _predicted(scores: FloatArray, threshold: float) -> dict[str, int]:
    alarms = int(np.count_nonzero(scores > threshold))
    return {"PASS": len(scores) - alarms, "NO_PASS": alarms}


def _collapse(far_pct: float, auc: float, distinct: int) -> str:
    if distinct < FEWEST_SCORES:
        return f"all rows share {distinct} scores"
    if auc < LOWEST_AUC:
        return f"AUC {auc:.3f} is below {LOWEST_AUC}: defects do not score higher than PASS rows"
    if far_pct >= HIGHEST_FAR_PCT:
        return f"FAR {far_pct:.1f} % at full recall: a defect scores lower than nearly all PASS rows"
    return ""


def _warnings(at_margin: Mapping[str, int], margin: float) -> tuple[str, ...]:
    if not is_one_class(at_margin):
        return ()
    only = max(at_margin, key=lambda name: at_margin[name])
    return (f"at its margin {margin:g} the model says {only} to every row; use the threshold instead",)
