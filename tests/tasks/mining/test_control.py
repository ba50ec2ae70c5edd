import logging
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tasks.errors import InputError
from tasks.mining.control import draw_control
from tasks.mining.ledger import select_new

TableOf = Callable[..., Path]
NAMES = [f"p{number}" for number in range(50)]


@pytest.fixture
def pool(table_of: TableOf) -> Path:
    return table_of("pool", filepath=NAMES, label=["PASS"] * 50, other=NAMES)


def drawn(pool: Path, count: int, seed: int = 0, history: Path = Path("none.json")) -> list[str]:
    out = pool.with_name("control.parquet")
    assert draw_control(pool, count, seed, history, out) == pq.read_metadata(out).num_rows
    assert pq.read_schema(out).names == ["filepath", "label"]
    return pq.read_table(out)["filepath"].to_pylist()


def test_the_seed_decides_and_the_order_of_the_pool_does_not(pool: Path, table_of: TableOf):
    backwards = table_of("backwards", filepath=NAMES[::-1], label=["PASS"] * 50)
    first = drawn(pool, 10)
    assert len(set(first)) == 10
    assert drawn(pool, 10) == first == drawn(backwards, 10)
    assert drawn(pool, 10, seed=1) != first


def test_what_the_ledger_holds_is_not_drawn_again(pool: Path, tmp_path: Path):
    history = tmp_path / "history.json"
    for iteration in (1, 2):
        candidates = tmp_path / f"candidates_{iteration}.parquet"
        draw_control(pool, 20, iteration, history, candidates)
        selection = select_new(
            history,
            iteration,
            candidates,
            tmp_path / f"mined_{iteration}.parquet",
            tmp_path / f"s{iteration}.json",
            topn=1,
        )
        assert selection.selected_count == 20
    assert len(drawn(pool, 10, history=history)) == 10


def test_a_pool_that_is_too_small_gives_what_it_has(pool: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING, "deft")
    assert sorted(drawn(pool, 60)) == sorted(NAMES)
    assert "only 50" in caplog.text
    assert drawn(pool, 0) == []


def test_a_negative_count(pool: Path, tmp_path: Path):
    with pytest.raises(InputError, match="negative"):
        draw_control(pool, -1, 0, tmp_path / "none.json", tmp_path / "out.parquet")
