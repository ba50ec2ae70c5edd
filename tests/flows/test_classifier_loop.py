import shutil
from pathlib import Path

import pytest
import yaml

from flows.classifier_loop import classifier_loop
from tasks.artifacts import read_json, write_json
from tasks.classifier.loop import STATE_FILE
from tasks.classifier.sample import ShapeSizes, write_shapes_workspace
from tasks.classifier.task import measure
from tasks.classifier.workspace import read_baseline, read_list
from tasks.errors import InputError, StageFailed
from tasks.evaluation.contract import MetricContract
from tasks.stage import load_runtime

pytestmark = pytest.mark.usefixtures("prefect_server")

SIZES = ShapeSizes(train=64, validation=32, kpi=48, pool=80)
NEVER = {"name": "error_pct", "display_name": "Error", "operator": "<", "target": 0, "unit": "%"}


def loop(workspace, **more):
    given = {
        "metric": NEVER,
        "num_weak": 8,
        "topn": 2,
        "num_epochs": 2,
        "results_dir": workspace / "results" / "run",
    }
    return classifier_loop(workspace, **{**given, **more})


@pytest.fixture(scope="module", name="tiny_shapes")
def _tiny_shapes(tmp_path_factory):
    folder = write_shapes_workspace(tmp_path_factory.mktemp("shapes") / "ws", seed=4, sizes=SIZES)
    spec_file = folder / "specs" / "baseline_spec.yaml"
    spec = yaml.safe_load(spec_file.read_text())
    spec_file.write_text(yaml.safe_dump({**spec, "native": {"threads": 1}}))
    return folder


@pytest.fixture
def shapes(tiny_shapes, tmp_path) -> Path:
    return shutil.copytree(tiny_shapes, tmp_path / "ws")


@pytest.fixture(scope="module")
def finished(tiny_shapes, tmp_path_factory, prefect_server):
    workspace = shutil.copytree(tiny_shapes, tmp_path_factory.mktemp("loop") / "ws")
    return workspace, loop(workspace)


def values_of(outcome):
    return [phase.metric_result.value for phase in outcome.phases]


def test_loop_trains_a_baseline_and_two_iterations(finished):
    workspace, outcome = finished
    assert [phase.label for phase in outcome.phases] == ["baseline", "iter1", "iter2"]
    assert outcome.status == "max_iterations"
    assert outcome.last_label == "iter2"
    assert min(values_of(outcome)) == next(
        phase.metric_result.value for phase in outcome.phases if phase.label == outcome.best_label
    )
    state = read_json(workspace / "results" / "run" / STATE_FILE)
    assert state["complete"] is True
    assert [phase["label"] for phase in state["phases"]] == ["baseline", "iter1", "iter2"]


def test_training_set_grows_by_new_pool_images_only(finished):
    _, outcome = finished
    lists = [read_list(phase.training_csv) for phase in outcome.phases]
    assert [len(rows) for rows in lists] == [phase.rows for phase in outcome.phases]
    assert lists[1][:64] == lists[0]
    assert lists[2][: len(lists[1])] == lists[1]
    assert outcome.combined_csv == outcome.phases[2].training_csv
    paths = [row["filepath"] for row in lists[2]]
    assert len(set(paths)) == len(paths)
    new = lists[2][64:]
    assert {row["origin"] for row in new} == {"iter1", "iter2"}
    assert all(row["filepath"].startswith(f"pool/{row['label']}/") for row in new)


def test_iteration_starts_from_the_best_model_before_it(finished):
    _, outcome = finished
    baseline, first, second = outcome.phases
    starts = [
        yaml.safe_load(phase.training_spec.read_text())["train"].get("pretrained_model_path")
        for phase in outcome.phases
    ]
    best = first if first.metric_result.value < baseline.metric_result.value else baseline
    assert starts == [None, str(baseline.checkpoint), str(best.checkpoint)]
    assert second.trained


def test_same_call_on_a_finished_run_does_nothing(finished):
    workspace, before = finished
    files = {file: file.stat().st_mtime_ns for file in (workspace / "results").rglob("*.safetensors")}
    assert loop(workspace) == before
    assert {file: file.stat().st_mtime_ns for file in files} == files


def test_stopped_run_goes_on_after_its_last_complete_phase(finished, shapes):
    stop = shapes / "results" / "run" / "iter1" / "train" / "stop"
    stop.parent.mkdir(parents=True)
    stop.touch()
    with pytest.raises(StageFailed, match="stopped on request"):
        loop(shapes)
    state = read_json(shapes / "results" / "run" / STATE_FILE)
    assert [phase["label"] for phase in state["phases"]] == ["baseline"]
    assert state["complete"] is False
    trained = Path(state["phases"][0]["checkpoint"]).stat().st_mtime_ns
    stop.unlink()
    outcome = loop(shapes)
    assert outcome.phases[0].checkpoint.stat().st_mtime_ns == trained
    assert values_of(outcome) == values_of(finished[1])


def test_run_killed_before_it_wrote_a_phase_repeats_that_phase_alike(finished):
    workspace, before = finished
    state_file = workspace / "results" / "run" / STATE_FILE
    state = read_json(state_file)
    write_json(state_file, {**state, "phases": state["phases"][:2], "complete": False, "status": None})
    assert loop(workspace) == before
    assert read_json(state_file) == state


def test_given_baseline_is_not_trained_again(finished, shapes):
    given = finished[1].phases[0].checkpoint
    outcome = loop(shapes, max_iterations=1, baseline_checkpoint=given)
    assert not (shapes / "results" / "run" / "baseline" / "train").exists()
    assert outcome.phases[0].checkpoint == given
    assert [phase.trained for phase in outcome.phases] == [False, True]
    assert values_of(outcome) == values_of(finished[1])[:2]


def test_met_metric_ends_the_loop_at_the_baseline(shapes):
    outcome = loop(shapes, metric={**NEVER, "operator": "<=", "target": 100})
    assert outcome.status == "metric_met"
    assert [phase.label for phase in outcome.phases] == ["baseline"]
    assert outcome.combined_csv is None


def test_workspace_without_a_pool_has_nothing_to_add(shapes):
    shutil.rmtree(shapes / "pool")
    outcome = loop(shapes)
    assert outcome.status == "no_new_images"
    assert outcome.combined_csv is None


def test_pool_is_mined_until_nothing_is_left(shapes):
    for file in list((shapes / "pool").glob("*/*.png"))[6:]:
        file.unlink()
    outcome = loop(shapes, topn=50, num_weak=48)
    assert outcome.status == "no_new_images"
    assert [phase.rows for phase in outcome.phases] == [64, 70]


def test_budget_limits_the_new_images_of_an_iteration(shapes):
    outcome = loop(shapes, max_iterations=1, max_new_rows=3)
    assert outcome.phases[1].rows == 64 + 3


def test_image_that_is_in_pool_and_kpi_set_stops_the_run_at_its_start(shapes):
    source = next((shapes / "kpi" / "cross").iterdir())
    shutil.copy(source, shapes / "pool" / "cross" / "leak.png")
    with pytest.raises(InputError, match=r"in two sets .*leak\.png = kpi/cross"):
        loop(shapes)
    assert not (shapes / "results" / "run" / STATE_FILE).exists()


def test_measure_gives_the_figure_of_the_phase(finished, tmp_path):
    workspace, outcome = finished
    result = measure(
        outcome.checkpoint,
        read_baseline(workspace),
        workspace,
        workspace / "results" / "run" / "dataset" / "kpi.csv",
        MetricContract.of(NEVER),
        tmp_path,
        load_runtime("inline"),
    )
    assert result.value == min(values_of(outcome))


@pytest.mark.slow
def test_mining_makes_the_sample_model_better(tmp_path):
    lower = []
    for seed in range(3):
        root = write_shapes_workspace(tmp_path / str(seed), seed)
        values = values_of(classifier_loop(root, seed=seed))
        lower.append(values[-1] < values[0])
    assert sum(lower) >= 2
