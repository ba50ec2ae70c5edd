import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from filelock import FileLock

from flows.deft_aoi import deft_aoi
from tasks.artifacts import read_json, write_json
from tasks.deft.state import LOG_FILE, STATE_FILE, load_state, write_state
from tasks.errors import DeftError, InputError, StageFailed
from tasks.registry import run_in_process

pytestmark = pytest.mark.usefixtures("prefect_server")

NEVER = "FAR < 0% at Recall=100%"


def loop(workspace, **more):
    given = {"max_iterations": 1, "metric": NEVER, "min_similarity": -1.0, "topn": 2, "sdg_source": "none"}
    parameters = {**given, **more}
    return deft_aoi(workspace, **parameters)


def stages(state, label):
    return [event.stage for event in state.events if event.iter == label and event.status == "ok"]


def trained(state, label):
    """Whether the phase was trained in this run, rather than taken from an earlier one."""
    log = state.results_dir / label / "train" / "train.log"
    return "unchanged inputs" not in log.read_text()


def scores(state, label):
    return pd.read_csv(state.phase(label).inference_csv)["siamese_score"].to_numpy()


@pytest.fixture(scope="module")
def finished(tiny_workspace, tmp_path_factory, prefect_server):
    workspace = shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("loop") / "ws")
    return workspace, loop(workspace, max_iterations=2)


def test_loop_goes_through_all_stages_and_names_the_best_model(finished):
    _, state = finished
    assert state.status == "complete"
    assert stages(state, "baseline") == ["train", "evaluate", "rca"]
    rest = ["routing", "anomalygen", "data_mining", "data_merge", "train", "evaluate"]
    assert stages(state, "iter1") == [*rest, "rca"]
    assert stages(state, "iter2") == [*rest, "loop_stop"]
    best = read_json(state.results_dir / "best_model.json")
    values = {label: phase.metric_result["value"] for label, phase in state.measured().items()}
    assert values[best["iteration"]] == min(values.values())


def test_training_set_grows_by_the_new_samples_of_each_iteration(finished):
    _, state = finished
    rows = [phase.training_rows for phase in state.iterations.values()]
    mined = [state.phase(label).mined_count for label in ("iter1", "iter2")]
    assert np.diff(rows).tolist() == mined
    assert min(mined) > 0


def test_no_pool_sample_is_used_twice(finished):
    _, state = finished
    history = read_json(state.results_dir / "mining_history.json")
    first, second = (set(entry["selected_filepaths"]) for entry in history["iterations"])
    assert first
    assert not first & second


def test_iteration_starts_from_the_best_model_so_far(finished):
    _, state = finished
    spec = yaml.safe_load(state.phase("iter1").training_spec.read_text())
    assert spec["train"]["pretrained_model_path"] == str(state.phase("baseline").best_ckpt_path)
    assert spec["train"]["resume_training_checkpoint_path"] is None


def test_log_has_one_line_an_event(finished):
    _, state = finished
    lines = (state.results_dir / LOG_FILE).read_text().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [event.seq for event in state.events]


def test_new_run_on_equal_inputs_trains_nothing(finished):
    workspace, before = finished
    state = loop(workspace, max_iterations=2)
    assert state.results_dir != before.results_dir
    assert not trained(state, "baseline")
    assert not trained(state, "iter2")
    for label in state.measured():
        assert (scores(state, label) == scores(before, label)).all()
        assert state.phase(label).inference_csv.is_relative_to(state.results_dir)


def test_met_metric_stops_after_the_baseline(workspace):
    state = loop(workspace, metric="FAR <= 100% at Recall=100%")
    assert list(state.iterations) == ["baseline"]
    assert state.final_artifacts["stop_reason"] == "metric_met"


@pytest.mark.slow
def test_control_draws_as_many_samples_as_mining_would_give(workspace):
    state = loop(workspace, selection="random", max_new_rows=7)
    assert state.phase("iter1").mined_count == 7


@pytest.mark.slow
def test_control_arm_takes_the_baseline_of_an_earlier_run(finished):
    workspace, before = finished
    state = loop(workspace, max_iterations=2, selection="random")
    assert not trained(state, "baseline")
    assert state.phase("iter1").mined_count == before.phase("iter1").mined_count
    assert trained(state, "iter2")


def test_failed_run_goes_on_after_the_cause_is_mended(workspace):
    pool = workspace / "augmentation" / "mining_pool" / "mining_pool.csv"
    row = pd.read_csv(pool, dtype=str).iloc[0]
    image = workspace / "images" / row["input_path"] / f"{row['object_name']}_SolderLight.jpg"
    content = image.read_bytes()
    image.write_bytes(b"no image")
    with pytest.raises(DeftError, match=image.name):
        loop(workspace)
    (folder,) = (workspace / "results").iterdir()
    failed = load_state(folder)
    assert failed.status == "failed"
    assert failed.events[-1].stage == "data_mining"
    image.write_bytes(content)
    with pool.open("a") as stream:  # production goes on meanwhile
        stream.write(pool.read_text().splitlines()[-1] + "\n")
    state = loop(workspace)
    assert state.results_dir == folder
    assert state.status == "complete"
    assert stages(state, "baseline") == ["train", "evaluate", "rca"]


def test_two_processes_never_work_on_one_run(workspace, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with FileLock(folder / ".lock"), pytest.raises(DeftError, match="another process works on"):
        loop(workspace, results_dir=folder)


def test_other_settings_in_a_used_folder_are_refused(finished, tmp_path):
    workspace, state = finished
    with pytest.raises(DeftError, match="other settings or data"):
        loop(workspace, topn=3, results_dir=state.results_dir)


def test_image_that_is_in_pool_and_kpi_set_stops_the_run(workspace):
    pool_csv = workspace / "augmentation" / "mining_pool" / "mining_pool.csv"
    kpi = pd.read_csv(workspace / "kpi" / "testing_set.csv", dtype=str)
    pool = pd.read_csv(pool_csv, dtype=str)
    pd.concat([kpi, pool]).to_csv(pool_csv, index=False)
    with pytest.raises(InputError, match="leakage"):
        loop(workspace)


def test_unknown_metric_is_named_before_anything_is_written(workspace):
    with pytest.raises(InputError, match="metric"):
        loop(workspace, metric="Beauty < 3% at Recall=100%")
    assert not (workspace / "results").exists()


def test_consumer_reproduces_the_kpi_scores_bit_for_bit(finished, tmp_path):
    workspace, state = finished
    best = read_json(state.results_dir / "best_model.json")
    spec = yaml.safe_load((state.results_dir / "best_model_inference_spec.yaml").read_text())
    spec["dataset"]["classify"]["infer_dataset"] = {
        "csv_path": str(workspace / "kpi" / "testing_set.csv"),
        "images_dir": best["images_dir"],
    }
    spec["inference"]["results_dir"] = spec["results_dir"] = str(tmp_path)
    file = tmp_path / "filled.yaml"
    file.write_text(yaml.safe_dump(spec))
    assert run_in_process("visual_changenet", ["inference", "-e", str(file)]) == 0
    reproduced = (tmp_path / "inference.csv").read_bytes()
    assert reproduced == state.phase(best["iteration"]).inference_csv.read_bytes()
    assert float(best["threshold"]) == spec["model"]["classify"]["eval_margin"]


def test_summary_after_every_iteration(finished):
    _, state = finished
    for label in ("iter1", "iter2"):
        text = (state.results_dir / f"{label}_summary.md").read_text()
        assert f"{state.phase(label).training_rows:,}" in text
        assert len(text.split()) <= 300
    assert "the loop stops" in text


def test_run_that_is_taken_up_shows_its_last_events_and_is_checked_for_leakage(workspace, caplog):
    state = loop(workspace, max_iterations=2)
    stop_after(state, "iter1", "rca")
    mined = pd.read_csv(state.phase("iter1").new_rows_csv, dtype=str).iloc[0]
    kpi = pd.read_csv(workspace / "kpi" / "testing_set.csv", dtype=str).iloc[0]
    image = workspace / mined["input_path"] / f"{mined['object_name']}_SolderLight.jpg"
    shutil.copy(workspace / "images" / kpi["input_path"] / f"{kpi['object_name']}_SolderLight.jpg", image)
    with caplog.at_level("INFO"), pytest.raises(InputError, match="leakage: 1 rows of the training set so"):
        loop(workspace, max_iterations=2)
    assert caplog.text.count("so far: ") == 5


def stop_after(state, label, stage):
    """Strike the commits after one from the state, as if the run had been killed then."""
    last = next(n for n, one in enumerate(state.events) if (one.iter, one.stage) == (label, stage))
    state.events = state.events[: last + 1]
    state.status, state.completed_at, state.final_artifacts = "in_progress", None, None
    write_state(state.results_dir, state)


@pytest.mark.slow
def test_edited_training_set_is_made_again(workspace):
    state = loop(workspace)
    expected = state.phase("iter1").combined_training_csv.read_text()
    stop_after(state, "iter1", "train")
    state.phase("iter1").combined_training_csv.write_text(expected.replace("PASS", "pass"))
    again = loop(workspace, results_dir=state.results_dir)
    assert again.phase("iter1").combined_training_csv.read_text() == expected
    assert "was changed after its commit" in again.restarts[0].findings[-1]
    assert again.restarts[0].went_on_with == "iter1/data_merge"


def test_state_changed_by_hand_is_reported_and_not_believed(workspace, caplog):
    state = loop(workspace, metric="FAR <= 100% at Recall=100%")
    file = state.results_dir / STATE_FILE
    content = read_json(file)
    content["iterations"]["baseline"]["metric_result"]["value"] = 0.0
    file.write_text(json.dumps(content))
    again = loop(workspace, metric="FAR <= 100% at Recall=100%", results_dir=state.results_dir)
    assert "changed by hand" in caplog.text
    assert again.phase("baseline").metric_result == state.phase("baseline").metric_result
    assert again.status == "complete"


def test_finished_run_is_not_touched_by_the_same_folder_again(finished):
    workspace, state = finished
    before = (state.results_dir / STATE_FILE).read_bytes()
    assert loop(workspace, max_iterations=2, results_dir=state.results_dir).status == "complete"
    assert (state.results_dir / STATE_FILE).read_bytes() == before


def test_no_new_row_is_a_hard_stop(workspace):
    with pytest.raises(DeftError, match="mining and generation gave nothing"):
        loop(workspace, min_similarity=1.0)
    (folder,) = (workspace / "results").iterdir()
    state = load_state(folder)
    assert state.status == "failed"
    assert not (folder / "best_model.json").exists()


@pytest.fixture
def brought(tmp_path):
    """A contract whose results somebody brings: 5 escapes of the baseline, 9 of the first iteration."""
    for label, value in (("baseline", 5), ("iter1", 9)):
        write_json(tmp_path / f"{label}.json", {"name": "escapes", "value": value, "unit": "boards"})
    return {
        "name": "escapes",
        "display_name": "Escapes",
        "operator": "<",
        "target": 1,
        "unit": "boards",
        "evaluator": {"type": "artifact", "producer": "line 3", "path": str(tmp_path / "{iter_label}.json")},
    }


def test_gate_stops_a_run_that_gets_worse(workspace, brought):
    with pytest.raises(StageFailed, match="iter1 is worse than the best before: 5 → 9 boards"):
        loop(workspace, metric=brought, regression_gate={"action": "stop", "max_worse": 3})
    (folder,) = (workspace / "results").iterdir()
    assert load_state(folder).status == "failed"


@pytest.mark.slow
def test_broken_constraint_is_worse_whatever_the_value(workspace, brought, tmp_path):
    held = {"name": "uptime", "display_name": "Uptime", "operator": ">=", "target": 5, "unit": "h"}
    for label, uptime in (("baseline", 6), ("iter1", 4)):
        result = {"name": "escapes", "value": 5, "unit": "boards", "constraints": {"uptime": uptime}}
        write_json(tmp_path / f"{label}.json", result)
    with pytest.raises(StageFailed, match="iter1 is worse than the best before"):
        loop(workspace, metric={**brought, "constraints": [held]}, regression_gate={"action": "stop"})


@pytest.mark.slow
@pytest.mark.parametrize("gate", [{"action": "stop", "max_worse": 4}, {"action": "warn"}, {"enabled": False}])
def test_gate_lets_a_run_go_on_and_its_best_model_is_not_the_last(workspace, brought, gate, caplog):
    state = loop(workspace, metric=brought, regression_gate=gate)
    assert read_json(state.results_dir / "best_model.json")["iteration"] == "baseline"
    assert ("worse than the best before" in caplog.text) == (gate == {"action": "warn"})


def test_command_measures_the_metric(workspace, tmp_path):
    program = tmp_path / "my evaluator.py"
    program.write_text(
        "#!/usr/bin/env python3\n"
        "import csv, json, sys\n"
        "given = dict(zip(sys.argv[2::2], sys.argv[3::2]))\n"
        "rows = list(csv.DictReader(open(given['--inference-csv'])))\n"
        "result = {'name': 'defects_seen', 'value': len(rows), 'unit': sys.argv[1], 'passed': False}\n"
        "json.dump(result, open(given['--output-json'], 'w'))\n"
    )
    program.chmod(0o755)
    contract = {
        "name": "defects_seen",
        "display_name": "Defects seen",
        "operator": ">=",
        "target": 40,
        "unit": "per board",
        "evaluator": {"type": "command", "executable": str(program), "args": ["per board"]},
    }
    state = loop(workspace, metric=contract)
    assert state.phase("baseline").metric_result["value"] == 48
    assert state.final_artifacts["stop_reason"] == "metric_met"
    assert read_json(state.results_dir / "best_model.json")["far_pct"] is None


def test_container_generator_needs_a_runtime_that_starts_images(workspace):
    with pytest.raises(InputError, match="needs a runtime that starts NVIDIA's image"):
        loop(workspace, sdg_source="anomalygen")
    assert not (workspace / "results").exists()


def test_pregenerated_pairs_need_their_folder(workspace):
    with pytest.raises(InputError, match="pregenerated_dir"):
        loop(workspace, sdg_source="pregenerated")
