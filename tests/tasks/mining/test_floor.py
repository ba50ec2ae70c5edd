from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError
from tasks.mining.floor import apply_floor, fair_order, histogram

TableOf = Callable[..., Path]


def at(similarity: float) -> list[float]:
    """A vector of that cosine to [1, 0, 0, 0]; 0.9 is exact."""
    if similarity == 0.9:
        return [9.0, 3.0, 3.0, 1.0]
    return [similarity, float(np.sqrt(1 - similarity**2)), 0.0, 0.0]


@pytest.fixture
def files(table_of: TableOf) -> dict[str, Path]:
    similar = {"p1": 0.99, "p2": 0.9, "p3": 0.8999, "p4": 0.0, "unmined": 1.0}
    vectors = [at(value) for value in similar.values()]
    return {
        "mined_raw": table_of("mined_raw", filepath=["p4", "p3", "p2", "p1"]),
        "source_embeddings": table_of(
            "source", filepath=list(similar), embedding=vectors, label=list("abcde")
        ),
        "target_embeddings": table_of(
            "target", filepath=["t1"], embedding=[[2.0, 0.0, 0.0, 0.0]], label=["BRIDGE"]
        ),
    }


def test_the_floor_itself_is_kept_and_the_arithmetic_holds(files: dict[str, Path], tmp_path: Path):
    summary = apply_floor(**files, folder=tmp_path / "out", min_similarity=0.9)
    table = pq.read_table(summary.candidates)
    assert table["filepath"].to_pylist() == ["p1", "p2"]
    assert table["label"].to_pylist() == ["a", "b"]
    assert table["max_cosine_similarity"].to_pylist() == pytest.approx([0.99, 0.9])
    assert table["nearest_target_filepath"].to_pylist() == ["t1", "t1"]
    assert table["nearest_target_label"].to_pylist() == ["BRIDGE", "BRIDGE"]
    rows = pd.read_csv(tmp_path / "out" / "knn_summary.csv").to_dict("records")
    assert rows == [{"candidate_count": 4, "kept_count": 2, "rejected_count": 2, "similarity_threshold": 0.9}]
    assert (tmp_path / "out" / "similarity_histogram.csv").read_text().splitlines() == [
        "from,to,count",
        *["0.0,0.1,1", "0.1,0.2,0", "0.2,0.3,0", "0.3,0.4,0", "0.4,0.5,0"],
        *["0.5,0.6,0", "0.6,0.7,0", "0.7,0.8,0", "0.8,0.9,1", "0.9,1.0,2"],
    ]


def test_the_nearest_of_all_targets_counts(files: dict[str, Path], table_of: TableOf, tmp_path: Path):
    targets = table_of(
        "targets", filepath=["t1", "t2"], embedding=[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
    )
    summary = apply_floor(**{**files, "target_embeddings": targets}, folder=tmp_path / "out")
    table = pq.read_table(summary.candidates)
    assert dict(
        zip(table["filepath"].to_pylist(), table["nearest_target_filepath"].to_pylist(), strict=True)
    ) == {
        "p1": "t1",
        "p2": "t1",
        "p4": "t2",
    }
    assert table["nearest_target_label"].null_count == 3


def test_without_a_floor_all_are_kept(files: dict[str, Path], tmp_path: Path):
    assert apply_floor(**files, folder=tmp_path / "out", min_similarity=None).kept_count == 4


def test_nothing_mined_leaves_files_with_their_schema(
    files: dict[str, Path], table_of: TableOf, tmp_path: Path
):
    for kind in (pa.string(), pa.float64()):  # the container writes an empty column as double
        empty = table_of("none", filepath=pa.array([], kind))
        summary = apply_floor(**{**files, "mined_raw": empty}, folder=tmp_path / "out")
        table = pq.read_table(summary.candidates)
        assert (table.num_rows, summary.candidate_count) == (0, 0)
        assert table.schema.field("max_cosine_similarity").type == pa.float64()
        assert table.schema.field("filepath").type == pa.string()


def test_nothing_kept(files: dict[str, Path], tmp_path: Path):
    assert apply_floor(**files, folder=tmp_path / "out", min_similarity=1.0).kept_count == 0


def test_inputs_that_do_not_belong_together(files: dict[str, Path], table_of: TableOf, tmp_path: Path):
    other = table_of("other", filepath=["p1", "elsewhere"])
    with pytest.raises(InputError, match=r"1 mined images are not in .*: elsewhere"):
        apply_floor(**{**files, "mined_raw": other}, folder=tmp_path / "out")
    with pytest.raises(InputError, match="between -1 and 1"):
        apply_floor(**files, folder=tmp_path / "out", min_similarity=90)
    assert not (tmp_path / "out").exists()


def test_every_target_gets_its_turn_before_any_gets_a_second():
    target = np.array([2, 0, 0, 2, 0, 5])
    similarity = np.array([0.91, 0.92, 0.99, 0.95, 0.93, 0.90])
    assert fair_order(target, similarity).tolist() == [2, 3, 5, 4, 0, 1]


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.9, 0.95, 1.0])), max_size=40))
def test_any_number_of_first_candidates_is_fair(candidates: list[tuple[int, float]]):
    target = np.array([item[0] for item in candidates], np.int64)
    order = fair_order(target, np.array([item[1] for item in candidates]))
    assert sorted(order.tolist()) == list(range(len(candidates)))
    for length in range(len(order)):
        taken = np.bincount(target[order[:length]], minlength=6)
        left = np.bincount(target[order[length:]], minlength=6)
        waiting = taken[left > 0]
        assert not len(waiting) or taken.max() - waiting.min() <= 1


def test_histogram_of_values_at_the_ends():
    assert histogram(np.array([-1.0, 1.0 + 1e-16]))[0] == {"from": -1.0, "to": -0.9, "count": 1}
    assert sum(row["count"] for row in histogram(np.array([0.1, 0.11, 1.0]))) == 3
    assert histogram(np.array([])) == []
