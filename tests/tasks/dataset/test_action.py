import json
from pathlib import Path

import pandas as pd
import pytest

from tasks.dataset.action import ASSEMBLE, AssembleSpec, assemble, provenance_path
from tasks.dataset.table import read_table
from tasks.dataset.workspace import Workspace
from tasks.errors import InputError
from tasks.registry import find_action, run_in_process
from tasks.spec import load_spec


@pytest.fixture
def mined(workspace: Workspace, maker) -> Path:
    """Three new samples of the board p."""
    for number in range(3):
        maker.sample("images/p", f"p{number}@1")
    return maker.csv("new.csv", [_new(0, "mined"), _new(1, "mined", "Tombstone "), _new(2, "sdg", "shift")])


def _new(
    number: int, origin: str, label: str = "PASS", folder: str = "images/p", name: str = "p"
) -> dict[str, str]:
    return {
        "input_path": folder,
        "golden_path": "images/golden",
        "label": label,
        "object_name": f"{name}{number}@1",
        "origin": origin,
    }


def _spec(workspace: Workspace, new: Path, **changes: object) -> AssembleSpec:
    values = {
        "previous_csv": workspace.training_csv,
        "first": True,
        "new_rows_csv": new,
        "workspace": workspace.root,
        "images_dir": workspace.images_dir,
        "train_yaml": workspace.baseline_spec,
        "validation_csv": workspace.validation_csv,
        "kpi_csv": workspace.kpi_csv,
        "iteration": 1,
        "results_dir": workspace.root / "results/run/iter1/dataset",
    }
    return load_spec(AssembleSpec, None, [f"{key}={value}" for key, value in {**values, **changes}.items()])


def test_two_iterations(workspace: Workspace, mined: Path, maker) -> None:
    first = _spec(workspace, mined)
    assemble(first)
    table = read_table(first.combined_csv)
    assert table["input_path"].tolist() == ["images/t"] * 4 + ["images/p"] * 3
    assert table["golden_path"].tolist() == ["images/golden"] * 7
    assert "origin" not in table
    report = json.loads(first.merge_validation.read_text())
    assert report["status"] == "ok"
    assert (report["rows_checked"], report["previous_rows"], report["new_rows"]) == (7, 4, 3)
    assert report["label_repairs"] == 1
    assert report["label_counts"] == {"PASS": 4, "missing": 1, "tombstone": 1, "shift": 1}
    assert report["missing_file_count"] == 0
    assert report["train_val_leakage_overlap_count"] == report["train_kpi_leakage_overlap_count"] == 0
    assert all(path.is_file() for path in ASSEMBLE.outputs(first).values())

    maker.sample("images/q", "q0@1")
    new = maker.csv("new2.csv", [_new(0, "mined", "shift", "images/q", "q"), _new(0, "mined")])
    second = _spec(
        workspace,
        new,
        previous_csv=first.combined_csv,
        first=False,
        iteration=2,
        results_dir=workspace.root / "results/run/iter2/dataset",
    )
    assemble(second)
    grown = read_table(second.combined_csv)
    assert grown.head(7).equals(table)
    assert grown["object_name"].tolist()[7:] == ["q0@1"]
    assert json.loads(second.merge_validation.read_text())["dedup_dropped"] == 1
    provenance = read_table(second.provenance_csv, ("row_index", "source", "origin_iter", "origin"))
    assert provenance["row_index"].tolist() == [str(number) for number in range(8)]
    assert provenance["source"].tolist() == ["previous_iter_train"] * 7 + ["mining_pool"]
    assert provenance["origin_iter"].tolist() == ["0"] * 4 + ["1"] * 3 + ["2"]
    assert provenance["origin"].tolist() == ["base"] * 4 + ["mined", "mined", "sdg", "mined"]


def _refused(spec: AssembleSpec, message: str) -> dict:
    with pytest.raises(InputError, match=message):
        assemble(spec)
    assert not spec.combined_csv.exists()
    assert not spec.provenance_csv.exists()
    return json.loads(spec.merge_validation.read_text())


def test_new_rows_of_the_kpi_and_validation_sets_are_a_hard_stop(workspace: Workspace, maker) -> None:
    new = maker.csv(
        "new.csv", [_new(0, "mined", "x", "images/k", "k"), _new(2, "mined", "x", "images/v", "v")]
    )
    report = _refused(_spec(workspace, new), r"1 rows show images of the KPI set \(leakage\)")
    assert report["status"] == "failed"
    assert report["train_kpi_leakage_overlap_count"] == report["train_val_leakage_overlap_count"] == 1
    assert any("KPI set row 2" in sample for sample in report["samples"])


def test_missing_images_are_a_hard_stop(workspace: Workspace, mined: Path) -> None:
    (workspace.images_dir / "p/p1@1_SideLight.jpg").unlink()
    report = _refused(
        _spec(workspace, mined), r"1 images do not exist; first rows: row 7: .*p1@1_SideLight\.jpg"
    )
    assert report["missing_file_count"] == 1


def test_empty_labels_are_a_hard_stop(workspace: Workspace, mined: Path) -> None:
    read_table(mined).assign(label=["PASS", " ", "shift"]).to_csv(mined, index=False)
    _refused(_spec(workspace, mined), "1 labels are empty; first rows: row 7: empty label")


def test_one_class_is_a_hard_stop(workspace: Workspace, mined: Path) -> None:
    for file in (mined, workspace.training_csv):
        read_table(file).assign(label="PASS").to_csv(file, index=False)
    _refused(_spec(workspace, mined), "label set with one class")


def test_nothing_new_is_a_hard_stop(workspace: Workspace, maker) -> None:
    new = maker.csv("new.csv", [_new(0, "mined", "x", "images/t", "t")])
    report = _refused(_spec(workspace, new), "no new rows: all 1 are in the training CSV already")
    assert report["dedup_dropped"] == 1


def test_no_rows_at_all_write_nothing(workspace: Workspace, mined: Path) -> None:
    pd.DataFrame(columns=list(read_table(mined))).to_csv(mined, index=False)
    spec = _spec(workspace, mined)
    with pytest.raises(InputError, match=r"new rows CSV .* contains no rows"):
        assemble(spec)
    assert not spec.results_dir.exists()


def test_new_rows_need_their_origin(workspace: Workspace, mined: Path) -> None:
    read_table(mined).drop(columns="origin").to_csv(mined, index=False)
    with pytest.raises(InputError, match="lacks the columns origin"):
        assemble(_spec(workspace, mined))


def test_a_lost_provenance_is_named(workspace: Workspace, mined: Path) -> None:
    with pytest.raises(InputError, match=r"provenance .*training_set_provenance\.csv: No such file"):
        assemble(_spec(workspace, mined, first=False, iteration=2))


def test_base_rows_are_added_once(workspace: Workspace, mined: Path) -> None:
    with pytest.raises(InputError, match="first is true in iteration 1 and false later"):
        _spec(workspace, mined, iteration=2)


def test_the_cache_key_follows_the_images(workspace: Workspace, mined: Path, maker) -> None:
    action, spec = find_action("dataset", "assemble"), _spec(workspace, mined)
    before = action.digest(spec)
    assert action.digest(spec) == before
    maker.image("images/k/k1@1_SolderLight.jpg")
    assert action.digest(spec) != before


def test_command_line(workspace: Workspace, mined: Path) -> None:
    spec = _spec(workspace, mined)
    words = [f"{key}={value}" for key, value in spec.to_dict().items()]
    assert run_in_process("dataset", ["assemble", *words]) == 0
    assert provenance_path(spec.combined_csv).is_file()
