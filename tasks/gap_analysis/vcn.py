"""VCN gap analysis: the threshold, the weakest samples of each label, and what cannot be attained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.dataset.table import PASS
from tasks.gap_analysis.scores import ScoredRows
from tasks.gap_analysis.spec import VcnSpec
from tasks.gap_analysis.sweep import OperatingPoint, Sweep, best, feasible, pinned, sweep
from tasks.gap_analysis.weakness import LabelGroup, by_label, weakness_of

RUNNERS_UP = 3


@dataclass(frozen=True)
class Gaps:
    """The result of an analysis that met its targets.

    Attributes:
        point: the operating point, swept or pinned.
        runners_up: the next best feasible points, at most three.
        groups: every row by label, weakest first.
        kept: of the groups the rows that go on to routing; empty groups left out.
        boundary: NO_PASS rows at the threshold itself: missed, yet of weakness 0.
    """

    point: OperatingPoint
    runners_up: list[OperatingPoint]
    candidates: int
    candidates_feasible: int
    groups: list[LabelGroup]
    kept: list[LabelGroup]
    boundary: int

    @property
    def samples_kept(self) -> int:
        """How many samples were kept, over all labels."""
        return sum(group.rows.size for group in self.kept)

    @property
    def queue_usable(self) -> bool:
        """Whether a NO_PASS row was kept; without one there is nothing to augment."""
        return any(group.label != PASS for group in self.kept)


@dataclass(frozen=True)
class Unreachable:
    """Why no threshold meets the targets, and what could be had instead.

    Attributes:
        reason: `no_no_pass_rows`, `pinned_threshold` or `max_far`.
        attainable: the point with the best recall within the false-alarm ceiling, if there is any.
        best_f1: the point with the best F1 of all, if there are NO_PASS rows.
        pinned: the point of the threshold that was given, if one was.
    """

    reason: str
    attainable: OperatingPoint | None
    best_f1: OperatingPoint | None
    pinned: OperatingPoint | None
    passes: int
    no_passes: int


def analyse(rows: ScoredRows, spec: VcnSpec) -> Gaps | Unreachable:
    """Choose the threshold (spec gap-analysis A.2) and rank the rows of each label by weakness."""
    if spec.swept:
        points = sweep(rows.scores, rows.is_pass)
    else:
        points = pinned(rows.scores, rows.is_pass, spec.threshold)
    candidates = feasible(points, spec.recall_floor, spec.max_far)
    if not candidates.size:
        return _unreachable(rows, spec, points)
    chosen, *others = (points.at(index) for index in best(points, candidates, most=1 + RUNNERS_UP))
    groups = by_label(rows.labels, rows.label_of, weakness_of(rows.scores, rows.is_pass, chosen.threshold))
    kept = [group.kept(spec.top_k_per_label) for group in groups]
    return Gaps(
        point=chosen,
        runners_up=others,
        candidates=len(points),
        candidates_feasible=candidates.size,
        groups=groups,
        kept=[group for group in kept if group.rows.size],
        boundary=int(np.count_nonzero(~rows.is_pass & (rows.scores == chosen.threshold))),
    )


def _unreachable(rows: ScoredRows, spec: VcnSpec, points: Sweep) -> Unreachable:
    every = points if spec.swept else sweep(rows.scores, rows.is_pass)
    within = best(every, feasible(every, 0.0, spec.max_far), by=("recall", "f1", "precision", "threshold"))
    best_f1 = best(every, feasible(every, 0.0))
    passes = int(np.count_nonzero(rows.is_pass))
    reason = "max_far" if spec.swept else "pinned_threshold"
    return Unreachable(
        reason="no_no_pass_rows" if passes == len(rows) else reason,
        attainable=every.at(within[0]) if within else None,
        best_f1=every.at(best_f1[0]) if best_f1 else None,
        pinned=None if spec.swept else points.at(0),
        passes=passes,
        no_passes=len(rows) - passes,
    )
