import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import InputError
from tasks.mining import ledger
from tasks.mining.ledger import Selection, forget_after, mined_before, read_ledger, recommendation, select_new
from tasks.mining.paths import identity


class Run:
    """A loop run's folder with its ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.history = folder / "mining_history.json"

    def give(self, iteration: int, paths: list[str]) -> Path:
        path = self.folder / f"candidates_{iteration}.parquet"
        columns = {"filepath": pa.array(paths, pa.string()), "max_cosine_similarity": [0.9] * len(paths)}
        pq.write_table(pa.table(columns), path)
        return path

    def select(self, iteration: int, candidates: Path | None = None, **more: Any) -> Selection:
        return select_new(
            self.history,
            iteration,
            candidates or self.folder / f"candidates_{iteration}.parquet",
            self.folder / f"mined_{iteration}.parquet",
            self.folder / f"summary_{iteration}.json",
            **{"topn": 5, **more},
        )

    def mined(self, iteration: int) -> list[str]:
        return pq.read_table(self.folder / f"mined_{iteration}.parquet")["filepath"].to_pylist()

    def bytes(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}


@pytest.fixture
def loop(tmp_path: Path) -> Run:
    return Run(tmp_path)


@pytest.fixture
def three(loop: Run) -> Run:
    """Three committed iterations."""
    for iteration, paths in enumerate((["a", "b"], ["b", "c", "./a"], ["c", "d"]), 1):
        loop.give(iteration, paths)
        loop.select(iteration)
    return loop


def test_three_iterations_are_disjoint(three: Run):
    assert [three.mined(iteration) for iteration in (1, 2, 3)] == [["a", "b"], ["c"], ["d"]]
    summary = json.loads((three.folder / "summary_2.json").read_text())
    assert summary["already_mined_count"] == 2
    assert summary["historical_candidate_rate"] == pytest.approx(2 / 3)
    assert (summary["history_count_before"], summary["cumulative_unique_count"]) == (2, 3)
    assert "wider topn" in summary["recommendation"]
    history = read_ledger(three.history)
    assert history.cumulative_unique_count == 4
    assert read_ledger(three.history).paths() == {"a", "b", "c", "d"}


def test_rows_keep_order_spelling_and_schema_and_repeat_no_path(loop: Run):
    loop.give(1, ["x/../b", " a", "b", "c"])
    selection = loop.select(1)
    assert loop.mined(1) == ["x/../b", " a", "c"]
    assert (selection.candidate_row_count, selection.candidate_duplicate_count) == (4, 1)
    assert pq.read_schema(loop.folder / "mined_1.parquet").names == ["filepath", "max_cosine_similarity"]


def test_zero_new_rows_are_a_legal_result(loop: Run):
    for iteration in (1, 2):
        loop.give(iteration, ["a"])
        selection = loop.select(iteration)
    table = pq.read_table(loop.folder / "mined_2.parquet")
    assert table.num_rows == 0
    assert table.schema.field("filepath").type == pa.string()
    assert "enlarge the pool" in str(selection.recommendation)


def test_no_candidates_at_all(loop: Run):
    loop.give(1, [])
    assert loop.select(1).selected_count == 0


def test_a_budget_takes_the_first_new_rows(loop: Run):
    loop.give(1, ["a", "b", "c"])
    assert loop.select(1, max_new_rows=2).over_budget_count == 1
    loop.give(2, ["a", "c", "d", "e"])
    loop.select(2, max_new_rows=2)
    assert (loop.mined(1), loop.mined(2)) == (["a", "b"], ["c", "d"])


def test_resuming_any_committed_iteration_gives_the_stored_result(three: Run):
    before = three.bytes()
    for iteration in (1, 2, 3):
        stored = json.loads((three.folder / f"summary_{iteration}.json").read_text())
        assert three.select(iteration).model_dump(mode="json") == stored
    assert three.bytes() == before


def test_a_committed_iteration_cannot_be_asked_for_otherwise(three: Run):
    with pytest.raises(InputError, match=r"committed in .* with another topn"):
        three.select(3, topn=9)
    with pytest.raises(InputError, match="another max_new_rows"):
        three.select(3, max_new_rows=1)
    with pytest.raises(InputError, match="another candidate_parquet"):
        three.select(3, candidates=three.give(9, ["c", "d"]))


@pytest.mark.parametrize("name", ["candidates_1.parquet", "mined_2.parquet", "summary_3.json"])
@pytest.mark.parametrize("harm", ["change", "remove"])
def test_tampering_with_any_file_of_the_past_is_found(three: Run, name: str, harm: str):
    path = three.folder / name
    if harm == "change":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    three.give(4, ["e"])
    with pytest.raises(InputError, match=f"{name} of iteration . (was changed|is missing)"):
        three.select(4)


def spoil(history: Path, harm: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(history.read_text())
    harm(content)
    history.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda content: content["iterations"][2]["selected_filepaths"].__setitem__(0, "./a"), "twice"),
        (lambda content: content["iterations"].pop(1), "without gaps"),
        (lambda content: content.__setitem__("cumulative_unique_count", 9), "counts"),
        (lambda content: content["iterations"][0].__setitem__("selected_count", 1), "counts"),
        (lambda content: content.__setitem__("version", 2), "version"),
        (lambda content: content["iterations"][0].pop("topn"), "topn"),
    ],
)
def test_a_corrupt_ledger_is_refused_and_never_repaired(three: Run, harm: Any, says: str):
    spoil(three.history, harm)
    before = three.bytes()
    with pytest.raises(InputError, match=f"corrupt: .*{says}"):
        three.select(3)
    assert three.bytes() == before


def test_iterations_follow_one_another(loop: Run):
    loop.give(2, ["a"])
    with pytest.raises(InputError, match=r"mining_history\.json: No such file"):
        loop.select(2)
    loop.give(1, ["a"])
    loop.select(1)
    loop.give(3, ["b"])
    with pytest.raises(InputError, match="ends with iteration 1; iteration 3 cannot follow"):
        loop.select(3)


def test_paths_must_differ_and_numbers_be_positive(loop: Run, tmp_path: Path):
    same = loop.give(1, ["a"])
    with pytest.raises(InputError, match="four different files"):
        select_new(loop.history, 1, same, same, tmp_path / "s.json", 5)
    for more in ({"topn": 0}, {"max_new_rows": 0}):
        with pytest.raises(InputError, match="1 or more"):
            loop.select(1, **more)
    with pytest.raises(InputError, match="1 or more"):
        loop.select(0, candidates=same)


def test_a_candidate_without_a_path(loop: Run):
    loop.give(1, ["a", " "])
    with pytest.raises(InputError, match="empty in the rows 2"):
        loop.select(1)


@pytest.mark.parametrize("crash_at", ["write_parquet", "write_json", "ledger"])
def test_a_crash_before_the_ledger_leaves_the_old_state_and_running_again_completes(
    loop: Run, crash_at: str, monkeypatch: pytest.MonkeyPatch
):
    loop.give(1, ["a"])
    loop.select(1)
    loop.give(2, ["a", "b"])
    old_ledger = loop.history.read_bytes()

    def crash(path: Path, value: Any) -> Path:
        if crash_at == "ledger" and path != loop.history:
            return write_json(path, value)
        raise KeyboardInterrupt

    write_json = ledger.write_json
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "write_json" if crash_at == "ledger" else crash_at, crash)
        with pytest.raises(KeyboardInterrupt):
            loop.select(2)
    assert loop.history.read_bytes() == old_ledger
    loop.select(2)
    assert loop.mined(2) == ["b"]
    assert read_ledger(loop.history).paths() == {"a", "b"}


@given(
    st.lists(st.lists(st.sampled_from(["a", "./a", "b", "c/../b", "d", "e", "f"])), min_size=1, max_size=5)
)
@settings(max_examples=25, deadline=None)
def test_whatever_is_given_no_image_is_selected_twice(
    tmp_path_factory: pytest.TempPathFactory, iterations: list[list[str]]
):
    run = Run(tmp_path_factory.mktemp("run"))
    selected: list[str] = []
    for iteration, paths in enumerate(iterations, 1):
        run.give(iteration, paths)
        run.select(iteration)
        selected += [identity(path) for path in run.mined(iteration)]
    given_paths = {identity(path) for paths in iterations for path in paths}
    assert len(selected) == len(set(selected))
    assert set(selected) == given_paths == read_ledger(run.history).paths()


def test_recommendations():
    assert recommendation(5, 0.49) is None
    assert "wider topn" in str(recommendation(5, 0.5))
    assert "enlarge" in str(recommendation(0, 1.0))


def test_without_a_ledger_nothing_was_mined(tmp_path: Path):
    assert mined_before(tmp_path / "none.json", 1) == []


def test_ledger_goes_back_to_an_earlier_iteration(three: Run):
    whole = three.history.read_bytes()
    forget_after(three.history, 3)
    assert three.history.read_bytes() == whole
    forget_after(three.history, 1)
    assert read_ledger(three.history).paths() == {"a", "b"} == set(mined_before(three.history, 2))
    assert three.history.with_suffix(".json.bak").read_bytes() == whole
    three.select(2)
    assert three.mined(2) == ["c"]
