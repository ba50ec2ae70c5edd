"""SIGKILL in each phase of the pipeline: the same command goes on and ends with the same models.

Within a phase the run is killed at one place after the other, each time in the process that took it up.
"""

import re
import shutil
import signal

import pandas as pd
import pytest

from tasks.artifacts import read_json
from tasks.deft.audit import audit
from tasks.deft.state import LOG_FILE, load_state

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]

PROGRAM = """
import sys
from pathlib import Path
from flows.pipeline import deft_pipeline
from tasks.automl.settings import SweepSettings
workspace = Path(sys.argv[1])
space = workspace / "specs" / "space.yaml"
deft_pipeline(
    workspace,
    "inline",
    phase1=SweepSettings(trials=2, search_space=space, only=("lr", "weight_decay"), reruns=1),
    loop={"max_iterations": 1, "num_sdg": 4, "min_similarity": 0.5, "metric": "FAR < 0% at Recall=100%"},
    phase3=SweepSettings(trials=2, reruns=1),
    yes=True,
)
"""
PLACES = {
    "before the record is written": [("os.rename", "/pipeline.json", 1)],
    "in sweep 1": [
        ("os.rename", "automl_phase1/recs/rec_000/train/model_best", 1),
        ("os.rename", "automl_phase1/recs/rec_000/outcome.json", 1),
        ("open", "automl_phase1/study.log", 3),
        ("os.rename", "automl_phase1/recs/rec_001/validation/model_best_000/inference.csv", 1),
        ("os.rename", "automl_phase1/recs/rec_001/outcome.json", 1),
        ("os.rename", "automl_phase1/quality_check.json", 1),
        ("os.rename", "automl_phase1/best_rec.json", 1),
        ("os.rename", "phase1.done.json", 1),
    ],
    "in the hand-over": [
        ("os.rename", "specs/baseline_spec.original.yaml", 1),
        ("os.rename", "specs/baseline_spec_automl.yaml", 1),
        ("os.rename", "specs/baseline_spec.yaml", 1),
        ("os.rename", "handoff12.json", 1),
        ("os.rename", "baseline/train/model_epoch", 1),
        ("os.rename", "handoff12.json", 1),
        ("os.rename", "/deft_state.json", 1),
        ("os.rename", "/deft_state.json", 2),
        ("open", LOG_FILE, 1),
        ("os.rename", "handoff12.json", 2),
        ("os.rename", "handoff12.done.json", 1),
    ],
    "in the loop": [
        ("os.rename", "baseline/inference/best_val/inference.csv", 1),
        ("os.rename", "sdg_rows", 1),
        ("os.rename", "iter1/train/model_best", 1),
        ("os.rename", "/best_model.json", 1),
        ("os.rename", "phase2.done.json", 1),
    ],
    "in sweep 3": [
        ("os.rename", "final_automl/base_spec.yaml", 1),
        ("os.rename", "final_automl/recs/rec_000/outcome.json", 1),
        ("os.rename", "final_automl/recs/rec_001/train/model_best", 1),
        ("os.rename", "final_automl/best_rec.json", 1),
        ("os.rename", "phase3.done.json", 1),
    ],
    "in the registration": [
        ("os.rename", "final_automl/inference/best_val/inference.csv", 1),
        ("os.rename", "final_automl/evaluate/best_val/metric_result.json", 1),
        ("os.rename", "final_automl/final_automl_spec.yaml", 1),
        ("os.rename", "/deft_state.json", 1),
        ("open", LOG_FILE, 1),
        ("os.rename", "/best_model_inference_spec.yaml", 1),
        ("os.rename", "PIPELINE_SUMMARY.md", 1),
        ("os.rename", "/pipeline.done.json", 1),
    ],
}


@pytest.fixture(scope="session", name="started")
def _started(run_and_kill):
    """Starts the pipeline on a workspace; gives the exit status, negative when it was killed."""

    def started(workspace, point=None):
        return run_and_kill(PROGRAM, workspace.parent / "store", workspace, point=point)

    return started


@pytest.fixture(scope="module", name="whole")
def _whole(started, slow_base, tmp_path_factory):
    """What came of the run that nobody disturbed."""
    workspace = shutil.copytree(slow_base, tmp_path_factory.mktemp("whole") / "ws")
    assert started(workspace) == 0
    return outcome(workspace)


def run_folder(workspace):
    """The folder of the run that ended."""
    (file,) = (workspace / "results").glob("run_*/pipeline.done.json")
    return file.parent


def outcome(workspace):
    """Every spec, trial, training set, score and metric of a run; its folder goes by one name."""

    def named(text):
        return re.sub(r"run_\d{8}_\d{6}(_\d+)?", "RUN", text.replace(str(workspace), "WS"))

    folder = run_folder(workspace)
    result = read_json(folder / "pipeline.done.json")
    for stage in result["stages"]:
        del stage["seconds"]
    found = {"result": named(str(result))}
    for file in sorted((workspace / "specs").glob("*.yaml")):
        found[file.name] = file.read_text()
    for sweep in ("automl_phase1", "final_automl"):
        trials = pd.read_csv(folder / sweep / "trials.csv")
        found[f"trials of {sweep}"] = trials.drop(columns=["attempts", "seconds", "checkpoint"]).to_csv()
        for file in sorted((folder / sweep).glob("recs/*/validation/*/inference.csv")):
            found[str(file.relative_to(folder))] = named(file.read_text())
    state = load_state(folder)
    for label, phase in state.iterations.items():
        files = [phase.combined_training_csv, phase.provenance_csv, phase.inference_csv]
        found[label] = [
            *(named(file.read_text()) if file else "" for file in files),
            phase.metric_result,
            phase.threshold,
        ]
    found["events"] = [str(event.step) for event in state.done()]
    return found


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_killed_again_and_again(started, slow_base, whole, tmp_path, places):
    workspace = shutil.copytree(slow_base, tmp_path / "ws")
    for place in places:
        assert started(workspace, place) == -signal.SIGKILL, place
    assert started(workspace) == 0
    assert outcome(workspace) == whole
    folder = run_folder(workspace)
    state = load_state(folder)
    assert audit(state) == []
    assert len((folder / LOG_FILE).read_text().splitlines()) == len(state.events)
    assert list(read_json(folder / "handoff12.json")) == ["spec", "checkpoint", "state", "start"]
