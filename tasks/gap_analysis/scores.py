"""`inference.csv` as arrays: one score and one label per sample, read fast and checked whole."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

from tasks.artifacts import existing_file
from tasks.dataset.table import is_pass
from tasks.errors import InputError, listed

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SCORE = "siamese_score"
LABEL = "label"
SAMPLE = ("input_path", "object_name")
FIRST_ROW = 2
"""The first row of data as people count: the header is row 1."""


@dataclass(frozen=True)
class ScoredRows:
    """The rows of an inference CSV, in file order; all arrays have one entry per row.

    Attributes:
        table: the columns that were asked for; the label dictionary-encoded as it is spelled.
        scores: siamese scores, all finite.
        labels: the distinct labels, stripped and upper-cased.
        label_of: for every row the position of its label in `labels`.
        is_pass: for every row whether it is a PASS row; all others are NO_PASS.
    """

    table: pa.Table
    scores: FloatArray
    labels: tuple[str, ...]
    label_of: IntArray
    is_pass: BoolArray

    def __len__(self) -> int:
        return self.scores.size


def read_scores(path: Path, required: Sequence[str] = SAMPLE, every_column: bool = False) -> ScoredRows:
    """Read `label`, `siamese_score` and the `required` columns, or every column of the file.

    Columns other than the score are text, so digit-only names keep their zeros; NA is a label like any.

    Raises:
        InputError: no such file, not a CSV, no rows, columns absent or there twice (all are named), scores
            that are not finite numbers or blank labels (up to 20 rows are named; the header is row 1).
    """
    header = _header(path)
    needed = [*required, LABEL, SCORE]
    missing = [column for column in needed if column not in header]
    if missing:
        raise InputError(
            f"inference CSV {path} lacks the columns {', '.join(missing)}; it has {', '.join(header)}; "
            "run inference again"
        )
    columns = header if every_column else needed
    twice = sorted({column for column in columns if header.count(column) > 1})
    if twice:
        raise InputError(f"inference CSV {path} has columns twice: {', '.join(twice)}; keep one of each")
    table = _table(path, columns)
    if not table.num_rows:
        raise InputError(f"inference CSV {path} contains no rows; run inference again")
    scores = table[SCORE].to_numpy()
    _refuse_rows(path, ~np.isfinite(scores), "scores that are not finite numbers; run inference again")
    return _scored(path, table, scores)


def _header(path: Path) -> list[str]:
    with existing_file(path, "inference CSV").open(encoding="utf-8-sig", newline="") as stream:
        try:
            return next((row for row in csv.reader(stream) if row), [])
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"inference CSV {path} cannot be read as CSV: {error}") from error


def _table(path: Path, columns: Sequence[str]) -> pa.Table:
    try:
        return _parsed(path, columns, pa.float64())
    except pa.ArrowInvalid as error:
        _refuse_text_scores(path, error)
        raise InputError(f"inference CSV {path} cannot be read as CSV: {_one_line(error)}") from error


def _parsed(path: Path, columns: Sequence[str], score_type: pa.DataType) -> pa.Table:
    types = {column: pa.string() for column in columns}
    types |= {LABEL: pa.dictionary(pa.int32(), pa.string()), SCORE: score_type}
    convert = arrow_csv.ConvertOptions(
        include_columns=list(columns), column_types=types, strings_can_be_null=False, null_values=[]
    )
    # A field can hold a line end only where there are quotes; without them blocks are parsed in parallel.
    parse = arrow_csv.ParseOptions(newlines_in_values=_has_quotes(path))
    return arrow_csv.read_csv(path, parse_options=parse, convert_options=convert)


def _has_quotes(path: Path) -> bool:
    with path.open("rb") as stream:
        return any(b'"' in block for block in iter(lambda: stream.read(1 << 20), b""))


def _refuse_text_scores(path: Path, error: pa.ArrowInvalid) -> None:
    """Name the rows whose score is no number, if that is what the parser stumbled over."""
    try:
        text = _parsed(path, [LABEL, SCORE], pa.string())[SCORE].to_pandas()
    except pa.ArrowInvalid:
        return
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    _refuse_rows(path, ~np.isfinite(numbers), "scores that are not finite numbers; run inference again")


def _scored(path: Path, table: pa.Table, scores: FloatArray) -> ScoredRows:
    spelled = table[LABEL].unify_dictionaries().combine_chunks()
    upper = [label.strip().upper() for label in spelled.dictionary.to_pylist()]
    labels = tuple(dict.fromkeys(upper))
    position = {label: number for number, label in enumerate(labels)}
    of_spelling = np.array([position[label] for label in upper], dtype=np.int64)
    label_of = of_spelling[spelled.indices.to_numpy()]
    if "" in position:
        _refuse_rows(path, label_of == position[""], "blank labels; label them or remove them")
    return ScoredRows(table, scores, labels, label_of, is_pass(labels)[label_of])


def _refuse_rows(path: Path, refused: BoolArray, what: str) -> None:
    rows = np.flatnonzero(refused) + FIRST_ROW
    if rows.size:
        raise InputError(f"inference CSV {path}: {rows.size} rows have {what}: rows {listed(rows.tolist())}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
