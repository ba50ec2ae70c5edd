"""The distances of the neighbour search: a fast float32 key with a proven error, and the exact value.

A key orders the sources of one target as the distance does, up to rounding. `slack` bounds that
rounding: |computed dot product - exact| <= (d + c) u |s| |t| with u = 2^-24 whatever the order of
summation (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). Vectors are at most
`LONGEST` long, so nothing overflows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tasks.embedding.tables import squared_lengths

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

UNIT_ROUNDOFF = 2.0**-24
EXTRA_ROUNDINGS = 8
"""Roundings beside those of the sums themselves: casts, the last additions."""
UNDERFLOW = 1e-34
"""More than what numbers too small for float32 can add up to."""
SHORTEST = 1e-18
"""Vectors shorter than this have no direction that float32 could hold."""


@dataclass(frozen=True)
class Placed:
    """Vectors [n, d] as given, as the products take them, and their squared lengths [n]."""

    raw: F32
    scaled: F32
    squared: F64


def _roundoff(vectors: Placed) -> float:
    return float(vectors.raw.shape[1] + EXTRA_ROUNDINGS) * UNIT_ROUNDOFF


def _products(left: F64, right: F64) -> F64:
    # One row's sum does not depend on where the row stands, so equal vectors tie exactly.
    products: F64 = np.einsum("ij,ij->i", left, right)
    return products


class Metric:
    """One distance; the methods take targets [q, d] and a block of sources [b, d]."""

    name: ClassVar[str]

    def placed(self, vectors: F32) -> Placed:
        """The vectors, ready for `keys`."""
        return Placed(vectors, vectors, squared_lengths(vectors))

    def keys(self, targets: Placed, block: Placed, out: F32) -> None:
        """Fill `out` [q, b] with keys; the smaller, the nearer."""
        raise NotImplementedError

    def key_of(self, distance: F64, targets: Placed) -> F64:
        """The key that a source at this distance of each target would have without rounding, [q]."""
        raise NotImplementedError

    def slack(self, key: F64, targets: Placed, block: Placed) -> F64:
        """How far rounding can carry a key of about `key`, per target [q]."""
        raise NotImplementedError

    def distance(self, source: F64, target: F64) -> F64:
        """The distances of pairs, row by row, in float64."""
        raise NotImplementedError


class _Cosine(Metric):
    """1 - s·t / (|s| |t|)."""

    name = "cosine"

    def placed(self, vectors: F32) -> Placed:
        squared = squared_lengths(vectors)
        # Shorter ones are refused by the search, which knows their row numbers.
        scale = 1 / np.sqrt(np.maximum(squared, SHORTEST**2))
        return Placed(vectors, vectors * scale.astype(np.float32)[:, None], squared)

    def keys(self, targets: Placed, block: Placed, out: F32) -> None:
        np.matmul(-targets.scaled, block.scaled.T, out=out)

    def key_of(self, distance: F64, targets: Placed) -> F64:
        return distance - 1

    def slack(self, key: F64, targets: Placed, block: Placed) -> F64:
        # Twice: half a roundoff each comes from the lengths that both sides are divided by.
        return np.full(len(targets.raw), 2 * _roundoff(targets))

    def distance(self, source: F64, target: F64) -> F64:
        return 1 - _products(source, target) / np.sqrt(_products(source, source) * _products(target, target))


class _Euclidean(Metric):
    """|s - t|; the key is |s|^2 - 2 s·t, which leaves out the target's own |t|^2."""

    name = "euclidean"

    def keys(self, targets: Placed, block: Placed, out: F32) -> None:
        np.matmul(-2 * targets.scaled, block.scaled.T, out=out)
        out += block.squared.astype(np.float32)

    def key_of(self, distance: F64, targets: Placed) -> F64:
        return distance**2 - targets.squared

    def slack(self, key: F64, targets: Placed, block: Placed) -> F64:
        reach = np.sqrt(targets.squared) + np.sqrt(block.squared.max())
        slack: F64 = _roundoff(targets) * reach**2 + UNDERFLOW
        return slack

    def distance(self, source: F64, target: F64) -> F64:
        apart = source - target
        return np.sqrt(_products(apart, apart))


class _Manhattan(Metric):
    """The sum of |s_i - t_i|; it has no product form, so every pair is gone through."""

    name = "manhattan"

    ROWS_IN_CACHE: ClassVar[int] = 512

    def keys(self, targets: Placed, block: Placed, out: F32) -> None:
        for first in range(0, len(block.raw), self.ROWS_IN_CACHE):
            rows = block.raw[first : first + self.ROWS_IN_CACHE]
            room = np.empty_like(rows)
            for number, target in enumerate(targets.raw):
                np.abs(np.subtract(rows, target, out=room), out=room)
                room.sum(axis=1, out=out[number, first : first + len(rows)])

    def key_of(self, distance: F64, targets: Placed) -> F64:
        return distance

    def slack(self, key: F64, targets: Placed, block: Placed) -> F64:
        return _roundoff(targets) * key

    def distance(self, source: F64, target: F64) -> F64:
        distance: F64 = np.abs(source - target).sum(axis=1)
        return distance


METRICS: dict[str, Metric] = {metric.name: metric for metric in (_Cosine(), _Euclidean(), _Manhattan())}
