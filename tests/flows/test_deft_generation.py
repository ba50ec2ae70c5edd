import json
import shutil

import pandas as pd
import pytest

from flows.deft_aoi import deft_aoi
from tasks.artifacts import read_json
from tasks.dataset.table import is_pass, read_table

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.slow,  # every test goes through a whole loop
]

POOL = "augmentation/mining_pool/mining_pool.csv"


def loop(workspace, **more):
    parameters = {"max_iterations": 1, "metric": "FAR < 0% at Recall=100%", "min_similarity": -1.0, "topn": 2}
    return deft_aoi(workspace, **{**parameters, "num_sdg": 8, "max_new_rows": 10, **more})


@pytest.fixture(scope="module")
def made(tiny_workspace, tmp_path_factory, prefect_server):
    workspace = shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("generation") / "ws")
    return workspace, loop(workspace, max_iterations=2)


def skips(state):
    return {str(event.step): event.skip_reason for event in state.events if event.skip_reason}


def origins(state, label):
    provenance = pd.read_csv(state.phase(label).provenance_csv)
    return provenance[provenance["origin_iter"] == int(label[-1])]["origin"].value_counts().to_dict()


def test_both_kinds_of_rows_join_the_training_set(made):
    _, state = made
    for label in ("iter1", "iter2"):
        phase = state.phase(label)
        assert origins(state, label) == {"sdg": phase.sdg_count, "mined": phase.mined_count}
        assert (phase.sdg_count, phase.mined_count) == (8, 10)
        assert phase.anomalygen_amp_requested == phase.anomalygen_amp_allocated == 8
    assert skips(state) == {}


def test_tree_of_an_iteration_is_the_documented_one(made):
    _, state = made
    place = state.results_dir / "iter1"
    assert {file.name for file in (place / "anomalygen").iterdir()} >= {
        "amp", "testcase.jsonl", "allocation.json", "sdg",
    }  # fmt: skip
    for side in ("ng", "ok"):
        assert len(list((place / "dataset" / "images" / f"synthetic_iter1_{side}").iterdir())) == 8
    filtered = {"sdg_rows.raw.csv", "sdg_rows.csv", "mining_pool.csv", "knn_summary.csv"}
    assert filtered <= {file.name for file in (place / "mining_filter").iterdir()}


def test_iterations_paint_other_pictures_than_the_one_before(made):
    _, state = made
    trees = [
        state.results_dir / label / "anomalygen" / "sdg" / "manifest.json" for label in ("iter1", "iter2")
    ]
    one, other = (set(read_json(tree).values()) for tree in trees)
    assert one != other


def test_weak_defects_are_painted_on_clean_crops_of_neither_validation_nor_kpi_set(made):
    workspace, state = made
    lines = (state.results_dir / "iter1" / "anomalygen" / "testcase.jsonl").read_text().splitlines()
    shown = {json.loads(line)["image_filename"] for line in lines}
    folders = set()
    for csv in ("train/base/training_set.csv", POOL):
        table = read_table(workspace / csv)
        folders |= set(table[is_pass(table["label"])]["input_path"])
    assert {name.rsplit("/", 1)[0] for name in shown} <= folders
    labels = set(read_table(state.phase("iter1").sdg_rows_csv)["label"])
    assert labels <= {label.lower() for label in state.phase("baseline").rca_target_defects}


def test_without_a_pool_the_loop_is_synthetic_only(workspace):
    (workspace / POOL).unlink()
    state = loop(workspace)
    assert skips(state) == {"iter1/data_mining": "no pool configured"}
    assert origins(state, "iter1") == {"sdg": 8}
    assert state.status == "complete"


def test_mining_can_be_switched_off(workspace):
    state = loop(workspace, max_new_rows=0)
    assert skips(state) == {"iter1/data_mining": "max_new_rows=0"}
    assert origins(state, "iter1") == {"sdg": 8}


def test_generation_can_be_switched_off(workspace):
    state = loop(workspace, sdg_source="none")
    assert skips(state) == {"iter1/anomalygen": "sdg_source=none"}
    assert origins(state, "iter1") == {"mined": 10}


def test_finished_pairs_come_in_with_the_first_iteration(made, workspace):
    _, earlier = made
    finished = earlier.results_dir / "iter1" / "anomalygen"
    state = loop(workspace, max_iterations=2, sdg_source="pregenerated", pregenerated_dir=finished)
    assert origins(state, "iter1") == {"sdg": 8, "mined": 10}
    assert origins(state, "iter2") == {"mined": 10}
    assert list(skips(state)) == ["iter1/anomalygen", "iter2/anomalygen"]
    assert all(reason.startswith("sdg_source=pregenerated") for reason in skips(state).values())
    assert state.status == "complete"


def test_selection_of_nearest_defects_draws_its_pass_samples(workspace):
    chosen = {
        selection: read_table(
            loop(workspace, sdg_source="none", selection=selection).phase("iter1").new_rows_csv
        )
        for selection in ("nearest", "nearest_defects")
    }
    passes = {key: is_pass(table["label"]) for key, table in chosen.items()}
    assert passes["nearest"].tolist() == passes["nearest_defects"].tolist()
    keys = ["input_path", "object_name"]
    one, other = (chosen[key][keys] for key in chosen)
    assert one[~passes["nearest"]].equals(other[~passes["nearest"]])
    assert not one[passes["nearest"]].equals(other[passes["nearest"]])
