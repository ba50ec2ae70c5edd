"""FAR at recall: the false-alarm rate on PASS rows at the threshold that finds the defects.

FAR at 100 % recall is an extreme-order statistic: one badly scored defect decides it. So how sure the
figure is, and what it hangs on, is reported with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from tasks.errors import InputError, StageFailed
from tasks.gap_analysis.scores import BoolArray, FloatArray
from tasks.gap_analysis.sweep import OperatingPoint, Sweep, best, feasible, sweep

BEST_F1_RULE = ("f1", "recall", "precision", "threshold")
RELAXED_RECALL = 0.995
Z_95 = 1.959963984540054


@dataclass(frozen=True)
class FarAtRecall:
    """The KPI of one set of scores.

    Attributes:
        points: every candidate.
        point: the best (F1, precision, threshold) among the candidates that reach the recall.
        best_f1: the best (F1, recall, precision, threshold) of all.
        lowest_defect: position of the defect with the lowest score; of equal ones the first.
        diagnostics: figures beside the KPI, rates in percent, by their names in metric_result.json.
    """

    points: Sweep
    point: OperatingPoint
    best_f1: OperatingPoint
    lowest_defect: int
    diagnostics: dict[str, object]


def far_at_recall(scores: FloatArray, is_pass: BoolArray, min_recall: float = 1.0) -> FarAtRecall:
    """The false-alarm rate at the best threshold whose recall is at least `min_recall`, a fraction.

    Raises:
        InputError: there are no NO_PASS rows, so no recall, or no PASS rows, so no false-alarm rate.
    """
    for name, count in (("NO_PASS", np.count_nonzero(~is_pass)), ("PASS", np.count_nonzero(is_pass))):
        if not count:
            raise InputError(
                f"there are no {name} rows, so FAR at recall is not defined; complete the KPI set"
            )
    points = sweep(scores, is_pass)
    point = points.at(best(points, feasible(points, min_recall))[0])
    best_f1 = points.at(best(points, np.arange(len(points)), by=BEST_F1_RULE)[0])
    defects = np.flatnonzero(~is_pass)
    return FarAtRecall(
        points=points,
        point=point,
        best_f1=best_f1,
        lowest_defect=int(defects[np.argmin(scores[defects])]),
        diagnostics={
            "recall_pct": recall_pct(point),
            "precision": point.precision,
            "f1": point.f1,
            "far_counts": f"{point.fp}/{point.fp + point.tn}",
            "far_wilson_95_pct": far_interval_pct(point),
            "far_pct_at_recall_99_5": 100.0 * float(points.far[feasible(points, RELAXED_RECALL)].min()),
            "far_pct_at_2nd_lowest_defect": far_pct_without(scores, is_pass, 1),
            "far_pct_at_3rd_lowest_defect": far_pct_without(scores, is_pass, 2),
            "auc": auc(points),
        },
    )


def check_threshold_agrees(metric_threshold: float | None, rca_threshold: float) -> None:
    """Check that the threshold of `far_at_recall` is that of gap analysis of the same inference CSV.

    For the built-in evaluator where both were asked for recall 100 %. Both then come from one sweep of the
    same scores by the same rule, so they are equal to the last bit, and no tolerance is given.

    Raises:
        StageFailed: they differ; the message names both.
    """
    if metric_threshold != rca_threshold:
        raise StageFailed(
            f"threshold {metric_threshold!r} of the metric is not the threshold {rca_threshold!r} of gap "
            "analysis; they were not computed from the same inference CSV at recall 100 %: run both again"
        )


def far_pct(point: OperatingPoint) -> float:
    """False alarms in percent of the PASS rows."""
    return 100.0 * point.fp / (point.fp + point.tn)


def far_interval_pct(point: OperatingPoint) -> list[float]:
    """The 95 % Wilson interval of the false-alarm rate, in percent."""
    return [100.0 * end for end in wilson_interval(point.fp, point.fp + point.tn)]


def recall_pct(point: OperatingPoint) -> float:
    """Defects found in percent of the NO_PASS rows."""
    return 100.0 * point.tp / (point.tp + point.fn)


def far_pct_without(scores: FloatArray, is_pass: BoolArray, defects: int) -> float | None:
    """FAR at 100 % recall, in percent, if the `defects` lowest-scoring defects were not there.

    #{PASS with score >= lowest defect score} / #PASS; None where no defect would be left.
    """
    ascending = np.sort(scores[~is_pass])
    if defects >= ascending.size:
        return None
    passes = scores[is_pass]
    return 100.0 * float(np.count_nonzero(passes >= ascending[defects])) / passes.size


def auc(points: Sweep) -> float:
    """Area under the ROC curve: the share of (NO_PASS, PASS) pairs in order, ties one half (Mann-Whitney)."""
    defects, passes = np.diff(points.fn), np.diff(points.tn)
    twice = int(np.sum(defects * (points.tn[:-1] + points.tn[1:])))
    return twice / (2 * int(defects.sum()) * int(passes.sum()))


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927), both ends fractions in 0..1."""
    share = successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z / scale * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)
