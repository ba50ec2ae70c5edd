import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.errors import InputError, StageFailed
from tasks.routing.action import ROUTE, RoutingSpec, run

LABELS = ["Missing", "excess solder", "PASS", "tombstone", "missing"]


@pytest.fixture
def gaps(tmp_path: Path) -> Callable[..., Path]:
    def write(labels: list[str | None]) -> Path:
        count = len(labels)
        table = pa.table(
            {
                "filepath": pa.array([f"x{i}.png" for i in range(count)], pa.string()),
                "label": pa.array(labels, pa.string()),
                "siamese_score": pa.array([0.5] * count, pa.float64()),
                "weakness": pa.array([0.1] * count, pa.float64()),
            }
        )
        pq.write_table(table, tmp_path / "gaps.parquet")
        return tmp_path / "gaps.parquet"

    return write


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    path = tmp_path / "pool.csv"
    path.write_text("filepath,label\na.png,TOMBSTONE\nb.png, missing\n")
    return path


def routed(gaps: Path, **more: Any) -> dict[str, Path]:
    spec = RoutingSpec(gaps_parquet=gaps, results_dir=gaps.parent / "out", **more)
    run(spec)
    return ROUTE.outputs(spec)


def labels_in(path: Path) -> list[str]:
    return pq.read_table(path)["label"].to_pylist()


def test_rows_go_where_their_label_is_known(gaps, pool: Path):
    out = routed(gaps(LABELS), pool=pool)
    assert labels_in(out["mining_gaps"]) == ["Missing", "tombstone", "missing"]
    assert labels_in(out["anomalygen_gaps"]) == ["Missing", "excess solder", "PASS", "missing"]
    facts = json.loads(out["routing.json"].read_text())
    assert (facts["total"], facts["to_mining"], facts["to_generation"], facts["to_both"]) == (5, 3, 4, 2)
    assert facts["dropped_labels"] == []


def test_an_empty_side_is_written_with_the_schema_of_the_input(gaps):
    source = gaps(LABELS)
    out = routed(source)
    assert pq.read_table(out["mining_gaps"]).num_rows == 0
    assert pq.read_schema(out["mining_gaps"]).equals(pq.read_schema(source))
    assert "No source pool" in out["routing_summary.txt"].read_text()


def test_the_generator_decides_what_it_supports(gaps, pool: Path):
    out = routed(gaps(["scratch", "missing"]), pool=pool, supported_defects=["Scratch"])
    assert labels_in(out["anomalygen_gaps"]) == ["scratch"]


@pytest.mark.parametrize("labels", [["scratch"], []])
def test_both_sides_empty_fails_after_writing_what_was_found(gaps, pool: Path, labels: list[str]):
    with pytest.raises(StageFailed, match=f"none of its {len(labels)} weak samples"):
        routed(gaps(labels), pool=pool)
    folder = pool.parent / "out"
    assert pq.read_table(folder / "mining_gaps.parquet").num_rows == 0
    facts = json.loads((folder / "routing.json").read_text())
    assert facts["dropped_labels"] == [label.upper() for label in labels]


def test_a_queue_that_is_not_usable_is_refused(gaps, pool: Path, tmp_path: Path):
    metrics = tmp_path / "metrics.json"
    metrics.write_text('{"queue_usable": false}')
    with pytest.raises(InputError, match="positive top_k_per_label"):
        routed(gaps(LABELS), pool=pool, metrics_json=metrics)
    assert not (tmp_path / "out").exists()
    metrics.write_text('{"queue_usable": true}')
    routed(gaps(LABELS), pool=pool, metrics_json=metrics)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("filepath\na.png\n", "lacks the columns label"),
        ("filepath,label\n", "no rows"),
        (None, "No such file"),
    ],
)
def test_a_pool_that_was_given_must_be_one(gaps, tmp_path: Path, content: str | None, says: str):
    path = tmp_path / "other.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=says):
        routed(gaps(LABELS), pool=path)
    assert not (tmp_path / "out").exists()


def test_a_parquet_pool_with_embeddings(gaps, tmp_path: Path):
    path = tmp_path / "pool.parquet"
    pq.write_table(pa.table({"filepath": ["a"], "label": ["missing"], "embedding": [[1.0]]}), path)
    assert labels_in(routed(gaps(LABELS), pool=path)["mining_gaps"]) == ["Missing", "missing"]


def test_gaps_without_label_are_refused(gaps):
    with pytest.raises(InputError, match="1 rows have no label"):
        routed(gaps(["missing", None]))
