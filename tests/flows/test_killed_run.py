"""SIGKILL anywhere: the same command goes on, and ends with the same training sets, scores and metric."""

import re
import signal

import pytest

from flows.deft_aoi import deft_aoi
from tasks.deft.state import LOG_FILE, load_state

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]

SETTINGS = {
    "max_iterations": 1,
    "metric": "FAR < 0% at Recall=100%",
    "min_similarity": -1.0,
    "topn": 2,
    "num_sdg": 6,
}
PROGRAM = f"""
import sys
from flows.deft_aoi import deft_aoi
deft_aoi(sys.argv[1], **{SETTINGS!r})
"""
COMMITS = [
    *(f"baseline/{stage}" for stage in ("train", "evaluate", "rca")),
    *(
        f"iter1/{stage}"
        for stage in ("routing", "anomalygen", "data_mining", "data_merge", "train", "evaluate", "loop_stop")
    ),
]
IN_THE_MIDDLE = {
    "of the baseline's training": ("os.rename", "baseline/train/model_best", 1),
    "of scoring the KPI set": ("os.rename", "baseline/inference/best_val/inference.csv", 1),
    "of gap analysis": ("os.rename", "gaps.parquet", 1),
    "of routing": ("os.rename", "anomalygen_gaps.parquet", 1),
    "of painting": ("open", "sdg/reconstructed_image", 3),
    "of ingesting pairs": ("open", "synthetic_iter1_ng", 3),
    "of embedding the pool": ("os.rename", "source_embeddings.parquet", 1),
    "of the neighbour search": ("os.rename", "mined_raw.parquet", 1),
    "of the ledger, selection written": ("os.rename", "mining_history.json", 1),
    "of joining new rows": ("os.rename", "mining_filter/mining_pool.csv", 1),
    "of assembly, CSV not yet written": ("os.rename", "train_combined_iter1.csv", 1),
    "of assembly, CSV without provenance": ("os.rename", "train_combined_iter1_provenance.csv", 1),
    "of the iteration's training": ("os.rename", "iter1/train/model_best", 1),
    "of the hand-over": ("os.rename", "best_model_inference_spec.yaml", 1),
}


@pytest.fixture(scope="module", name="whole")
def _whole(tiny_workspace, tmp_path_factory, prefect_server):
    """The run that nobody disturbed."""
    import shutil

    workspace = shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("whole") / "ws")
    return outcome(deft_aoi(workspace, **SETTINGS))


def outcome(state):
    """Every training CSV, score and metric of a run; the folder of the run goes by one name."""
    phases = {}
    for label, phase in state.iterations.items():
        files = [phase.combined_training_csv, phase.provenance_csv, phase.inference_csv]
        texts = [file.read_text() if file else "" for file in files]
        named = [re.sub(r"run_\d{8}_\d{6}", "RUN", text) for text in texts]
        phases[label] = [*named, phase.metric_result, phase.training_rows, phase.threshold]
    return phases


@pytest.fixture(name="start")
def _start(run_and_kill, workspace, tmp_path):
    """Starts the loop on the workspace; gives the exit status, negative when it was killed."""

    def start(*point):
        return run_and_kill(PROGRAM, tmp_path / "results", workspace, point=point)

    return start


def the_run(workspace):
    (folder,) = (workspace / "results").iterdir()
    return load_state(folder)


def test_kill_before_every_commit(start, workspace, whole):
    """The work of the stage is done, its commit is lost: each start commits one stage more."""
    killed = []
    while start("os.rename", "/deft_state.json", 2) == -signal.SIGKILL:
        killed.append(str(the_run(workspace).next_step()))
    assert killed == COMMITS
    assert the_run(workspace).status == "complete"
    assert outcome(the_run(workspace)) == whole


def test_kill_within_every_commit(start, workspace, whole):
    """The state is written, the line of the log is not."""
    killed = []
    while not killed or the_run(workspace).status != "complete":
        assert start("open", LOG_FILE, 1) == -signal.SIGKILL
        killed.append(str(the_run(workspace).events[-1].step))
    assert killed == COMMITS
    state = the_run(workspace)
    assert outcome(state) == whole
    assert len((state.results_dir / LOG_FILE).read_text().splitlines()) == len(state.events) == len(COMMITS)


def test_kill_in_the_middle_of_every_stage(start, workspace, whole):
    """Each start goes on where the last was killed, and is killed a little later."""
    for name, point in IN_THE_MIDDLE.items():
        assert start(*point) == -signal.SIGKILL, name
    assert start() == 0
    assert outcome(the_run(workspace)) == whole
