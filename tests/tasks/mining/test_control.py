import logging
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tasks.errors import InputError
from tasks.mining.control import draw_control, with_random_pass

TableOf = Callable[..., Path]
NAMES = [f"p{number}" for number in range(50)]


@pytest.fixture
def pool(table_of: TableOf) -> Path:
    return table_of("pool", filepath=NAMES, label=["PASS"] * 50, other=NAMES)


def drawn(pool: Path, count: int, seed: int = 0, used: list[str] | None = None) -> list[str]:
    out = pool.with_name("control.parquet")
    assert draw_control(pool, count, seed, used or [], out) == pq.read_metadata(out).num_rows
    assert pq.read_schema(out).names == ["filepath", "label"]
    return pq.read_table(out)["filepath"].to_pylist()


def test_the_seed_decides_and_the_order_of_the_pool_does_not(pool: Path, table_of: TableOf):
    backwards = table_of("backwards", filepath=NAMES[::-1], label=["PASS"] * 50)
    first = drawn(pool, 10)
    assert len(set(first)) == 10
    assert drawn(pool, 10) == first == drawn(backwards, 10)
    assert drawn(pool, 10, seed=1) != first


def test_what_was_used_before_is_not_drawn_again(pool: Path):
    first = drawn(pool, 40)
    assert sorted(drawn(pool, 10, used=first)) == sorted(set(NAMES) - set(first))


def test_a_pool_that_is_too_small_gives_what_it_has(pool: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING, "deft")
    assert sorted(drawn(pool, 60)) == sorted(NAMES)
    assert "only 50" in caplog.text
    assert drawn(pool, 0) == []


def test_a_negative_count(pool: Path, tmp_path: Path):
    with pytest.raises(InputError, match="negative"):
        draw_control(pool, -1, 0, [], tmp_path / "out.parquet")


MIXED = ["open", "PASS", "spur", " pass ", "open", "PASS"]


@pytest.fixture
def candidates(table_of: TableOf) -> Path:
    return table_of(
        "found", filepath=[f"c{n}" for n in range(6)], label=MIXED, max_cosine_similarity=[0.9] * 6
    )


def replaced(candidates: Path, pool: Path, seed: int = 0, used: list[str] | None = None) -> list[dict]:
    out = candidates.with_name("replaced.parquet")
    with_random_pass(candidates, pool, seed, used or [], out)
    assert pq.read_schema(out).names == ["filepath", "label"]
    return pq.read_table(out).to_pylist()


def test_defects_stay_in_their_places_and_pass_images_are_drawn(candidates: Path, table_of: TableOf):
    pool = table_of("pool", filepath=NAMES, label=["PASS", "open"] * 25)
    rows = replaced(candidates, pool)
    assert [row["filepath"] for row in rows][::2] == ["c0", "c2", "c4"]
    others = [row["filepath"] for row in rows][1::2]
    assert len(set(others)) == 3
    assert set(others) <= set(NAMES[::2])
    assert [row["label"] for row in rows] == ["open", "PASS", "spur", "PASS", "open", "PASS"]
    assert replaced(candidates, pool) == rows
    assert replaced(candidates, pool, seed=1) != rows
    again = replaced(candidates, pool, used=others)
    assert not {row["filepath"] for row in again} & set(others)


def test_no_more_pass_images_than_the_pool_has(candidates: Path, table_of: TableOf):
    pool = table_of("pool", filepath=["p0", "p1"], label=["PASS", "open"])
    assert [row["filepath"] for row in replaced(candidates, pool)] == ["c0", "p0", "c2", "c4"]


def test_candidates_without_pass_stay_as_they_are(pool: Path, table_of: TableOf):
    found = table_of("found", filepath=["a", "b"], label=["open", "spur"])
    assert [row["filepath"] for row in replaced(found, pool)] == ["a", "b"]
