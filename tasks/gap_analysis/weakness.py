"""Weakness: how far a score lies on the wrong side of the threshold, ranked within each label."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tasks.dataset.table import PASS
from tasks.gap_analysis.scores import BoolArray, FloatArray, IntArray


def weakness_of(scores: FloatArray, is_pass: BoolArray, threshold: float) -> FloatArray:
    """Signed distance to the wrong side: > 0 is misclassified, <= 0 is marginal (right, but near)."""
    return np.where(is_pass, scores - threshold, threshold - scores)


@dataclass(frozen=True)
class LabelGroup:
    """The rows of one label.

    Attributes:
        label: the label, stripped and upper-cased.
        rows: positions in the CSV; 0 is its first row of data.
        weakness: the weakness of each of `rows`.
    """

    label: str
    rows: IntArray
    weakness: FloatArray

    @cached_property
    def ascending(self) -> FloatArray:
        """The weakness of all rows, sorted, so that no figure hangs on the order of the file."""
        return np.sort(self.weakness)

    @property
    def misclassified(self) -> int:
        """How many rows lie on the wrong side."""
        return int(np.count_nonzero(self.weakness > 0))

    @property
    def missed(self) -> int:
        """How many rows of a defect label are predicted PASS; those at the threshold itself count."""
        return int(np.count_nonzero(self.weakness >= 0))

    @property
    def mean(self) -> float:
        """Mean weakness."""
        return float(self.ascending.mean())

    def statistics(self) -> dict[str, float]:
        """The entry of this label under `per_label` of metrics.json."""
        return {
            "total": self.rows.size,
            "mean_weakness": self.mean,
            "median_weakness": float(np.median(self.ascending)),
            "max_weakness": float(self.ascending[-1]),
            "n_misclassified": self.misclassified,
        }

    def kept(self, top_k: int | None) -> LabelGroup:
        """The `top_k` weakest rows, or with None those on the wrong side (filter mode), weakest first.

        Equal weakness stays in the order of the file.
        """
        count = min(self.misclassified if top_k is None else top_k, self.rows.size)
        # Only rows that can be among the first `count` are sorted; most of a large file is not.
        near = np.flatnonzero(self.weakness >= self.ascending[-count]) if count else self.rows[:0]
        chosen = near[np.argsort(-self.weakness[near], kind="stable")][:count]
        return LabelGroup(self.label, self.rows[chosen], self.weakness[chosen])


def by_label(labels: tuple[str, ...], label_of: IntArray, weakness: FloatArray) -> list[LabelGroup]:
    """The rows of each label, in file order; the label with the weakest row of all comes first."""
    together = np.argsort(label_of, kind="stable")
    parts = np.split(together, np.cumsum(np.bincount(label_of, minlength=len(labels)))[:-1])
    groups = [LabelGroup(labels[i], rows, weakness[rows]) for i, rows in enumerate(parts)]
    return sorted(groups, key=_weakest_first)


def _weakest_first(group: LabelGroup) -> tuple[float, int]:
    weakest = np.argmax(group.weakness)
    return -float(group.weakness[weakest]), int(group.rows[weakest])


def target_defects(groups: Iterable[LabelGroup]) -> list[str]:
    """Defect labels in the order of need: missed rows, misclassified rows, mean weakness, all descending.

    PASS is never a target (spec gap-analysis A.11).
    """
    defects = [group for group in groups if group.label != PASS]
    defects.sort(key=lambda group: (-group.missed, -group.misclassified, -group.mean, group.label))
    return [group.label for group in defects]
