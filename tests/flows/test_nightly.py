"""Nights on a small workspace: two stories of some nights each that most tests look at, and short other ones.

The figures of the models are brought in files, so that a story can say which model is the better one.
"""

import json
import shutil
from types import SimpleNamespace
from uuid import uuid4

import httpx
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from flows.nightly import nightly
from tasks.artifacts import read_json, write_json
from tasks.automl.settings import SweepSettings
from tasks.deft.nights import HISTORY, LATEST_BEST, LOCK, read_best, read_history
from tasks.errors import DeftError
from tasks.run_folder import held

pytestmark = pytest.mark.usefixtures("prefect_server")

LOOP = {"max_iterations": 1, "sdg_source": "none", "min_similarity": -1.0, "topn": 2}
BESIDE = {LOCK}


def pool_of(workspace):
    return workspace / "augmentation" / "mining_pool" / "mining_pool.csv"


def bring(folder, **values):
    """Say how many escapes the model of each phase has."""
    for file in folder.glob("*.json"):
        file.unlink()
    for label, value in values.items():
        write_json(folder / f"{label}.json", {"name": "escapes", "value": value, "unit": "boards"})


def escapes(folder):
    """The contract whose results are brought."""
    return {
        "name": "escapes",
        "display_name": "Escapes",
        "operator": "<",
        "target": 1,
        "unit": "boards",
        "evaluator": {
            "type": "artifact",
            "producer": "line 3",
            "path": str(folder / "{iter_label}.json"),
            "timeout_s": 1,
        },
    }


def night_of(workspace, brought, **more):
    """The final state of a night."""
    loop = {**LOOP, "metric": escapes(brought), **more.pop("loop", {})}
    options = nightly.with_options(flow_run_name=f"n-{uuid4()}")
    return options(workspace, "inline", loop=loop, return_state=True, **more)


def report():
    """The newest report of a night, as the server shows it."""
    with httpx.Client(base_url=f"{PREFECT_API_URL.value()}/", timeout=30) as http:
        return http.get("artifacts/nightly/latest").json()["data"]


def names(folder):
    return {file.name for file in folder.iterdir()} - BESIDE


class Story:
    """Nights in a row on a workspace; each with its state, its report, and what lies there after it."""

    def __init__(self, workspace, brought):
        self.workspace, self.brought = workspace, brought
        self.header, *self.rows = pool_of(workspace).read_text().splitlines(keepends=True)

    def night(self, pool, values, **more):
        pool_of(self.workspace).write_text(self.header + "".join(self.rows[:pool]))
        bring(self.brought, **values)
        state = night_of(self.workspace, self.brought, **more)
        results = self.workspace / "results"
        return SimpleNamespace(state=state, report=report(), best=read_best(results), folders=names(results))

    @property
    def nights(self):
        return read_history(self.workspace / "results")


@pytest.fixture(scope="module", name="story")
def _story(tiny_workspace, tmp_path_factory, prefect_server):
    """A first night, one without anything new, one that fails, and the next, which is no better."""
    workspace = shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("nights") / "ws")
    told = Story(workspace, tmp_path_factory.mktemp("brought"))
    told.first = told.night(90, {"baseline": 5, "iter1": 3})
    told.idle = told.night(90, {})
    told.failed = told.night(91, {"baseline": 3})
    told.again = told.night(91, {"baseline": 3, "iter1": 4})
    return told


@pytest.fixture(scope="module", name="sequel")
def _sequel(story, tmp_path_factory):
    """After that a night that is better, and one that begins anew and is worse."""
    story.better = story.night(92, {"baseline": 3, "iter1": 2})
    story.anew = story.night(91, {"baseline": 7, "iter1": 6}, continue_from_best=False)
    return story


def test_first_night_runs_and_delivers(story):
    first = story.nights[0]
    assert story.first.state.is_completed()
    assert first.why == ["it is the first night of this workspace that completes"]
    assert (first.delivered, first.figure.value, first.replaced) == ("iter1", 3, True)
    best = story.first.best
    assert best.checkpoint.is_file()
    assert best.run_folder == first.run_folder
    assert {"best_model.json", "best_model_inference_spec.yaml"} <= set(best.links)
    assert story.first.state.message == "delivered: Escapes 3 boards"


def test_second_night_on_unchanged_data_ends_early(story):
    state, first = story.idle.state, story.nights[0]
    assert (state.name, state.is_completed()) == ("Nothing new", True)
    text = f"nothing new: the pool has the 90 rows of night {first.run_folder.name} of {first.day}"
    assert state.message == text
    assert story.idle.folders == story.first.folders == {first.run_folder.name, HISTORY, LATEST_BEST}
    assert story.idle.best == story.first.best
    assert "# Nothing new" in story.idle.report


def test_failed_night_says_so_and_leaves_the_pointer(story):
    assert story.failed.state.is_failed()
    assert story.failed.best == story.first.best
    assert "# Failed" in story.failed.report
    assert "tonight failed: " in story.failed.report
    assert f"the model of {story.workspace}/results/{LATEST_BEST} stays" in story.failed.report


def test_next_night_goes_on_with_what_failed(story):
    night = story.nights[1]
    assert story.again.folders == story.failed.folders
    assert night.run_folder.name in story.failed.folders - story.first.folders


def test_added_pool_row_is_named_and_the_night_starts_from_the_best(story):
    night, best = story.nights[1], story.first.best
    assert night.why == [f"the pool has 91 rows, 1 more than in the night of {story.nights[0].day}"]
    assert night.start.startswith("the best model so far, Escapes 3 boards")
    handed = read_json(night.run_folder / "handoff12.json")
    assert handed["checkpoint"]["source"] == str(best.checkpoint)
    assert handed["state"] == {"source": "external"}


def test_night_that_is_no_better_keeps_the_pointer(story):
    night = story.nights[1]
    assert (night.delivered, night.figure.value, night.replaced) == ("baseline", 3, False)
    assert story.again.best == story.first.best
    assert "no better than the Escapes 3 boards" in story.again.state.message
    assert f"Model to use: `{story.first.best.checkpoint}`" in story.again.report
    assert "| iter1 | KPI | Escapes 4 boards |" in story.again.report


@pytest.mark.slow
def test_better_night_replaces_it(sequel):
    night = sequel.nights[2]
    assert (night.delivered, night.figure.value, night.replaced) == ("iter1", 2, True)
    assert sequel.better.best.run_folder == night.run_folder
    assert sequel.better.best.checkpoint.is_relative_to(night.run_folder)
    assert "a new model is delivered" in sequel.better.report


@pytest.mark.slow
def test_worse_model_of_a_night_that_began_anew_is_not_delivered(sequel):
    night = sequel.nights[3]
    assert night.why == [f"the pool has 91 rows, 1 fewer than in the night of {night.day}"]
    assert night.start == "anew, as asked"
    assert (night.figure.value, night.replaced) == (6, False)
    assert "worse than the Escapes 2 boards" in night.decided
    assert sequel.anew.best == sequel.better.best
    assert not (night.run_folder / "handoff12.json").exists()


def test_history_has_a_line_for_each_night_that_completed(story):
    lines = (story.workspace / "results" / HISTORY).read_text().splitlines()
    assert [json.loads(line)["content"]["pool_rows"] for line in lines][:2] == [90, 91]
    assert len(lines) == len(story.nights)


def test_second_process_is_told_who_works(workspace, tmp_path):
    with held(workspace / "results", LOCK):
        state = night_of(workspace, tmp_path)
    assert state.is_failed()
    with pytest.raises(
        DeftError, match=r"process \d+ on .* \(since .*\) works on .*/results; wait for it or stop it"
    ):
        state.result()
    assert names(workspace / "results") == set()


def test_unusable_pool_is_a_failed_night_in_one_line(workspace, tmp_path):
    with pool_of(workspace).open("a") as file:
        file.write("nowhere,x,y,missing\n")
    state = night_of(workspace, tmp_path)
    assert state.is_failed()
    assert "# Failed" in report()
    assert "no model is there yet" in report()
    assert names(workspace / "results") == set()


@pytest.mark.slow
def test_full_mode_sweeps_first_only_while_there_is_no_model(workspace, tmp_path):
    brought = tmp_path / "brought"
    brought.mkdir()
    bring(brought, baseline=5, iter1=4, final_automl=3)
    trials = {"mode": "full", "phase1": SweepSettings(trials=1), "phase3": SweepSettings(trials=1)}
    first = night_of(workspace, brought, **trials).result()
    assert (first.delivered, first.figure.value) == ("final_automl", 3)
    assert (first.run_folder / "automl_phase1").is_dir()
    assert night_of(workspace, brought, **trials).name == "Nothing new"

    lines = pool_of(workspace).read_text().splitlines(keepends=True)
    pool_of(workspace).write_text("".join(lines[:-1]))
    bring(brought, baseline=3, iter1=4, final_automl=2)
    second = night_of(workspace, brought, **trials).result()
    assert not (second.run_folder / "automl_phase1").exists()
    assert (second.run_folder / "final_automl").is_dir()
    assert (second.figure.value, second.replaced) == (2, True)


@pytest.mark.slow
def test_another_base_spec_begins_anew_and_another_metric_is_not_compared(workspace, tmp_path):
    bring(tmp_path, baseline=3, iter1=2)
    night_of(workspace, tmp_path).result()
    file = workspace / "specs" / "baseline_spec.yaml"
    spec = yaml.safe_load(file.read_text())
    spec["train"]["optim"]["lr"] = 2e-4
    file.write_text(yaml.safe_dump(spec, sort_keys=False))
    night = night_of(workspace, tmp_path, loop={"metric": "FAR < 0% at Recall=100%"}).result()
    assert "base spec changed since the night of" in night.why[0]
    assert night.start.startswith("anew: the base spec is not that of the best model")
    assert night.replaced
    assert "so it is not compared with the Escapes 2 boards" in night.decided


@pytest.mark.slow
def test_image_classifier_has_nights_too(tmp_path):
    from tasks.classifier.sample import write_shapes_workspace

    root = write_shapes_workspace(tmp_path / "ws")
    given = {"profile": "image_classifier", "loop": {"max_iterations": 1}}
    state = nightly(root, "inline", return_state=True, **given)
    night = state.result()
    assert night.replaced
    assert read_best(root / "results").checkpoint.is_file()
    assert nightly(root, "inline", return_state=True, **given).name == "Nothing new"


def test_server_shows_how_the_night_ended(story):
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(story.idle.state.state_details.flow_run_id)
    assert run.state_name == "Nothing new"
