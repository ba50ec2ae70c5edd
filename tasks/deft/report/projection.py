"""Where weak samples, mined samples and the rest of the pool lie: their embeddings in two dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from tasks.artifacts import sha256_of
from tasks.deft.report.files import LoopFiles, attempt
from tasks.spec import digest

Points = npt.NDArray[np.float32]

MOST_REST = 1500
MOST_WEAK = 1000
GRID = 160
"""Points are shown on a grid of this many steps each way; those on one place are drawn once."""


@dataclass(frozen=True)
class Map:
    """Points in two dimensions, (n, 2) each.

    Attributes:
        key: of the files that it was made from, by which a chart of it is kept.
        weak: samples that mining was asked about.
        mined: samples of the pool that became training rows.
        rest: others of the pool, at most `MOST_REST`, taken at equal steps.
        sampled: how many samples of the pool are in `rest` before points on one place became one.
        pool: how many samples the pool has.
        variance: share of the variance of the high-dimensional points that is seen, 0 to 1.
    """

    key: str
    weak: Points = field(compare=False)
    mined: Points = field(compare=False)
    rest: Points = field(compare=False)
    sampled: int
    pool: int
    variance: float


def embedding_map(files: LoopFiles, label: str) -> Map | None:
    """The map of an iteration's mining; None where its embeddings cannot be read."""
    phase = files.state.phase(label)
    source, target = files.place(phase.source_embeddings), files.place(phase.target_embeddings)
    mined = files.parquet(phase.mined_parquet, "filepath")
    if source is None or target is None or mined is None:
        return None
    names = frozenset(mined["filepath"])
    return attempt(lambda: _map(source, sha256_of(source), target, sha256_of(target), names))


@lru_cache(maxsize=8)
def _map(source: Path, source_sha: str, target: Path, target_sha: str, mined: frozenset[str]) -> Map:
    pool = pq.read_metadata(source).num_rows
    step = max(1, -(-pool // MOST_REST))
    found, others, position = [], [], 0
    for names, vectors in _batches(source):
        chosen = np.fromiter((name in mined for name in names), dtype=bool, count=len(names))
        regular = (np.arange(position, position + len(names)) % step == 0) & ~chosen
        found.append(vectors[chosen])
        others.append(vectors[regular])
        position += len(names)
    weak = np.concatenate([vectors for _, vectors in _batches(target)])
    weak = weak[:: max(1, -(-len(weak) // MOST_WEAK))]
    parts = [weak, np.concatenate(found), np.concatenate(others)]
    flat, variance = two_dimensions(np.concatenate(parts))
    places = np.split(flat, np.cumsum([len(part) for part in parts])[:-1])
    weak, found_at, rest = (np.unique(part, axis=0) for part in places)
    key = f"{source_sha} {target_sha} {digest(sorted(mined))}"
    return Map(key, weak, found_at, rest, sampled=len(parts[2]), pool=pool, variance=variance)


def _batches(path: Path) -> Iterator[tuple[list[str], Points]]:
    for batch in pq.ParquetFile(path).iter_batches(8192, columns=["filepath", "embedding"]):
        vectors = batch.column("embedding").flatten().to_numpy(zero_copy_only=False)
        yield batch.column("filepath").to_pylist(), vectors.astype(np.float32).reshape(batch.num_rows, -1)


def two_dimensions(vectors: Points) -> tuple[Points, float]:
    """The vectors along their two main directions (PCA), and the share of variance that these hold.

    Signs are chosen so that the largest entry of each direction is positive: equal vectors, equal map.

    Args:
        vectors: shape (n, d), n and d at least 2.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    # The SVD of the d x d scatter gives the directions that the SVD of the n x d points gives, sooner.
    directions, spread, _ = np.linalg.svd(centred.T @ centred, hermitian=True)
    main = directions[:, :2]
    main = main * np.sign(main[np.argmax(np.abs(main), axis=0), [0, 1]])
    flat = centred @ main
    size = np.ptp(flat, axis=0)
    flat = np.round((flat - flat.min(axis=0)) / np.where(size > 0, size, 1) * GRID)
    total = float(spread.sum())
    return flat.astype(np.float32), float(spread[:2].sum()) / total if total else 0.0
