from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.embedding.tables import read_parquet, texts, vector_blocks
from tasks.errors import InputError


def stored(tmp_path: Path, vectors: Any, kind: pa.DataType | None = None) -> Path:
    path = tmp_path / "embeddings.parquet"
    pq.write_table(pa.table({"embedding": pa.array(vectors, kind)}), path)
    return path


def all_vectors(path: Path, rows: int = 3) -> np.ndarray:
    return np.concatenate(list(vector_blocks(path, "embedding", "source", rows)))


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float64()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float16()),
        pa.list_(pa.float32(), 2),
        pa.list_(pa.int64()),
    ],
)
def test_every_way_to_store_vectors_reads_the_same(tmp_path: Path, kind: pa.DataType):
    vectors = [[float(i), float(-i)] for i in range(1, 9)]
    found = all_vectors(stored(tmp_path, vectors, kind))
    assert found.dtype == np.float32
    assert found.tolist() == vectors


@pytest.mark.parametrize(
    ("vectors", "says"),
    [
        ([[1.0, 2.0], [1.0], [3.0, 4.0]], "rows 2 are not 2 numbers long"),
        ([[1.0, 2.0], None, [3.0, 4.0]], "rows 2 are not 2"),
        ([[1.0, 2.0], [1.0, None], [3.0, 4.0]], "rows 2 are not finite"),
        ([[1.0, 2.0], [1.0, 2.0], [3.0, float("inf")]], "rows 3 are not finite"),
        ([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1e30, 0.0]], "rows 4 are not finite, or longer"),
        ([[1.0, 1e300]], "not finite"),
        ([[1.0]] * 3 + [[1.0, 2.0]] * 3, "1 numbers up to row 3, then 2"),
        ([[], []], "rows 1, 2"),
    ],
)
def test_unusable_vectors_are_named_by_row(tmp_path: Path, vectors: list[Any], says: str):
    with pytest.raises(InputError, match=says):
        all_vectors(stored(tmp_path, vectors, pa.list_(pa.float64())))


def test_text_instead_of_vectors(tmp_path: Path):
    with pytest.raises(InputError, match="stored as string"):
        all_vectors(stored(tmp_path, ["[1, 2]"]))


def test_a_missing_column_names_the_missing_step(tmp_path: Path):
    path = stored(tmp_path, [[1.0]])
    with pytest.raises(InputError, match="embedding image_embeddings"):
        list(vector_blocks(path, "vector", "source"))


def test_a_stored_pandas_index_changes_nothing(tmp_path: Path):
    path = tmp_path / "indexed.parquet"
    pd.DataFrame({"filepath": ["a", "b"]}, index=[7, 3]).to_parquet(path)
    table = read_parquet(path, "pool")
    assert table.to_pydict() == {"filepath": ["a", "b"]}


def test_tables_that_are_not_what_they_must_be(tmp_path: Path):
    csv = tmp_path / "pool.csv"
    csv.write_text("filepath\na\n")
    empty = tmp_path / "empty.parquet"
    pq.write_table(pa.table({"filepath": pa.array([], pa.string())}), empty)
    with pytest.raises(InputError, match="not a parquet file"):
        read_parquet(csv, "pool")
    with pytest.raises(InputError, match="No such file"):
        read_parquet(tmp_path / "none.parquet", "pool")
    with pytest.raises(InputError, match="no rows"):
        read_parquet(empty, "pool")
    with pytest.raises(InputError, match="lacks the columns label; it has filepath"):
        read_parquet(empty, "pool", required=["filepath", "label"])
    assert texts(read_parquet(empty, "pool", may_be_empty=True), "filepath", "pool") == []


def test_gaps_in_a_text_column_are_named_by_row():
    with pytest.raises(InputError, match="rows 2, 3"):
        texts(pa.table({"filepath": ["a", None, " "]}), "filepath", "pool")
    with pytest.raises(InputError, match="holds int64"):
        texts(pa.table({"filepath": [1]}), "filepath", "pool")
