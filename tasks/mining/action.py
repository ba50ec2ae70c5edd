"""`tmm nearest_neighbors`: the pool images that look most like the weak samples."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.action import ActionCode
from tasks.artifacts import write_json, write_parquet, write_text
from tasks.embedding.sidecar import encoder_match, sidecar_path
from tasks.embedding.tables import read_parquet, text_column, texts, vector_blocks
from tasks.errors import InputError
from tasks.mining.headline import headline
from tasks.mining.metrics import F32
from tasks.mining.neighbours import I64, Pairs, nearest
from tasks.mining.paths import identity
from tasks.mining.spec import NeighboursSpec
from tasks.mining.summary import MiningSummary, summary_text

logger = logging.getLogger("deft")


class _Side:
    """The paths, labels and vectors of the source or the target parquet, without the rows left out."""

    def __init__(self, path: Path, what: str, exclude: Path | None = None) -> None:
        self.path = path
        self.what = what
        table = read_parquet(path, what, columns=("filepath", "label"))
        filepaths = text_column(table, "filepath", f"{what} {path}")
        self._searched = None if exclude is None else _not_in(filepaths, exclude)
        if self._searched is not None:
            table = table.filter(pa.array(self._searched))
        if not table.num_rows:
            raise InputError(f"{exclude} leaves out every row of {what} {path}; enlarge the pool")
        # Arrow columns: a large pool costs no Python string per row.
        self.filepaths = text_column(table, "filepath", f"{what} {path}")
        self.labels = table["label"].cast(pa.string()) if "label" in table.column_names else None

    def vectors(self, column: str) -> Iterator[F32]:
        """The vectors, block after block, in the order of `filepaths`."""
        first = 0
        for block in vector_blocks(self.path, column, self.what):
            rows = slice(first, first + len(block))
            yield block if self._searched is None else block[self._searched[rows]]
            first += len(block)

    def compared_labels(self) -> list[str]:
        """Labels as they are compared: stripped and upper-cased."""
        labels = [] if self.labels is None else self.labels.to_pylist()
        return [str(label).strip().upper() for label in labels]


def run(spec: NeighboursSpec) -> None:
    """Search, filter, and write the unique paths, the pairs and both summaries.

    Raises:
        InputError: an input or the choice of encoders is not what it must be.
    """
    source = _Side(spec.source_parquet, "source_parquet", spec.exclude_parquet)
    target = _Side(spec.target_parquet, "target_parquet")
    match = encoder_match(spec.source_parquet, spec.target_parquet)
    groups = _label_groups(spec, source, target)
    topn = min(spec.topn, len(source.filepaths))
    if topn < spec.topn:
        logger.warning("topn %d is more than the pool has rows; capped to %d", spec.topn, topn)

    targets = np.concatenate(list(target.vectors(spec.target_embed_column_name)))
    within = groups if spec.filter_mode == "within_label" else None
    found = nearest(source.vectors(spec.source_embed_column_name), targets, topn, spec.knn_metric, within)

    same_label = found if groups is None else found.where(groups[0][found.source] == groups[1][found.target])
    kept = same_label
    if spec.distance_threshold >= 0:
        kept = same_label.where(same_label.distance <= spec.distance_threshold)
    mined = list(dict.fromkeys(source.filepaths.take(pa.array(kept.source)).to_pylist()))
    wanted = spec.filter_by_label == "true"
    summary = MiningSummary(
        target_queries=len(target.filepaths),
        source_rows=len(source.filepaths),
        topn_requested=spec.topn,
        topn=topn,
        knn_metric=spec.knn_metric,
        encoder_match=match,
        total_pairs=len(found),
        filter_mode=spec.filter_mode if groups is not None else None,
        kept_by_label=len(same_label) if groups is not None else None,
        label_filter_noop=wanted and groups is None,
        kept_by_distance=len(kept) if spec.distance_threshold >= 0 else None,
        distance_threshold=spec.distance_threshold if spec.distance_threshold >= 0 else None,
        total_candidates=len(kept),
        unique_saved=len(mined),
        output=str(spec.output_parquet),
    )
    _write(spec, _pairs_table(spec, kept, source, target), summary, mined)


def _not_in(filepaths: pa.ChunkedArray, exclude: Path) -> npt.NDArray[np.bool_]:
    """For every path whether `exclude` does not hold it."""
    table = read_parquet(exclude, "exclude_parquet", may_be_empty=True)
    left_out = {identity(path) for path in texts(table, "filepath", f"exclude_parquet {exclude}")}
    return np.array([identity(path) not in left_out for path in filepaths.to_pylist()], dtype=np.bool_)


def _label_groups(spec: NeighboursSpec, source: _Side, target: _Side) -> tuple[I64, I64] | None:
    """One number per label for every source and target row, None where labels do not filter."""
    if spec.filter_by_label == "false":
        return None
    lacking = [side for side in (source, target) if side.labels is None]
    if lacking:
        message = f"filter_by_label is on, but the column label is missing from {lacking[0].path}"
        if spec.label_filter_strict:
            raise InputError(f"{message}; add it, or set label_filter_strict=false")
        logger.warning("%s; skipping the label filter", message)
        return None
    both = [*source.compared_labels(), *target.compared_labels()]
    numbers = np.unique(np.array(both), return_inverse=True)[1].astype(np.int64)
    return numbers[: len(source.filepaths)], numbers[len(source.filepaths) :]


def _pairs_table(spec: NeighboursSpec, pairs: Pairs, source: _Side, target: _Side) -> pa.Table:
    cosine = spec.knn_metric == "cosine"
    similarity = pa.array(1 - pairs.distance, pa.float64()) if cosine else pa.nulls(len(pairs), pa.float64())
    return pa.table(
        {
            "target_filepath": _taken(target.filepaths, pairs.target),
            "target_label": _taken(target.labels, pairs.target),
            "source_filepath": _taken(source.filepaths, pairs.source),
            "source_label": _taken(source.labels, pairs.source),
            "rank": pa.array(pairs.rank, pa.int64()),
            "similarity": similarity,
            "distance": pa.array(pairs.distance, pa.float64()),
        }
    )


def _taken(values: pa.ChunkedArray | None, rows: I64) -> pa.Array:
    return pa.nulls(len(rows), pa.string()) if values is None else values.take(pa.array(rows))


def _write(spec: NeighboursSpec, pairs: pa.Table, summary: MiningSummary, mined: list[str]) -> None:
    write_parquet(spec.pairs_parquet, pairs)
    write_json(spec.summary_json, asdict(summary))
    write_text(spec.summary_txt, summary_text(summary))
    write_parquet(spec.output_parquet, pa.table({"filepath": pa.array(mined, pa.string())}))
    logger.info(summary_text(summary).rstrip())


NEAREST_NEIGHBORS = ActionCode(
    spec=NeighboursSpec,
    run=run,
    folder=lambda spec: spec.output_parquet.parent,
    outputs=lambda spec: {
        "mined": spec.output_parquet,
        "mined_pairs": spec.pairs_parquet,
        "summary": spec.summary_txt,
        "summary_json": spec.summary_json,
    },
    headline=headline,
    reads=lambda spec: [sidecar_path(spec.source_parquet), sidecar_path(spec.target_parquet)],
)
