from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dataset.assembly import (
    combined,
    in_workspace_coordinates,
    provenance_of_base,
    with_normalised_labels,
)
from tasks.dataset.leakage import ImageSet
from tasks.dataset.table import Lighting
from tasks.errors import InputError

LIGHTING = Lighting(("SolderLight",), ".jpg")
ROOT = Path("/workspace")


def _set(rows: list[dict[str, str]], root: Path = ROOT) -> ImageSet:
    return ImageSet("training CSV", pd.DataFrame(rows, dtype=str), root, LIGHTING)


def _row(name: str, label: str = "PASS", folder: str = "images/b", **more: str) -> dict[str, str]:
    return {"input_path": folder, "golden_path": "images/g", "label": label, "object_name": name, **more}


def _grown(previous: list[dict[str, str]], new: list[dict[str, str]]) -> pd.DataFrame:
    return combined(_set(previous), provenance_of_base(len(previous)), _set(new), 1).table


def test_columns_are_the_union_mandatory_first_and_origin_goes_to_the_provenance() -> None:
    rows = combined(
        _set([_row("a", boardname="B1")]),
        provenance_of_base(1),
        _set([_row("c", project="P", origin="mined")]),
        3,
    )
    assert list(rows.table) == ["input_path", "golden_path", "label", "object_name", "boardname", "project"]
    assert rows.table.iloc[:, 3:].to_numpy().tolist() == [["a", "B1", ""], ["c", "", "P"]]
    assert rows.provenance.to_numpy().tolist() == [
        [0, "base_train", "0", "base"],
        [1, "mining_pool", "3", "mined"],
    ]


def test_labels_are_repaired_and_counted() -> None:
    table, repairs = with_normalised_labels(
        pd.DataFrame([_row("a", " pass "), _row("b"), _row("c", "Missing ")])
    )
    assert (table["label"].tolist(), repairs) == (["PASS", "PASS", "missing"], 2)


def test_new_rows_that_are_there_already_are_dropped_and_counted() -> None:
    rows = combined(
        _set([_row("a"), _row("b")]),
        provenance_of_base(2),
        _set(
            [
                _row("a", "missing", folder="images//b/", origin="sdg"),
                _row("c", origin="sdg"),
                _row("c", origin="mined"),
            ]
        ),
        1,
    )
    assert rows.dedup_dropped == 2
    assert rows.new_rows == 1
    assert rows.table["object_name"].tolist() == ["a", "b", "c"]


def test_unknown_origin() -> None:
    with pytest.raises(InputError, match="row 2: unknown origin 'bought'"):
        combined(_set([_row("a")]), provenance_of_base(1), _set([_row("b", origin="bought")]), 1)


def test_provenance_that_is_not_aligned() -> None:
    with pytest.raises(InputError, match="has 2 rows that are not aligned with its 1 rows"):
        combined(_set([_row("a")]), provenance_of_base(2), _set([_row("b", origin="sdg")]), 1)


labels = st.sampled_from(["PASS", " pass", "missing", "Shift "])
rows = st.lists(st.tuples(st.sampled_from("abcdefgh"), labels), min_size=1, max_size=12)


@settings(max_examples=50)
@given(base=rows, rounds=st.lists(rows, max_size=3))
def test_every_earlier_row_is_kept_and_the_counts_add_up(base, rounds) -> None:
    """Whatever producers give, rounds only add rows, provenance stays aligned, and the numbers agree."""
    table = pd.DataFrame([_row(name, label) for name, label in base])
    provenance = provenance_of_base(len(table))
    for number, new in enumerate(rounds, start=1):
        before = with_normalised_labels(table)[0]
        given_rows = [_row(name, label, origin="sdg") for name, label in new]
        result = combined(_set(table.to_dict("records")), provenance, _set(given_rows), number)
        assert result.previous_rows + result.new_rows == len(result.table) == len(result.provenance)
        assert result.new_rows + result.dedup_dropped == len(new)
        kept = Counter(result.table.head(len(before)).itertuples(index=False, name=None))
        assert kept == Counter(before[list(result.table)].itertuples(index=False, name=None))
        added = result.provenance.iloc[len(before) :]
        assert set(added["origin_iter"]) <= {str(number)}
        table, provenance = result.table, result.provenance.assign(source="previous_iter_train")


class TestWorkspaceCoordinates:
    def test_prefix_is_put_before_relative_paths_once(self, tmp_path: Path) -> None:
        base = _set([_row("a", folder="b"), _row("b", folder="images/b")], tmp_path / "images")
        table = in_workspace_coordinates(base, tmp_path, "images")
        assert table["input_path"].tolist() == ["images/b", "images/b"]
        assert table["golden_path"].tolist() == ["images/g", "images/g"]

    def test_twice_is_once(self, tmp_path: Path) -> None:
        base = _set([_row("a", folder="b")], tmp_path / "kpi/images")
        once = in_workspace_coordinates(base, tmp_path, "kpi/images")
        again = in_workspace_coordinates(_set(once.to_dict("records"), base.root), tmp_path, "kpi/images")
        assert once.equals(again)
        assert once["input_path"].tolist() == ["kpi/images/b"]

    def test_absolute_paths_stay(self, tmp_path: Path) -> None:
        base = _set([_row("a", folder="/elsewhere/b")], tmp_path / "images")
        assert in_workspace_coordinates(base, tmp_path, "images")["input_path"].tolist() == ["/elsewhere/b"]

    def _image(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "a_SolderLight.jpg").touch()

    def test_a_folder_named_like_the_prefix_below_the_image_root(self, tmp_path: Path) -> None:
        self._image(tmp_path / "images/images/b")
        base = _set([_row("a", folder="images/b")], tmp_path / "images")
        assert in_workspace_coordinates(base, tmp_path, "images")["input_path"].tolist() == [
            "images/images/b"
        ]

    def test_a_path_with_two_readings_is_refused(self, tmp_path: Path) -> None:
        self._image(tmp_path / "images/images/b")
        self._image(tmp_path / "images/b")
        base = _set([_row("a", folder="images/b")], tmp_path / "images")
        with pytest.raises(
            InputError, match="row 2: input_path 'images/b' names an image below the workspace and"
        ):
            in_workspace_coordinates(base, tmp_path, "images")
