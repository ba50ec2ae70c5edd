"""Exact nearest neighbours in bounded memory.

Sources stream past in blocks. A float32 matrix product gives every pair a key; only pairs whose key
lies within rounding error of the best distances so far are evaluated again in float64, and those
decide. Sets and order are therefore those of a float64 brute force, ties by source row order, on any
machine and with any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.errors import InputError, listed
from tasks.mining.metrics import F32, F64, METRICS, SHORTEST, Metric, Placed

I64 = npt.NDArray[np.int64]

TARGETS_AT_ONCE = 2048
NUMBERS_AT_ONCE = 2**17
"""Float64 numbers per side while pairs are evaluated exactly; 1 MiB stays in the cache."""


@dataclass(frozen=True)
class Pairs:
    """Neighbours, one entry per pair, ordered by target row and then rank (from 1).

    All arrays are [p]; `target` and `source` are row numbers, `distance` is in float64.
    """

    target: I64
    source: I64
    rank: I64
    distance: F64

    def __len__(self) -> int:
        return len(self.target)

    def where(self, keep: npt.NDArray[np.bool_]) -> Pairs:
        """Only the pairs marked in `keep`; ranks stay as they were."""
        return Pairs(self.target[keep], self.source[keep], self.rank[keep], self.distance[keep])


def nearest(
    source_blocks: Iterable[F32],
    targets: F32,
    topn: int,
    metric: str = "cosine",
    groups: tuple[I64, I64] | None = None,
) -> Pairs:
    """The `topn` nearest sources of every target; fewer where there are not so many.

    Args:
        source_blocks: the sources in row order, float32 [b, d] each.
        targets: float32 [q, d].
        topn: neighbours per target.
        metric: a key of `METRICS`.
        groups: group number of every source and of every target; only pairs within a group count.

    Raises:
        InputError: dimensions differ, or a vector has no direction (all zero) under `cosine`.
    """
    measure = METRICS[metric]
    firsts = range(0, len(targets), TARGETS_AT_ONCE)
    searches = [_Search(measure, targets[i : i + TARGETS_AT_ONCE], topn) for i in firsts]
    for first, search in zip(firsts, searches, strict=True):
        _refuse_zero(measure, search.targets, first, "target")
    row = 0
    for rows in source_blocks:
        if rows.shape[1] != targets.shape[1]:
            raise InputError(
                f"source vectors have {rows.shape[1]} numbers, target vectors {targets.shape[1]}; "
                "embed both with one encoder"
            )
        block = measure.placed(rows)
        _refuse_zero(measure, block, row, "source")
        for first, search in zip(firsts, searches, strict=True):
            search.add(block, row, _allowed(groups, first, len(search.best), row, len(rows)))
        row += len(rows)
    return _joined([search.pairs(first) for first, search in zip(firsts, searches, strict=True)])


def _refuse_zero(measure: Metric, vectors: Placed, first: int, side: str) -> None:
    if measure.name == "cosine":
        zero = np.flatnonzero(vectors.squared < SHORTEST**2) + first + 1
        if len(zero):
            raise InputError(
                f"the {side} vectors of the rows {listed(zero.tolist())} are zero and have no cosine; "
                "embed again"
            )


def _allowed(
    groups: tuple[I64, I64] | None, target: int, targets: int, source: int, sources: int
) -> npt.NDArray[np.bool_] | None:
    if groups is None:
        return None
    of_source, of_target = groups
    rows = of_source[source : source + sources]
    return np.equal(of_target[target : target + targets, None], rows[None, :])


def _joined(parts: list[Pairs]) -> Pairs:
    fields = ("target", "source", "rank", "distance")
    return Pairs(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


class _Search:
    """The best sources so far of some targets."""

    def __init__(self, measure: Metric, targets: F32, topn: int) -> None:
        self.measure = measure
        self.targets = measure.placed(targets)
        self.best: F64 = np.full((len(targets), topn), np.inf)
        self.source: I64 = np.full((len(targets), topn), -1, np.int64)
        self._keys: F32 = np.empty((len(targets), 0), np.float32)

    def add(self, block: Placed, first: int, allowed: npt.NDArray[np.bool_] | None) -> None:
        """Take the sources of `block`, whose first row is number `first`, into account."""
        if self._keys.shape[1] != len(block.raw):
            self._keys = np.empty((len(self.best), len(block.raw)), np.float32)
        keys = self._keys
        self.measure.keys(self.targets, block, keys)
        if allowed is not None:
            keys[~allowed] = np.inf
        near = keys <= self._bound(keys, block)[:, None]
        if allowed is not None:
            near &= allowed
        target, source = np.divmod(np.flatnonzero(near), len(block.raw))
        if len(target):
            self._merge(target, source + first, self._distances(block, target, source))

    def _bound(self, keys: F32, block: Placed) -> F32:
        """The largest key per target that can still belong to one of its best sources."""
        topn = self.best.shape[1]
        cut = self.measure.key_of(self.best[:, -1].copy(), self.targets)
        bound = cut + self.measure.slack(cut, self.targets, block)
        waiting = np.isinf(cut)
        if waiting.any() and topn <= keys.shape[1]:
            # No full list yet: the topn-th key of this block, itself rounded, is a bound as well.
            here = np.partition(keys[waiting], topn - 1, axis=1)[:, topn - 1].astype(np.float64)
            cut[waiting] = here
            bound[waiting] = here + 2 * self.measure.slack(cut, self.targets, block)[waiting]
        return np.nextafter(bound.astype(np.float32), np.float32(np.inf))

    def _distances(self, block: Placed, target: I64, source: I64) -> F64:
        distances = np.empty(len(target))
        step = max(1, NUMBERS_AT_ONCE // block.raw.shape[1])
        for first in range(0, len(target), step):
            part = slice(first, first + step)
            distances[part] = self.measure.distance(
                block.raw[source[part]].astype(np.float64), self.targets.raw[target[part]].astype(np.float64)
            )
        return distances

    def _merge(self, target: I64, source: I64, distance: F64) -> None:
        old, rank = np.nonzero(self.source >= 0)
        target = np.concatenate([old, target])
        source = np.concatenate([self.source[old, rank], source])
        distance = np.concatenate([self.best[old, rank], distance])
        order = np.lexsort((source, distance, target))
        target, source, distance = target[order], source[order], distance[order]
        starts = np.searchsorted(target, np.arange(len(self.best)))
        place = np.arange(len(target)) - starts[target]
        kept = place < self.best.shape[1]
        self.source[target[kept], place[kept]] = source[kept]
        self.best[target[kept], place[kept]] = distance[kept]

    def pairs(self, first: int) -> Pairs:
        """What was found; the first target has row number `first`."""
        target, rank = np.nonzero(self.source >= 0)
        return Pairs(target + first, self.source[target, rank], rank + 1, self.best[target, rank])
