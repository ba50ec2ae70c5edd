"""Parquet tables of images and of their embeddings: reading, checking, streaming."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.artifacts import existing_file
from tasks.errors import InputError, listed

Vectors = npt.NDArray[np.float32]

EMBEDDING = "embedding"
VECTOR_TYPE = pa.list_(pa.field("element", pa.float32(), nullable=False))
ROW_GROUP = 8192
LONGEST = 1e18
"""Longest vector whose squares and their sums are safe in float32."""


def open_parquet(path: Path, what: str) -> Any:
    """The open parquet file; raises `InputError` when it is missing or not parquet."""
    try:
        return pq.ParquetFile(existing_file(path, what), pre_buffer=False)  # True would read it all
    except pa.ArrowInvalid as error:
        raise InputError(f"{what} {path} is not a parquet file: {_one_line(error)}") from error


def read_parquet(
    path: Path,
    what: str,
    columns: Sequence[str] | None = None,
    required: Sequence[str] = ("filepath",),
    may_be_empty: bool = False,
) -> pa.Table:
    """A parquet file as a table, without the pandas index that may be stored in it.

    Args:
        path: the file.
        what: what it is, for the error message.
        columns: those to read, where present; all when None.
        required: columns that must be there.
        may_be_empty: whether a table without rows will do.

    Raises:
        InputError: missing, not parquet, no rows, or a required column absent.
    """
    file = open_parquet(path, what)
    names = [name for name in file.schema_arrow.names if not name.startswith("__index_level_")]
    absent = [name for name in required if name not in names]
    if absent:
        raise InputError(f"{what} {path} lacks the columns {', '.join(absent)}; it has {', '.join(names)}")
    if file.metadata.num_rows == 0 and not may_be_empty:
        raise InputError(f"{what} {path} contains no rows")
    chosen = [name for name in names if columns is None or name in columns]
    return file.read(columns=chosen).replace_schema_metadata(None)


def text_column(table: pa.Table, column: str, what: str) -> pa.ChunkedArray:
    """A column of text without gaps.

    Raises:
        InputError: the column is not text, or some rows (counted from 1) are empty.
    """
    values = table[column]
    if not len(values):
        return pa.chunked_array([[]], pa.string())
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise InputError(f"{what}: column {column} holds {values.type}, not text")
    empty = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(values), ""), True)
    if pc.any(empty).as_py():
        rows = (np.flatnonzero(empty) + 1).tolist()
        raise InputError(f"{what}: column {column} is empty in the rows {listed(rows)}; fill or remove them")
    return values


def texts(table: pa.Table, column: str, what: str) -> list[str]:
    """`text_column` as a list; raises as it does."""
    found: list[str] = text_column(table, column, what).to_pylist()
    return found


def vector_blocks(path: Path, column: str, what: str, rows: int = ROW_GROUP) -> Iterator[Vectors]:
    """The vectors of a parquet file as float32 [up to `rows`, d], block after block in row order.

    Raises:
        InputError: the column is missing or no list of numbers; a vector is null, not finite, longer than
            `LONGEST`, or not of the first one's dimension. The message names rows, counted from 1.
    """
    file = open_parquet(path, what)
    if column not in file.schema_arrow.names:
        raise InputError(
            f"{what} {path} has no column {column}; make it first with: embedding image_embeddings "
            f"(columns found: {', '.join(file.schema_arrow.names)})"
        )
    dim, first = None, 0
    for batch in file.iter_batches(batch_size=rows, columns=[column]):
        block = _block(batch.column(0), f"{what} {path}", first)
        dim = block.shape[1] if dim is None else dim
        if block.shape[1] != dim:
            raise InputError(
                f"{what} {path}: vectors have {dim} numbers up to row {first}, then {block.shape[1]}"
            )
        yield block
        first += len(block)


def _block(array: Any, where: str, first: int) -> Vectors:
    is_list = pa.types.is_list(array.type) or pa.types.is_large_list(array.type)
    if not (is_list or pa.types.is_fixed_size_list(array.type)) or not _is_number(array.type.value_type):
        raise InputError(f"{where}: the vectors are stored as {array.type}, not as lists of numbers")
    lengths = pc.fill_null(pc.list_value_length(array), -1).to_numpy(zero_copy_only=False)
    wanted = int(np.median(lengths[lengths > 0])) if (lengths > 0).any() else 0
    _refuse(where, first, (lengths != wanted) | (lengths <= 0), f"are not {wanted} numbers long")
    values = array.flatten().to_numpy(zero_copy_only=False).reshape(-1, wanted)
    with np.errstate(over="ignore"):
        block = np.ascontiguousarray(values, dtype=np.float32)
    # A null number inside a list reads as NaN, and NaN is not <= anything.
    usable = squared_lengths(block) <= LONGEST**2
    _refuse(where, first, ~usable, f"are not finite, or longer than {LONGEST:g}")
    return block


def squared_lengths(vectors: Vectors) -> npt.NDArray[np.float64]:
    """The squared Euclidean length of every row, summed in float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        squared: npt.NDArray[np.float64] = np.einsum("ij,ij->i", vectors, vectors).astype(np.float64)
    return squared


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _refuse(where: str, first: int, bad: npt.NDArray[np.bool_], problem: str) -> None:
    rows = np.flatnonzero(bad) + first + 1
    if len(rows):
        raise InputError(f"{where}: the vectors of the rows {listed(rows.tolist())} {problem}; embed again")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
