import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from prefect.settings import PREFECT_API_URL, PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from blocks.runtime import InlineRuntime
from flows.aoi_profile import AoiProfile
from flows.aoi_training import judged_on_validation
from flows.automl import automl, metric_of
from tasks.artifacts import read_json, sha256_of
from tasks.automl import best_rec
from tasks.automl.settings import SweepSettings
from tasks.automl.winner import QualityCheck
from tasks.errors import DeftError, InputError
from tasks.keys import flat, value_at

pytestmark = pytest.mark.usefixtures("prefect_server")

SETTINGS = {"algorithm": "random", "trials": 3, "reruns": 1, "suspicious_gap": 1.01, "seed": 5}


def sweep(workspace, folder=None, more=None, **settings):
    given = SweepSettings(**{**SETTINGS, **settings})
    return automl(workspace, sweep=given, results_dir=folder, **(more or {}))


@pytest.fixture(scope="module", name="able_workspace")
def _able_workspace(tiny_workspace, tmp_path_factory):
    """One whose models learn something; not to be written into."""
    workspace = shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("sweep") / "ws")
    spec_file = workspace / "specs" / "baseline_spec.yaml"
    spec = yaml.safe_load(spec_file.read_text())
    spec["train"] |= {"num_epochs": 5, "checkpoint_interval": 5}
    spec["train"]["optim"]["lr"] = 5e-3
    spec["model"]["classify"]["eval_margin"] = 0.6
    spec_file.write_text(yaml.safe_dump(spec, sort_keys=False))
    return workspace


@pytest.fixture(scope="module", name="finished")
def _finished(able_workspace, prefect_server):
    """A workspace and the result of a sweep on it."""
    return able_workspace, sweep(able_workspace)


@pytest.fixture
def fresh_cache(tmp_path):
    """A result store of the test's own, so that nothing is taken from another test's trainings."""
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path / "store"}):
        yield


def starts(folder):
    """How often a training was begun, by the status files of all trials."""
    return sum(file.read_text().count('"STARTED"') for file in folder.glob("recs/*/train/status.json"))


def rows_of(folder):
    return [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]


# What it leaves


def test_the_folder_lies_below_the_results(finished):
    workspace, result = finished
    assert result.folder.parent == workspace / "results"
    assert result.folder.name.startswith("automl_")


def test_best_rec_is_valid_and_of_the_winner(finished):
    _, result = finished
    best = best_rec.read(result.best_rec)
    check = QualityCheck.model_validate(read_json(result.folder / "quality_check.json"))
    assert (best.metric_name, best.direction) == ("far_pct", "minimize")
    assert best.best.rec_id == check.chosen_rec
    assert best.best.score == check.score == result.stage.value
    assert best.best.checkpoint_uri == str(result.model.checkpoint) == str(check.checkpoint)
    assert not [
        key for key in flat(best.best.specs) if key.endswith(("num_epochs", "_path", "_dir", "interval"))
    ]
    assert len([one for one in best.all_recs if one.score is not None]) >= 3


def test_the_winner_spec_is_the_base_spec_with_what_was_tuned(finished):
    workspace, result = finished
    base = flat(yaml.safe_load((workspace / "specs" / "baseline_spec.yaml").read_text()))
    spec = flat(yaml.safe_load((result.folder / "winner_spec.yaml").read_text()))
    row = next(row for row in rows_of(result.folder) if row["number"] == int(best_number(result)))
    assert {key for key in spec if spec[key] != base.get(key)} == {
        key for key, value in flat(row["specs"]).items() if value != base.get(key)
    }
    assert flat(result.model.spec) == spec


def best_number(result):
    return best_rec.read(result.best_rec).best.rec_id.removeprefix("rec_")


def test_trial_0_is_the_base_spec(finished):
    _, result = finished
    first = rows_of(result.folder)[0]
    assert (first["source"], first["specs"]) == ("base", {})


def test_the_study_and_the_table_of_trials(finished):
    _, result = finished
    study = read_json(result.folder / "study.json")
    table = pd.read_csv(result.folder / "trials.csv")
    searched = [one["name"] for one in study["searched"]]
    assert searched == ["lr", "weight_decay", "fpratio", "color", "rotate", "modules"]
    assert study["algorithm"] == "random"
    assert sum(study["trials"].values()) == len(table)
    assert set(searched) <= set(table.columns)
    assert {"far_pct", "auc", "val_loss", "seed", "source", "state"} <= set(table.columns)
    assert list(table["source"][:3]) == ["base", "sampler", "sampler"]


def test_the_checkpoint_is_the_one_whose_score_is_reported(finished, tmp_path):
    workspace, result = finished
    profile = AoiProfile(workspace)
    for row in rows_of(result.folder):
        checkpoint = Path(row["outcome"]["checkpoint"])
        if not checkpoint.is_file():
            continue
        job = yaml.safe_load((checkpoint.parent / "train_spec.yaml").read_text())
        folder = tmp_path / str(row["number"])
        again = judged_on_validation(job, profile.workspace, checkpoint, folder, InlineRuntime())
        assert again.far_pct == row["outcome"]["score"]
    assert result.model.checkpoint.is_file()


def test_it_is_held_against_the_untrained_model(finished):
    _, result = finished
    assert result.untrained.stage == "zero-shot"
    assert result.gained == (result.stage.value < result.untrained.value)
    assert (result.stage.set, result.stage.rows) == ("validation", 64)


def test_given_again_its_folder_gives_the_same_without_training(finished):
    workspace, result = finished
    before, journal = starts(result.folder), sha256_of(result.folder / "trials.jsonl")
    again = sweep(workspace, result.folder)
    assert again == result
    assert (starts(result.folder), sha256_of(result.folder / "trials.jsonl")) == (before, journal)


@pytest.mark.slow
def test_a_larger_budget_trains_only_what_is_new(workspace):
    folder = workspace / "results" / "mine"
    sweep(workspace, folder, trials=1, reruns=0)
    assert starts(folder) == 1
    sweep(workspace, folder, trials=2, reruns=0)
    assert (starts(folder), len(rows_of(folder))) == (2, 2)


# Threads


def test_two_at_a_time_give_what_one_at_a_time_gives(workspace, fresh_cache):
    """Random proposals do not depend on what ended when, so both sweeps train the same specs."""
    outcomes = []
    for concurrency in (1, 2):
        folder = workspace / "results" / str(concurrency)
        with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: folder / "store"}):
            sweep(workspace, folder, trials=4, reruns=0, concurrency=concurrency)
        assert starts(folder) == 4
        rows = rows_of(folder)
        facts = [(row["params"], row["outcome"]["score"], row["outcome"]["facts"]) for row in rows]
        outcomes.append(facts)
    assert outcomes[0] == outcomes[1]


PROGRAM = """
import sys
from flows.automl import automl
from tasks.automl.settings import SweepSettings
automl(sys.argv[1], sweep=SweepSettings(algorithm="random", trials=1), results_dir=sys.argv[2])
"""


def test_a_second_process_on_the_folder_is_refused_in_one_line(workspace, tmp_path):
    from filelock import FileLock

    folder = tmp_path / "sweep"
    folder.mkdir()
    environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value()}
    command = [sys.executable, "-c", PROGRAM, str(workspace), str(folder)]
    with FileLock(folder / ".lock"):
        second = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
    assert second.returncode == 1
    error = f"another process works on {folder}; wait for it or stop it"
    assert second.stderr.strip().splitlines()[-1].endswith(error)
    assert sorted(path.name for path in folder.iterdir()) == [".lock"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "trained_again"),
    [("rec_001/train/model_best", 1), ("rec_001/outcome.json", 1), ("quality_check.json", 0)],
)
def test_a_sweep_that_is_killed_goes_on_when_its_folder_is_given_again(
    workspace, tmp_path, run_and_kill, place, trained_again
):
    settings = {"trials": 2, "reruns": 0, "seed": SweepSettings().seed}
    whole, folder = tmp_path / "whole", tmp_path / "sweep"
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path / "store"}):
        sweep(workspace, whole, **settings)
    program, point = PROGRAM.replace("trials=1", "trials=2, reruns=0"), ("os.rename", place, 1)
    assert run_and_kill(program, tmp_path / "other", workspace, folder, point=point) == -signal.SIGKILL
    before = {file: file.stat().st_mtime_ns for file in folder.glob("recs/*/train/status.json")}
    sweep(workspace, folder, **settings)
    assert starts(folder) == 2
    kept = {file for file, written in before.items() if file.stat().st_mtime_ns == written}
    assert {file.parents[1].name for file in kept} == {"rec_000", "rec_001"} - (
        {"rec_001"} if trained_again else set()
    )

    def facts(of):
        return [(row["params"], row["state"], row["outcome"]["facts"], row["curve"]) for row in rows_of(of)]

    assert facts(folder) == facts(whole)


# Settings


def test_validation_loss_as_metric(able_workspace, tmp_path):
    folder = tmp_path / "sweep"
    result = sweep(able_workspace, folder, more={"metric": "val_loss"}, trials=1, reruns=0)
    check = QualityCheck.model_validate(read_json(result.folder / "quality_check.json"))
    assert (check.metric.name, result.stage.metric) == ("val_loss", "val_loss")
    assert result.stage.value == result.model.facts["val_loss"]
    assert result.untrained is None
    spec = yaml.safe_load(next(result.folder.glob("recs/*/train/train_spec.yaml")).read_text())
    assert value_at(spec, "train.checkpointer.monitor") == "val_loss"


def test_only_some_parameters_and_a_space_file(workspace, tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text("lr: {keys: [train.optim.lr], type: float, low: 1.0e-3, high: 2.0e-3, log: true}\n")
    result = sweep(workspace, trials=2, reruns=0, only=("lr", "weight_decay"), search_space=file)
    study = read_json(result.folder / "study.json")
    assert [one["name"] for one in study["searched"]] == ["lr", "weight_decay"]
    row = rows_of(result.folder)[1]
    assert 1e-3 <= row["params"]["lr"] <= 2e-3
    assert set(flat(row["specs"])) == {"train.optim.lr", "train.optim.weight_decay"}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("lr: {keys: [train.optim.lr], type: float, low: -1, high: 1}", "lr = -1.0"),
        ("train.optim.lrr: {type: float, low: 0.1, high: 1}", "train.optim.lrr"),
        ("train.optim.weight_decay: {type: float, low: 0.1, high: 1}", "both set train.optim.weight_decay"),
        ("lr: {type: float, low: 1, high: 1}", "low 1.0 must be below high 1.0"),
        ("lr: [1, 2]", "lr must be a mapping"),
        ("- lr", "search space"),
    ],
)
def test_a_bad_space_file_is_one_line_before_anything_is_trained(workspace, tmp_path, space, message):
    file, folder = tmp_path / "space.yaml", tmp_path / "sweep"
    file.write_text(space)
    with pytest.raises(InputError) as error:
        sweep(workspace, folder, search_space=file)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (folder / "recs").exists()


def test_a_name_that_there_is_not(workspace, tmp_path):
    with pytest.raises(InputError, match="learning_rat"):
        sweep(workspace, tmp_path / "sweep", only=("learning_rat",))


def test_a_space_file_that_there_is_not(workspace, tmp_path):
    with pytest.raises(InputError, match=r"no\.yaml"):
        sweep(workspace, tmp_path / "sweep", search_space=tmp_path / "no.yaml")


def test_unknown_metric_and_profile(workspace, tmp_path):
    with pytest.raises(
        InputError, match="unknown metric 'f1' of aoi_changenet; choose one of: far_pct, val_loss"
    ):
        metric_of(AoiProfile(workspace), "f1")
    with pytest.raises(Exception, match="profile"):
        sweep(workspace, tmp_path / "sweep", more={"profile": "ocr"})


def test_an_unknown_setting_never_reaches_the_flow(workspace):
    with pytest.raises(Exception, match="num_recommendations"):
        automl(workspace, sweep={"num_recommendations": 8})


def test_another_base_spec_in_the_folder_of_a_sweep_is_refused(finished, tmp_path):
    workspace, result = finished
    spec = yaml.safe_load((workspace / "specs" / "baseline_spec.yaml").read_text())
    spec["train"]["optim"]["lr"] = 1e-3
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(spec))
    with pytest.raises(DeftError, match="a sweep with another base_spec; give another results_dir"):
        sweep(workspace, result.folder, more={"base_spec": other})
