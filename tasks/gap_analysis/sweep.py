"""The threshold sweep: every candidate threshold with its confusion counts, in O(n log n).

Decision rule (spec gap-analysis A.2): a row is predicted NO_PASS if its score is > threshold. NO_PASS is
the positive class. Candidates are every distinct score, and the float just below the lowest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tasks.gap_analysis.scores import BoolArray, FloatArray, IntArray

TOLERANCE = 1e-12
"""By how much a recall may miss its floor, and a false-alarm rate its ceiling."""

F1_RULE = ("f1", "precision", "threshold")
"""What the chosen threshold must have most of, in this order."""


@dataclass(frozen=True)
class OperatingPoint:
    """One threshold and what it does; rates are fractions, `far` is NaN without PASS rows."""

    threshold: float
    tp: int
    fp: int
    tn: int
    fn: int
    precision: float
    recall: float
    f1: float
    far: float


@dataclass(frozen=True)
class Sweep:
    """Thresholds, ascending, and the confusion counts at each; all arrays have one length."""

    threshold: FloatArray
    tp: IntArray
    fp: IntArray
    tn: IntArray
    fn: IntArray

    def __len__(self) -> int:
        return self.threshold.size

    @cached_property
    def precision(self) -> FloatArray:
        """tp / (tp + fp), 0 where nothing is predicted NO_PASS."""
        return _ratio(self.tp, self.tp + self.fp)

    @cached_property
    def recall(self) -> FloatArray:
        """tp / (tp + fn), 0 where there is no NO_PASS row."""
        return _ratio(self.tp, self.tp + self.fn)

    @cached_property
    def f1(self) -> FloatArray:
        """2pr / (p + r) in floats, as the reference has it: its rounding decides ties."""
        return _ratio(2.0 * self.precision * self.recall, self.precision + self.recall)

    @cached_property
    def far(self) -> FloatArray:
        """False-alarm rate fp / (fp + tn), of the PASS rows alone; NaN where there are none."""
        return _ratio(self.fp, self.fp + self.tn, otherwise=np.nan)

    def at(self, index: int) -> OperatingPoint:
        """The candidate at a position as plain numbers."""
        counts = (int(values[index]) for values in (self.tp, self.fp, self.tn, self.fn))
        rates = (float(values[index]) for values in (self.precision, self.recall, self.f1, self.far))
        return OperatingPoint(float(self.threshold[index]), *counts, *rates)


def sweep(scores: FloatArray, is_pass: BoolArray) -> Sweep:
    """Every candidate threshold of finite `scores`: distinct scores + 1, ascending."""
    order = np.argsort(scores)
    ascending = scores[order] + 0.0  # so that -0.0 and 0.0, which are equal, are written alike
    last_of_tie = np.flatnonzero(np.append(ascending[1:] != ascending[:-1], True))
    passed = np.append(0, np.cumsum(is_pass[order])[last_of_tie])
    missed = np.append(0, last_of_tie + 1) - passed
    thresholds = np.append(np.nextafter(ascending[0], -np.inf), ascending[last_of_tie])
    return _counted(thresholds, tn=passed, fn=missed)


def pinned(scores: FloatArray, is_pass: BoolArray, threshold: float) -> Sweep:
    """A sweep of the one candidate `threshold`."""
    alarm = scores > threshold
    tp, fp, tn, fn = (
        np.array([np.count_nonzero(rows)])
        for rows in (alarm & ~is_pass, alarm & is_pass, ~alarm & is_pass, ~alarm & ~is_pass)
    )
    return Sweep(np.array([threshold]), tp, fp, tn, fn)


def feasible(points: Sweep, min_recall: float, max_far: float | None = None) -> IntArray:
    """Positions of the candidates that meet the recall floor and the false-alarm ceiling, ascending.

    Without NO_PASS rows recall means nothing and no candidate is feasible.
    """
    meets = (points.tp + points.fn > 0) & (points.recall >= min_recall - TOLERANCE)
    if max_far is not None:
        meets &= ~(points.far > max_far + TOLERANCE)
    return np.flatnonzero(meets)


def best(points: Sweep, among: IntArray, by: Sequence[str] = F1_RULE, most: int = 1) -> list[int]:
    """The lexicographically largest candidates by the named rates, best first, at most `most`."""
    chosen: list[int] = []
    while among.size and len(chosen) < most:
        tied = among
        for name in by:
            values = getattr(points, name)[tied]
            tied = tied[values == values.max()]
        chosen.append(int(tied[-1]))
        among = among[among != chosen[-1]]
    return chosen


def _counted(thresholds: FloatArray, tn: IntArray, fn: IntArray) -> Sweep:
    # The highest score as threshold predicts PASS for every row: the last counts are the totals.
    return Sweep(thresholds, tp=fn[-1] - fn, fp=tn[-1] - tn, tn=tn, fn=fn)


def _ratio(part: FloatArray | IntArray, whole: FloatArray | IntArray, otherwise: float = 0.0) -> FloatArray:
    ratio = np.full(part.size, otherwise)
    np.divide(part, whole, out=ratio, where=whole != 0)
    return ratio
