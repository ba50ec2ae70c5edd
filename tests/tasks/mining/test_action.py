import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.embedding.sidecar import Sidecar
from tasks.errors import InputError
from tasks.mining.action import NEAREST_NEIGHBORS, run
from tasks.mining.spec import NeighboursSpec

TableOf = Callable[..., Path]
ANGLES = {"a": 0.0, "b": 0.1, "c": 0.2, "d": 1.5, "e": 1.6}


def unit(angle: float) -> list[float]:
    return [float(np.cos(angle)), float(np.sin(angle))]


@pytest.fixture
def pool(table_of: TableOf) -> Path:
    return table_of(
        "pool",
        filepath=list(ANGLES),
        embedding=[unit(angle) for angle in ANGLES.values()],
        label=["PASS", "bridge ", "BRIDGE", "missing", "missing"],
    )


@pytest.fixture
def weak(table_of: TableOf) -> Path:
    vectors = [unit(0.0), unit(1.52)]
    return table_of("weak", filepath=["t1", "t2"], embedding=vectors, label=["Bridge", "MISSING"])


def mine(source: Path, target: Path, **more: Any) -> NeighboursSpec:
    out = source.parent / "results" / "mined.parquet"
    values = {"knn_metric": "cosine", "topn": 2, **more}
    spec = NeighboursSpec(source_parquet=source, target_parquet=target, output_parquet=out, **values)
    run(spec)
    return spec


def mined(spec: NeighboursSpec) -> list[str]:
    return pq.read_table(spec.output_parquet)["filepath"].to_pylist()


def facts(spec: NeighboursSpec) -> dict[str, Any]:
    return json.loads(spec.summary_json.read_text())


def test_pairs_are_flat_ranked_and_carry_labels(pool: Path, weak: Path):
    spec = mine(pool, weak)
    pairs = pq.read_table(spec.pairs_parquet)
    assert pairs.column_names == [
        "target_filepath",
        "target_label",
        "source_filepath",
        "source_label",
        "rank",
        "similarity",
        "distance",
    ]
    assert pairs["source_filepath"].to_pylist() == ["a", "b", "d", "e"] == mined(spec)
    assert pairs["rank"].to_pylist() == [1, 2, 1, 2]
    assert pairs["similarity"].to_pylist() == pytest.approx([1, np.cos(0.1), np.cos(0.02), np.cos(0.08)])
    assert all(path.is_file() for path in NEAREST_NEIGHBORS.outputs(spec).values())


def test_other_metrics_have_no_similarity(pool: Path, weak: Path):
    pairs = pq.read_table(mine(pool, weak, knn_metric="euclidean").pairs_parquet)
    assert pairs["similarity"].null_count == len(pairs)


def test_the_label_filter_acts_after_the_search_or_within_the_label(pool: Path, weak: Path):
    after = mine(pool, weak, filter_by_label="true")
    assert mined(after) == ["b", "d", "e"]
    assert facts(after)["kept_by_label"] == 3
    within = mine(pool, weak, filter_by_label="true", filter_mode="within_label")
    assert mined(within) == ["b", "c", "d", "e"]


def test_a_label_filter_without_labels_says_so_and_changes_nothing(
    pool: Path, table_of: TableOf, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "deft")
    target = table_of("plain", filepath=["t"], embedding=[unit(0.0)])
    unfiltered = mined(mine(pool, target))
    spec = mine(pool, target, filter_by_label="true")
    assert mined(spec) == unfiltered
    assert facts(spec)["label_filter_noop"] is True
    assert re.search("filter_by_label.*label.*missing.*skipping", caplog.text, re.IGNORECASE)
    with pytest.raises(InputError, match="label_filter_strict=false"):
        mine(pool, target, filter_by_label="true", label_filter_strict=True)


def test_topn_above_the_pool_is_capped_with_a_warning(
    pool: Path, weak: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING, "deft")
    spec = mine(pool, weak, topn=9)
    assert len(mined(spec)) == 5
    assert (facts(spec)["topn"], facts(spec)["topn_requested"]) == (5, 9)
    assert "capped to 5" in caplog.text


def test_an_empty_result_keeps_the_column_type(pool: Path, weak: Path):
    spec = mine(pool, weak, topn=1, knn_metric="manhattan", distance_threshold=0.0, filter_by_label="true")
    table = pq.read_table(spec.output_parquet)
    assert table.num_rows == 0
    assert table.schema.field("filepath").type == pa.string()


def test_sidecars_of_two_encoders_are_refused_before_anything_is_written(pool: Path, weak: Path):
    values = {"spec_sha256": "s", "revision": None, "model_config_path": None, "batch_size": 1}
    common = {**values, "model": "SigLIP", "dim": 2, "rows": 1, "input_sha256": "i"}
    Sidecar(model_path="one", weights_sha256="v", **common).write(pool)
    Sidecar(model_path="two", weights_sha256="w", **common).write(weak)
    with pytest.raises(InputError, match=r"one / two: weights_sha256 v / w"):
        mine(pool, weak)
    assert not (pool.parent / "results").exists()
    Sidecar(model_path="one", weights_sha256="v", **common).write(weak)
    assert facts(mine(pool, weak))["encoder_match"] == "yes"


def test_without_sidecars_the_match_is_unverified(pool: Path, weak: Path):
    assert facts(mine(pool, weak))["encoder_match"] == "unverified"


def test_a_raw_parquet_names_the_missing_step(pool: Path, table_of: TableOf):
    with pytest.raises(InputError, match="embedding image_embeddings"):
        mine(pool, table_of("raw", filepath=["t"]))


def test_empty_tables_are_refused(pool: Path, table_of: TableOf):
    empty = table_of(
        "empty", filepath=pa.array([], pa.string()), embedding=pa.array([], pa.list_(pa.float32()))
    )
    with pytest.raises(InputError, match=r"target_parquet .*no rows"):
        mine(pool, empty)
    with pytest.raises(InputError, match=r"source_parquet .*no rows"):
        mine(empty, pool)


def test_missing_labels_match_one_another_only(pool: Path, table_of: TableOf):
    vectors = [unit(0.0), unit(0.0)]
    target = table_of("gaps", filepath=["t1", "t2"], embedding=vectors, label=[None, "PASS"])
    assert mined(mine(pool, target, filter_by_label="true")) == ["a"]


def test_the_same_inputs_give_the_same_bytes(pool: Path, weak: Path):
    spec = mine(pool, weak)
    first = {name: path.read_bytes() for name, path in NEAREST_NEIGHBORS.outputs(spec).items()}
    run(spec)
    assert {name: path.read_bytes() for name, path in NEAREST_NEIGHBORS.outputs(spec).items()} == first


def test_excluded_images_are_not_searched(pool: Path, weak: Path, table_of: TableOf):
    used = table_of("used", filepath=["./a", "d"])
    assert mined(mine(pool, weak, topn=1)) == ["a", "d"]
    assert mined(mine(pool, weak, topn=1, exclude_parquet=used)) == ["b", "e"]


def test_search_with_every_image_excluded_is_refused(pool: Path, weak: Path, table_of: TableOf):
    used = table_of("used", filepath=list(ANGLES))
    with pytest.raises(InputError, match="leaves out every row"):
        mine(pool, weak, exclude_parquet=used)
