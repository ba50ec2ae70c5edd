"""Planted leaks: a KPI image under another spelling, label or file name is caught at all four points."""

import shutil

import pandas as pd
import pytest

from flows.deft_aoi import deft_aoi
from tasks.artifacts import write_csv
from tasks.dataset.table import MANDATORY
from tasks.deft.state import load_state
from tasks.errors import InputError
from tasks.registry import find_action

pytestmark = pytest.mark.usefixtures("prefect_server")


def loop(workspace):
    return deft_aoi(
        workspace,
        max_iterations=1,
        metric="FAR < 0% at Recall=100%",
        min_similarity=-1.0,
        topn=3,
        sdg_source="none",
    )


def prefix(workspace, row):
    return {**row, "input_path": f"../images/{row['input_path']}"}


def case(workspace, row):
    return {**row, "label": row["label"].swapcase() + " "}


def copied(workspace, row):
    folder = workspace / "images" / "copies"
    shutil.copytree(workspace / "images" / row["input_path"], folder, dirs_exist_ok=True)
    return {**row, "input_path": "copies"}


def relabelled(workspace, row):
    return {**row, "label": "PASS"}


PLANTS = [prefix, case, copied, relabelled]
CAUGHT_BY = {
    prefix: "canonical+content+look",
    case: "canonical+content+look",
    copied: "content+look",
    relabelled: "canonical+content+look",
}


def kpi_row(workspace):
    table = pd.read_csv(workspace / "kpi" / "testing_set.csv", dtype=str, keep_default_na=False)
    return table[table["label"] != "PASS"].iloc[0].to_dict()


def append(csv, row):
    table = pd.read_csv(csv, dtype=str, keep_default_na=False)
    pd.concat([table, pd.DataFrame([row])]).fillna("").to_csv(csv, index=False)


@pytest.mark.parametrize("plant", PLANTS)
def test_in_the_training_set_at_preflight(workspace, plant):
    append(workspace / "train" / "base" / "training_set.csv", plant(workspace, kpi_row(workspace)))
    with pytest.raises(InputError, match="leakage: 1 rows of the training set show") as caught:
        loop(workspace)
    assert str(caught.value).split(" by ")[1].startswith(CAUGHT_BY[plant])
    assert not (workspace / "results").exists()


@pytest.mark.parametrize("plant", PLANTS)
def test_in_the_pool_after_mining(workspace, plant):
    pool = workspace / "augmentation" / "mining_pool" / "mining_pool.csv"
    append(pool, plant(workspace, kpi_row(workspace)))
    with pytest.raises(InputError, match="leakage: 1 rows of the new rows show images of the KPI") as caught:
        loop(workspace)
    found = str(caught.value).split(" by ")[1]
    assert set(CAUGHT_BY[plant].split("+")) <= set(found.split(";")[0].split("+"))
    (folder,) = (workspace / "results").iterdir()
    assert load_state(folder).events[-1].stage == "data_mining"
    assert load_state(folder).status == "failed"


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("other", ["kpi/testing_set.csv", "train/base/validation_set.csv"])
def test_in_the_assembled_set_after_the_merge(workspace, plant, other, tmp_path):
    table = pd.read_csv(workspace / other, dtype=str, keep_default_na=False)
    row = plant(workspace, table[table["label"] != "PASS"].iloc[0].to_dict())
    row |= {name: f"images/{row[name]}" for name in ("input_path", "golden_path")}
    new = write_csv(tmp_path / "new.csv", [*MANDATORY, "origin"], [
        {name: row[name] for name in MANDATORY} | {"origin": "mined"}
    ])  # fmt: skip
    action = find_action("dataset", "assemble")
    spec = action.spec(
        {
            "previous_csv": workspace / "train" / "base" / "training_set.csv",
            "first": True,
            "new_rows_csv": new,
            "workspace": workspace,
            "images_dir": workspace / "images",
            "train_yaml": workspace / "specs" / "baseline_spec.yaml",
            "validation_csv": workspace / "train" / "base" / "validation_set.csv",
            "kpi_csv": workspace / "kpi" / "testing_set.csv",
            "iteration": 1,
            "results_dir": tmp_path / "dataset",
        }
    )
    with pytest.raises(InputError, match=r"1 rows show images of the .* set \(leakage\)"):
        action.run(spec)
    assert not (tmp_path / "dataset" / "train_combined_iter1.csv").exists()
