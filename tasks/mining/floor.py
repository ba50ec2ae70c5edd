"""The similarity floor: of what the neighbour search found, only what is really alike."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.artifacts import write_csv, write_parquet
from tasks.embedding.tables import EMBEDDING, read_parquet, texts, vector_blocks
from tasks.errors import InputError, listed
from tasks.mining.metrics import F32, F64
from tasks.mining.neighbours import I64, nearest
from tasks.mining.paths import identity

logger = logging.getLogger("deft")

TOLERANCE = 1e-9
BINS = np.linspace(-10, 10, 21) / 10
CANDIDATES = (
    ("filepath", pa.string()),
    ("label", pa.string()),
    ("max_cosine_similarity", pa.float64()),
    ("nearest_target_filepath", pa.string()),
    ("nearest_target_label", pa.string()),
)


@dataclass(frozen=True)
class FloorSummary:
    """What the floor kept; `candidate_count` is the sum of the other two counts."""

    candidates: Path
    candidate_count: int
    kept_count: int
    rejected_count: int
    similarity_threshold: float | None


def apply_floor(
    mined_raw: Path,
    source_embeddings: Path,
    target_embeddings: Path,
    folder: Path,
    min_similarity: float | None = 0.9,
) -> FloorSummary:
    """Keep mined images whose cosine similarity to some target reaches the floor.

    Writes into `folder`: `mined_candidates.parquet`, `knn_summary.csv` and `similarity_histogram.csv`.
    The candidates stand in fair order (see `fair_order`), so that any number of first rows is a fair
    choice. `min_similarity=None` keeps all: the floor means something only for the cosine metric.

    Raises:
        InputError: the floor is out of -1..1, or a mined path has no embedding.
    """
    if min_similarity is not None and not -1 <= min_similarity <= 1:
        raise InputError(f"min_similarity {min_similarity} is not between -1 and 1")
    target = read_parquet(target_embeddings, "target embeddings", ("filepath", "label"))
    mined = _mined_paths(mined_raw)
    vectors, labels = _mined_sources(mined, source_embeddings)
    similarity, closest = _closest(vectors, target_embeddings)

    floor = -np.inf if min_similarity is None else min_similarity - TOLERANCE
    kept = np.flatnonzero(similarity >= floor)
    order = kept[fair_order(closest[kept], similarity[kept])]
    columns = (
        [mined[row] for row in order],
        [labels[row] for row in order],
        similarity[order],
        target["filepath"].take(pa.array(closest[order])),
        _labels(target).take(pa.array(closest[order])),
    )
    arrays = [_chunk(values, kind) for values, (_, kind) in zip(columns, CANDIDATES, strict=True)]
    candidates = folder / "mined_candidates.parquet"
    write_parquet(candidates, pa.Table.from_arrays(arrays, schema=pa.schema(CANDIDATES)))

    summary = FloorSummary(candidates, len(mined), len(kept), len(mined) - len(kept), min_similarity)
    counts = {
        "candidate_count": summary.candidate_count,
        "kept_count": summary.kept_count,
        "rejected_count": summary.rejected_count,
        "similarity_threshold": "" if min_similarity is None else min_similarity,
    }
    write_csv(folder / "knn_summary.csv", list(counts), [counts])
    write_csv(folder / "similarity_histogram.csv", ("from", "to", "count"), histogram(similarity))
    logger.info("similarity floor %s: kept %d of %d mined images", min_similarity, len(kept), len(mined))
    return summary


def fair_order(target: I64, similarity: F64) -> I64:
    """The order in which candidates are taken when not all can be.

    Rounds over the targets in their row order, which is weakest first; in each round a target gives
    the most similar candidate that it has left. A candidate belongs to its nearest target.

    Args:
        target: row number of the nearest target of every candidate [n].
        similarity: similarity to it [n].
    """
    by_target = np.lexsort((np.arange(len(target)), -similarity, target))
    starts = np.searchsorted(target[by_target], target[by_target])
    turn = np.arange(len(target)) - starts
    return by_target[np.lexsort((target[by_target], turn))]


def histogram(similarity: F64) -> list[dict[str, float]]:
    """Counts in 20 bins from -1 to 1, from the first that is not empty to the last."""
    counts = np.histogram(np.clip(similarity, -1, 1), BINS)[0]
    used = np.flatnonzero(counts)
    bins = range(used[0], used[-1] + 1) if len(used) else range(0)
    return [
        {"from": round(float(BINS[i]), 1), "to": round(float(BINS[i + 1]), 1), "count": int(counts[i])}
        for i in bins
    ]


def _mined_paths(mined_raw: Path) -> list[str]:
    table = read_parquet(mined_raw, "mined_raw", may_be_empty=True)
    paths = texts(table, "filepath", f"mined_raw {mined_raw}")
    return list({identity(path): path for path in reversed(paths)}.values())[::-1]


def _mined_sources(mined: list[str], source_embeddings: Path) -> tuple[F32, list[str | None]]:
    """The vectors [n, d] and labels of the mined paths; the first row of a path counts."""
    source = read_parquet(source_embeddings, "source embeddings", ("filepath", "label"))
    row_of: dict[str, int] = {}
    for row, path in enumerate(texts(source, "filepath", f"source embeddings {source_embeddings}")):
        row_of.setdefault(identity(path), row)
    unknown = [path for path in mined if identity(path) not in row_of]
    if unknown:
        raise InputError(
            f"{len(unknown)} mined images are not in {source_embeddings}: {listed(unknown)}; "
            "give the embeddings that the search was made on"
        )
    rows = np.array([row_of[identity(path)] for path in mined], dtype=np.int64)
    labels = _labels(source).take(pa.array(rows)).to_pylist()
    return _vectors(source_embeddings, rows), labels


def _vectors(parquet: Path, rows: I64) -> F32:
    vectors: F32 | None = None
    first = 0
    for block in vector_blocks(parquet, EMBEDDING, "source embeddings"):
        if vectors is None:
            vectors = np.empty((len(rows), block.shape[1]), np.float32)
        here = (rows >= first) & (rows < first + len(block))
        vectors[here] = block[rows[here] - first]
        first += len(block)
    assert vectors is not None
    return vectors


def _closest(vectors: F32, target_embeddings: Path) -> tuple[F64, I64]:
    """The largest cosine similarity of every vector over all targets, and the row of that target."""
    if not len(vectors):
        return np.empty(0), np.empty(0, np.int64)
    pairs = nearest(vector_blocks(target_embeddings, EMBEDDING, "target embeddings"), vectors, 1, "cosine")
    return 1 - pairs.distance, pairs.source


def _labels(table: pa.Table) -> pa.ChunkedArray:
    if "label" in table.column_names:
        return table["label"].cast(pa.string())
    return pa.chunked_array([pa.nulls(table.num_rows, pa.string())])


def _chunk(values: object, kind: pa.DataType) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else pa.array(values, kind)
