"""A stage that reports success without having done its work is a hard stop that names the artifact.

The runtime of these tests runs the native action and then spoils what it left, as a container that ends
with status 0 after a failure would.
"""

import json

import pandas as pd
import pytest

from blocks.runtime import ActionOutcome, InlineRuntime
from flows.deft_aoi import take
from flows.deft_steps import STEPS
from tasks.artifacts import read_json
from tasks.deft.run import LoopSettings, RegressionGate, opened_run
from tasks.deft.state import STATE_FILE, load_state
from tasks.errors import StageFailed

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.slow,  # every test goes through a whole loop
]


class LyingRuntime(InlineRuntime):
    """Spoils the outputs of one action, and says that all went well."""

    _block_type_slug = "lying-runtime"
    _block_type_name = "Lying Runtime"

    action: str
    lie: str

    def image_digest(self, image):
        return "a container of its own, so that no cached result of the others is taken"

    def run(self, request):
        outcome = super().run(request)
        if request.argv[0] == self.action:
            LIES[self.lie](request.log_file.parent)
            return outcome.model_copy(update={"exit_status": 0})
        return outcome


def settings():
    return LoopSettings(
        metric="FAR < 0% at Recall=100%",
        max_iterations=1,
        min_recall=1.0,
        top_k_per_label=50,
        topn=2,
        knn_metric="cosine",
        min_similarity=-1.0,
        filter_by_label=False,
        max_new_rows=None,
        selection="nearest",
        sdg_source="open",
        num_sdg=6,
        pregenerated_dir=None,
        project="board",
        paint_on="golden",
        min_allocation_ratio=0.5,
        regression_gate=RegressionGate(),
        encoder="ChangeNet",
        encoder_path=None,
        num_epochs=None,
        seed=1234,
    )


def run_with(workspace, runtime, until):
    with opened_run(workspace, settings(), None) as run:
        while (step := run.state.next_step()) and str(step) != until:
            take(run, step, InlineRuntime())
        before = load_state(run.folder)
        with pytest.raises(StageFailed) as caught:
            take(run, run.state.next_step(), runtime)
        after = load_state(run.folder)
        assert after.status == "failed"
        assert after.done() == before.done()
        assert after.events[-1].summary == str(caught.value)
        assert not (run.folder / "best_model.json").exists()
        take(run, run.state.next_step(), InlineRuntime())
        assert (run.folder / STATE_FILE).is_file()
        assert load_state(run.folder).status == "in_progress"
    return str(caught.value)


def no_checkpoint(folder):
    for file in folder.glob("*.pth"):
        file.unlink()


def failure_in_status(folder):
    with (folder / "status.json").open("a") as stream:
        stream.write(json.dumps({"status": "FAILURE", "message": "CUDA out of memory"}) + "\n")


def zero_steps(folder):
    """The training "finished" with the weights that it began with."""
    start = folder.parents[1] / "baseline" / "train"
    first = next(iter(sorted(start.glob("model_best_*.pth")))).read_bytes()
    for file in folder.glob("model_*.pth"):
        file.write_bytes(first)


def fewer_than_allocated(folder):
    file = folder / "sdg" / "SDG_result.csv"
    table = pd.read_csv(file, dtype=str)
    table.iloc[:-1].to_csv(file, index=False)


def allocates_nothing(folder):
    file = folder / "allocation.json"
    file.write_text(json.dumps(dict.fromkeys(read_json(file), 0)))


def no_allocation(folder):
    (folder / "allocation.json").unlink()


def ng_without_ok(folder):
    next((folder / "sdg" / "original_image").iterdir()).unlink()


def no_inference(folder):
    (folder / "inference.csv").unlink()


def no_gaps(folder):
    for file in folder.glob("*gaps.parquet"):
        file.unlink()


def dropped_row(folder):
    file = folder / "train_combined_iter1.csv"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))


CASES = [
    ("baseline/train", "train", no_checkpoint, ".pth"),
    ("baseline/train", "train", failure_in_status, "status.json"),
    ("iter1/train", "train", zero_steps, "model_best_"),
    ("baseline/evaluate", "inference", no_inference, "inference.csv"),
    ("baseline/rca", "vcn_aoi", no_gaps, "gaps.parquet"),
    ("iter1/anomalygen", "generate", fewer_than_allocated, "SDG_result.csv"),
    ("iter1/anomalygen", "generate", allocates_nothing, "allocation.json"),
    ("iter1/anomalygen", "generate", no_allocation, "allocation.json"),
    ("iter1/anomalygen", "generate", ng_without_ok, "original_image"),
    ("iter1/data_merge", "assemble", dropped_row, "train_combined_iter1.csv"),
]
LIES = {lie.__name__: lie for _, _, lie, _ in CASES}


@pytest.mark.parametrize(
    ("step", "action", "lie", "named"),
    CASES,
    ids=[f"{step} {lie.__name__}" for step, _, lie, _ in CASES],
)
def test_hard_stop_names_the_artifact_and_the_stage_can_be_repeated(workspace, step, action, lie, named):
    assert named in run_with(workspace, LyingRuntime(action=action, lie=lie.__name__), step)


def test_a_training_that_an_interrupted_process_had_begun_is_believed(workspace):
    class AdoptingRuntime(InlineRuntime):
        """Finds a container in which all was done before this process began."""

        _block_type_slug = "adopting-runtime-of-a-loop"

        def image_digest(self, image):
            return "another image, so that no cached result is taken"

        def run(self, request):
            return ActionOutcome(exit_status=0, error="", seconds=1.0, adopted=True)

    with opened_run(workspace, settings(), None) as run:
        step = run.state.next_step()
        trained = STEPS[step.stage](run, step, InlineRuntime())
        adopted = STEPS[step.stage](run, step, AdoptingRuntime())
        assert adopted == trained
