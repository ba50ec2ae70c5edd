import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import yaml
from filelock import FileLock

from flows.deft_aoi import deft_aoi
from tasks.artifacts import read_json
from tasks.deft.state import LOG_FILE, load_state
from tasks.errors import DeftError, InputError

pytestmark = pytest.mark.usefixtures("prefect_server")

NEVER = "FAR < 0% at Recall=100%"


def loop(workspace, **more):
    parameters = {"max_iterations": 1, "metric": NEVER, "min_similarity": -1.0, "topn": 2, **more}
    return deft_aoi(workspace, **parameters)


def stages(state, label):
    return [event.stage for event in state.events if event.iter == label and event.status == "ok"]


def scores(state, label):
    return pd.read_csv(state.phase(label).inference_csv)["siamese_score"].to_numpy()


@pytest.fixture(scope="module")
def finished(tiny_workspace, tmp_path_factory, prefect_server):
    import shutil

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
    assert not (state.results_dir / "baseline" / "train" / "train.log").exists()
    assert not (state.results_dir / "iter2" / "train" / "train.log").exists()
    for label in state.measured():
        assert (scores(state, label) == scores(before, label)).all()
        assert state.phase(label).inference_csv.is_relative_to(state.results_dir)


def test_met_metric_stops_after_the_baseline(workspace):
    state = loop(workspace, metric="FAR <= 100% at Recall=100%")
    assert list(state.iterations) == ["baseline"]
    assert state.final_artifacts["stop_reason"] == "metric_met"


def test_control_draws_as_many_samples_as_mining_would_give(workspace):
    state = loop(workspace, selection="random", max_new_rows=7)
    assert state.phase("iter1").mined_count == 7


def test_control_arm_takes_the_baseline_of_an_earlier_run(finished):
    workspace, before = finished
    state = loop(workspace, max_iterations=2, selection="random")
    assert not (state.results_dir / "baseline" / "train" / "train.log").exists()
    assert state.phase("iter1").mined_count == before.phase("iter1").mined_count
    assert (state.results_dir / "iter2" / "train" / "train.log").exists()


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


@pytest.mark.slow
@pytest.mark.parametrize("after", ["train", "rca", "data_mining", "data_merge"])
def test_killed_run_ends_with_the_same_sets_and_scores(finished, workspace, after, tmp_path):
    """SIGKILL as soon as the log holds a commit of `after`; the same command then goes on."""
    from prefect.settings import PREFECT_API_URL

    code = (
        "import sys; from flows.deft_aoi import deft_aoi;"
        f"deft_aoi(sys.argv[1], max_iterations=2, metric={NEVER!r}, min_similarity=-1.0, topn=2)"
    )
    environment = {
        **os.environ,
        "PREFECT_API_URL": PREFECT_API_URL.value(),
        "PREFECT_LOCAL_STORAGE_PATH": str(tmp_path / "results"),
    }
    process = subprocess.Popen([sys.executable, "-c", code, str(workspace)], env=environment)
    while process.poll() is None:
        logs = list(workspace.glob(f"results/*/{LOG_FILE}"))
        if logs and f'"stage":"{after}"' in logs[0].read_text():
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run([sys.executable, "-c", code, str(workspace)], env=environment, check=False)
    assert done.returncode == 0
    (folder,) = (workspace / "results").iterdir()
    state, expected = load_state(folder), finished[1]
    assert state.status == "complete"
    for label in expected.measured():
        assert (scores(state, label) == scores(expected, label)).all()
    for label in ("iter1", "iter2"):
        sets = [one.phase(label).combined_training_csv.read_text() for one in (state, expected)]
        assert sets[0] == sets[1]
