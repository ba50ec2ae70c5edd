"""The whole pipeline on a small workspace: one approved run that most tests look at, and short other ones.

The metric of that run is brought in files, so that each test can say which model is the better one.
"""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
import yaml
from filelock import FileLock

from blocks.runtime import InlineRuntime
from flows.approval import summary_in
from flows.automl import automl
from flows.deft_aoi import deft_aoi
from flows.pipeline import deft_pipeline
from tasks.artifacts import read_json, sha256_of, write_json
from tasks.automl.settings import SweepSettings
from tasks.deft.audit import audit
from tasks.deft.state import LOG_FILE, load_state, write_state
from tasks.errors import DeftError, InputError
from tasks.keys import flat
from tasks.pipeline.trajectory import SUMMARY, as_markdown, as_text
from tasks.preflight.summary import read
from tests import answering

pytestmark = pytest.mark.usefixtures("prefect_server")

LOOP = {"max_iterations": 1, "num_sdg": 4, "min_similarity": 0.5}
TRIALS = SweepSettings(trials=2)
MET = "FAR <= 100% at Recall=100%"
TUNED = {"train.optim.lr", "train.optim.weight_decay"}


def pipeline(workspace, name=None, **more):
    given = {"runtime": "inline", "phase1": TRIALS, "loop": LOOP, "phase3": TRIALS, "yes": True}
    given |= {"approval_timeout_hours": 0.2} | more  # who should have answered may have failed
    return deft_pipeline.with_options(flow_run_name=name or f"p-{uuid4()}")(workspace, **given)


def bring(folder, **values):
    """Say how many escapes each phase's model has."""
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
        "evaluator": {"type": "artifact", "producer": "line 3", "path": str(folder / "{iter_label}.json")},
    }


class Server(answering.Server):
    """What anybody can ask of the Prefect server."""

    def runs(self, **wanted):
        asked = {"flow_runs": wanted, "sort": "START_TIME_ASC"}
        return self.http.post("flow_runs/filter", json=asked).json()

    def run(self, name):
        return self.runs(name={"any_": [name]})[0]

    def inner(self, name):
        """The flows that a run has called, in order."""
        found = self.runs(parent_flow_run_id={"any_": [self.run(name)["id"]]})
        return [self.http.get(f"flows/{run['flow_id']}").json()["name"] for run in found]

    def pauses(self, name):
        """How often a run and the flows that it called have paused."""
        run = self.run(name)
        ids = [run["id"], *(one["id"] for one in self.runs(parent_flow_run_id={"any_": [run["id"]]}))]
        states = [self.http.get("flow_run_states/", params={"flow_run_id": one}).json() for one in ids]
        return sum(state["type"] == "PAUSED" for found in states for state in found)


@contextmanager
def person(name, *answers, look=None):
    """Somebody who answers a run each time that it asks; gives the summaries, and what `look` saw then."""
    server, seen = Server(), SimpleNamespace(summaries=[], looks=[])

    def work():
        answered = set()
        for answer in answers:
            run_id, keyset = server.waiting(name, answered, looks=600)
            seen.summaries.append(summary_in(server.read(run_id, keyset["description"])))
            seen.looks.append(look() if look else None)
            done = server.resume(run_id, answer)
            assert done["status"] == "ACCEPT", done
            answered.add(keyset["schema"])

    with answering.person(work):
        yield seen


def tree(folder):
    return {
        str(file.relative_to(folder)): (file.lstat().st_mtime_ns, file.lstat().st_size)
        for file in sorted(folder.rglob("*"))
    }


def the_run(workspace):
    (folder,) = (workspace / "results").glob("run_*")
    return folder


def trial_specs(folder):
    return [yaml.safe_load(file.read_text()) for file in sorted(folder.glob("recs/*/train/train_spec.yaml"))]


@pytest.fixture(name="slow_learner")
def _slow_learner(slow_base, tmp_path):
    return shutil.copytree(slow_base, tmp_path / "ws")


@pytest.fixture(scope="module", name="finished")
def _finished(slow_base, tmp_path_factory, prefect_server):
    """A run of all three phases that a person approved; its first iteration and phase 3 are no better."""
    workspace = shutil.copytree(slow_base, tmp_path_factory.mktemp("pipeline") / "ws")
    brought, name = tmp_path_factory.mktemp("brought"), f"p-{uuid4()}"
    bring(brought, baseline=5, iter1=9, final_automl=7)
    space = workspace / "specs" / "space.yaml"
    asked = {
        "phase1": SweepSettings(trials=2, search_space=space, only=("lr", "weight_decay")),
        "phase3": TRIALS,
        "loop": {**LOOP, "metric": escapes(brought)},
        "yes": False,
    }
    before = tree(workspace)
    server = Server()

    def look():
        tasks = {"flow_runs": {"name": {"any_": [name]}}}
        return (
            tree(workspace),
            server.inner(name),
            server.http.post("task_runs/filter", json=tasks).json(),
        )

    with person(name, {"approve": True, "note": "go"}, look=look) as seen:
        result = pipeline(workspace, name, **asked)
    return SimpleNamespace(
        workspace=workspace, result=result, folder=result.folder, asked=asked, brought=brought, name=name,
        before=before, seen=seen, server=server, state=load_state(result.folder),
    )  # fmt: skip


@pytest.fixture(name="reopened")
def _reopened(finished, tmp_path):
    """The finished run, to be changed in its place; it is put back afterwards."""
    places = [finished.workspace, finished.brought]
    for number, place in enumerate(places):
        shutil.copytree(place, tmp_path / str(number), symlinks=True)
    yield finished
    for number, place in enumerate(places):
        shutil.rmtree(place)
        shutil.copytree(tmp_path / str(number), place, symlinks=True)


def again(finished, *undone, **more):
    """Take files of finished phases away, as if the run had been stopped before, and give its command."""
    for name in ("pipeline", *undone):
        (finished.folder / f"{name}.done.json").unlink()
    return pipeline(finished.workspace, **(finished.asked | more))


def without_final(folder):
    """Strike the model of phase 3 from the state, as if the run had been stopped before it was registered."""
    state = load_state(folder)
    del state.iterations["final_automl"]
    state.events.pop()
    state.registered_at = None
    write_state(folder, state)
    log = folder / LOG_FILE
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))


# --- one approval -----------------------------------------------------------------------------------


def test_run_asks_once_and_no_inner_flow_asks_again(finished):
    assert finished.server.inner(finished.name) == ["automl", "deft-aoi", "automl"]
    assert finished.server.pauses(finished.name) == 1


def test_nothing_is_written_and_nothing_runs_before_the_approval(finished):
    (at_pause, inner, tasks), = finished.seen.looks  # fmt: skip
    assert at_pause == finished.before
    assert inner == tasks == []


def test_record_says_who_approved_what(finished):
    record = read_json(finished.folder / "pipeline.json")
    assert (record["approved_by"], record["note"]) == ("person", "go")
    assert record["asked"] == record["parameters"]
    assert record["token"] == read(finished.folder / "preflight_summary.json").token
    assert (finished.folder / "preflight_summary.md").read_text() == finished.seen.summaries[0]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"phase1": SweepSettings(trials=3)}, "phase1.trials 2 -> 3"),
        ({"loop": {**LOOP, "num_sdg": 5}}, "loop."),
        ({"no_gain": "warn"}, "no_gain pause -> warn"),
        ({"skip_phase3": True}, "skip_phase3 False -> True"),
    ],
)
def test_folder_of_a_run_takes_no_other_parameters(finished, changed, said):
    with pytest.raises(DeftError, match="changed since it was approved") as refused:
        pipeline(finished.workspace, **(finished.asked | changed), results_dir=finished.folder)
    assert said in str(refused.value)


def approval(finished):
    return {
        "approved": finished.folder / "preflight_summary.json",
        "approval_token": read_json(finished.folder / "pipeline.json")["token"],
    }


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sweep": SweepSettings(trials=3)}, "parameters of phase1 changed after approval: "),
        ({"metric": "val_loss"}, 'parameters of phase1 changed after approval: metric null -> "val_loss"'),
        ({"approval_token": "0" * 64}, "the approval is of another summary"),
        ({"approval_token": None}, "needs approval_token"),
    ],
)
def test_sweep_refuses_what_the_approval_does_not_cover(finished, tmp_path, changed, said):
    covered = {"sweep": finished.asked["phase1"], "results_dir": tmp_path / "sweep", **approval(finished)}
    with pytest.raises(DeftError, match=said):
        automl(finished.workspace, **(covered | changed))
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"num_sdg": 5}, "parameters of loop changed after approval: num_sdg 4 -> 5"),
        ({"max_iterations": 2}, "parameters of loop changed after approval: max_iterations 1 -> 2"),
        ({"approval_token": "0" * 64}, "the approval is of another summary"),
    ],
)
def test_loop_refuses_what_the_approval_does_not_cover(finished, tmp_path, changed, said):
    covered = {**finished.asked["loop"], "results_dir": tmp_path / "run", **approval(finished)}
    with pytest.raises(DeftError, match=said):
        deft_aoi(finished.workspace, **(covered | changed))
    assert not (tmp_path / "run").exists()


def test_summary_that_was_edited_is_no_approval(reopened):
    file = reopened.folder / "preflight_summary.json"
    file.write_text(file.read_text().replace('"trials": 2', '"trials": 3'))
    with pytest.raises(InputError, match="was changed after it was written"):
        automl(reopened.workspace, sweep=SweepSettings(trials=3), **approval(reopened))


def test_changed_data_are_refused_by_the_run_and_by_its_inner_flows(reopened, tmp_path):
    file = reopened.workspace / "kpi" / "testing_set.csv"
    file.write_text("\n".join(file.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(DeftError, match="changed since it was approved: the content of kpi_test_csv"):
        pipeline(reopened.workspace, **reopened.asked, results_dir=reopened.folder)
    loop = {**reopened.asked["loop"], "results_dir": tmp_path / "run"}
    with pytest.raises(DeftError, match=r"data changed after approval: .*testing_set\.csv"):
        deft_aoi(reopened.workspace, **loop, **approval(reopened))
    sweep = {"sweep": reopened.asked["phase1"], "results_dir": tmp_path / "sweep"}
    with pytest.raises(DeftError, match=r"data changed after approval: .*testing_set\.csv"):
        automl(reopened.workspace, **sweep, **approval(reopened))


def test_two_processes_never_work_on_one_run(finished):
    held = FileLock(finished.folder / ".pipeline.lock")
    with held, pytest.raises(DeftError, match="another process works on"):
        pipeline(finished.workspace, **finished.asked, results_dir=finished.folder)


def test_rejected_run_leaves_nothing(slow_learner):
    name, before = f"p-{uuid4()}", tree(slow_learner)
    with (
        person(name, {"approve": False, "note": "too dear"}),
        pytest.raises(DeftError, match="the preflight was rejected: too dear"),
    ):
        pipeline(slow_learner, name, yes=False)
    assert tree(slow_learner) == before
    assert Server().inner(name) == []


def test_corrected_run_asks_again_and_the_same_command_takes_it_up(slow_learner):
    """Also that skip_phase3 leaves the last sweep out."""
    name = f"p-{uuid4()}"
    asked = {
        "phase1": SweepSettings(trials=3),
        "loop": {**LOOP, "max_iterations": 2, "metric": MET},
        "skip_phase3": True,
        "no_gain": "warn",
        "yes": False,
    }
    correction = {"approve": True, "max_iterations": 1, "phase1_trials": 1}
    with person(name, correction, {"approve": True}, look=lambda: tree(slow_learner)) as seen:
        result = pipeline(slow_learner, name, **asked)
    server = Server()
    assert server.pauses(name) == 2
    assert server.inner(name) == ["automl", "deft-aoi"]
    assert seen.summaries[0] != seen.summaries[1]
    assert seen.looks[0] == seen.looks[1]
    assert load_state(result.folder).max_iterations == 1
    assert len(trial_specs(result.folder / "automl_phase1")) == 1
    (result.folder / "pipeline.done.json").unlink()
    assert pipeline(slow_learner, **asked) == result
    assert the_run(slow_learner) == result.folder


# --- hand-over to the loop --------------------------------------------------------------------------


def test_loop_begins_with_the_evaluation_of_the_winner(finished):
    seeded, first, *_ = finished.state.events
    assert (str(seeded.step), seeded.duration_sec, seeded.skip_reason) == (
        "baseline/train",
        0,
        "automl_phase1",
    )
    assert str(first.step) == "baseline/evaluate"
    lines = (finished.folder / LOG_FILE).read_text().splitlines()
    assert json.loads(lines[0])["skip_reason"] == "automl_phase1"
    assert audit(finished.state) == []


def test_no_training_is_launched_for_the_baseline(finished):
    phase = finished.state.phase("baseline")
    assert [file.name for file in (finished.folder / "baseline" / "train").iterdir()] == [
        phase.best_ckpt_path.name
    ]
    winner = read_json(finished.folder / "phase1.done.json")["model"]["checkpoint"]
    assert phase.best_ckpt_path.read_bytes() == open(winner, "rb").read()  # noqa: PTH123, SIM115


def test_spec_that_is_handed_over_differs_in_tuned_keys_only(finished, slow_base):
    specs = finished.workspace / "specs"
    before = flat(yaml.safe_load((slow_base / "specs" / "baseline_spec.yaml").read_text()))
    after = flat(yaml.safe_load((specs / "baseline_spec.yaml").read_text()))
    assert {key for key in before | after if before.get(key) != after.get(key)} == TUNED
    assert after["train.num_epochs"] == before["train.num_epochs"]
    assert (specs / "baseline_spec_automl.yaml").read_bytes() == (specs / "baseline_spec.yaml").read_bytes()
    kept = (specs / "baseline_spec.original.yaml").read_bytes()
    assert kept == (slow_base / "specs" / "baseline_spec.yaml").read_bytes()


def test_journal_holds_the_four_steps_in_order(finished):
    journal = read_json(finished.folder / "handoff12.json")
    assert list(journal) == ["spec", "checkpoint", "state", "start"]
    assert {change["key"] for change in journal["spec"]["changes"]} == TUNED


def test_no_spec_names_the_automl_policy(finished):
    specs = [*finished.workspace.rglob("*.yaml")]
    assert len(specs) > 10
    assert not [file for file in specs if "automl_policy" in file.read_text()]


def test_kpi_set_is_in_no_spec_of_a_sweep(finished):
    for folder in ("automl_phase1", "final_automl"):
        specs = [*(finished.folder / folder / "recs").rglob("*.yaml")]
        assert specs
        assert not [file for file in specs if "testing_set.csv" in file.read_text()]


# --- phase 3 and what is delivered ------------------------------------------------------------------


def test_phase_3_takes_the_best_model_and_the_last_data(finished):
    """The baseline is best, iteration 1 is last."""
    outcome = read_json(finished.folder / "phase2.done.json")
    assert (outcome["best"], outcome["last"]) == ("baseline", "iter1")
    specs = trial_specs(finished.folder / "final_automl")
    assert len(specs) >= 2
    warm = str(finished.state.phase("baseline").best_ckpt_path)
    combined = str(finished.state.phase("iter1").combined_training_csv)
    for spec in specs:
        assert spec["train"]["pretrained_model_path"] == warm
        assert spec["train"]["resume_training_checkpoint_path"] is None
        assert spec["dataset"]["classify"]["train_dataset"] == {
            "csv_path": combined,
            "images_dir": str(finished.workspace),
        }


def test_phase_3_keeps_architecture_epochs_and_validation_set_of_phase_1(finished):
    first, second = (trial_specs(finished.folder / name) for name in ("automl_phase1", "final_automl"))
    fixed = [
        (spec["model"], spec["train"]["num_epochs"], spec["dataset"]["classify"]["validation_dataset"])
        for spec in first + second
    ]
    assert all(one == fixed[0] for one in fixed)


def test_model_of_phase_3_is_registered_whole(finished):
    phase = finished.state.phase("final_automl")
    assert (phase.status, phase.stage_completed, phase.source) == ("complete", "evaluate", "automl_phase3")
    assert phase.metric_result["value"] == 7
    assert phase.inference_csv.is_file()
    assert phase.training_spec.is_file()
    assert phase.passed is False
    assert finished.state.registered_at
    assert finished.state.completed_at <= finished.state.registered_at


def test_worse_phase_3_is_rolled_back_and_both_numbers_are_told(finished):
    best = read_json(finished.folder / "best_model.json")
    assert best["iteration"] == "baseline"
    assert finished.result.status == "complete"
    assert finished.result.delivered == "baseline"
    assert finished.result.checkpoint == finished.state.phase("baseline").best_ckpt_path
    text = (finished.folder / SUMMARY).read_text()
    assert "Rolled back" in text
    assert "Escapes 7 boards after phase 3, 5 boards of the loop (baseline)" in text


def test_summary_is_the_trajectory_in_order(finished):
    stages = finished.result.stages
    assert [(stage.stage, stage.set) for stage in stages] == [
        ("zero-shot", "validation"),
        ("phase 1 best", "validation"),
        ("baseline", "KPI"),
        ("iter1", "KPI"),
        ("loop winner, untouched", "validation"),
        ("phase 3 best", "validation"),
        ("phase 3 best", "KPI"),
    ]
    assert [stage.value for stage in stages if stage.set == "KPI"] == [5, 9, 7]
    text = (finished.folder / SUMMARY).read_text()
    assert text.splitlines()[6:14] == as_markdown(finished.result, {}).splitlines()[6:14]
    assert len(as_text(stages).splitlines()) == 2 + len(stages)
    assert str(finished.folder / "final_automl" / "trials.csv") in text


def test_same_folder_after_the_end_changes_no_model_and_asks_nobody(reopened):
    before = {
        file: sha256_of(file) for file in reopened.folder.rglob("*") if file.suffix in (".pth", ".json")
    }
    assert pipeline(reopened.workspace, **reopened.asked, results_dir=reopened.folder) == reopened.result
    assert {file: sha256_of(file) for file in before} == before


@pytest.mark.slow
def test_better_phase_3_is_delivered_and_starts_no_later_sweep(reopened):
    """Then the whole of phase 2 and 3 again: the registered model is no warm start of its own successor."""
    without_final(reopened.folder)
    bring(reopened.brought, final_automl=3)
    result = again(reopened)
    state = load_state(reopened.folder)
    assert result.delivered == "final_automl"
    assert result.checkpoint == state.phase("final_automl").best_ckpt_path
    assert read_json(reopened.folder / "best_model.json")["iteration"] == "final_automl"
    assert "The second sweep is better: Escapes 3 boards after phase 3, 5 boards of the loop" in result.reason
    shutil.rmtree(reopened.folder / "final_automl" / "recs")
    (reopened.folder / "final_automl" / "study.log").unlink()
    repeated = again(reopened, "phase2", "phase3")
    assert read_json(reopened.folder / "phase2.done.json")["best"] == "baseline"
    warm = {spec["train"]["pretrained_model_path"] for spec in trial_specs(reopened.folder / "final_automl")}
    assert warm == {str(state.phase("baseline").best_ckpt_path)}
    assert (repeated.delivered, repeated.checkpoint) == (result.delivered, result.checkpoint)


def test_equal_phase_3_does_not_replace_the_earlier_model(reopened):
    without_final(reopened.folder)
    bring(reopened.brought, final_automl=5)
    assert again(reopened).delivered == "baseline"


def test_phase_3_without_a_model_leaves_the_best_of_the_loop(reopened):
    without_final(reopened.folder)
    shutil.rmtree(reopened.folder / "final_automl")
    combined = reopened.state.phase("iter1").combined_training_csv
    row = combined.read_text().splitlines()[-1].split(",")
    image = next((reopened.workspace / row[0]).glob(f"{row[3]}_*"))
    image.write_bytes(b"no image")
    result = again(reopened, "phase3")
    assert result.status == "complete_with_warnings"
    assert result.delivered == "baseline"
    assert result.threshold == reopened.state.phase("baseline").threshold
    assert "phase 3 gave no model" in (reopened.folder / SUMMARY).read_text()
    assert read_json(reopened.folder / "best_model.json")["iteration"] == "baseline"
    assert "final_automl" not in load_state(reopened.folder).iterations


def test_phase_3_that_cannot_start_is_no_phase_3_without_a_model(reopened):
    """Another process on its folder, or a summary that was changed: nothing is concluded from that."""
    without_final(reopened.folder)
    held = FileLock(reopened.folder / "final_automl" / ".lock")
    with held, pytest.raises(DeftError, match="another process works on"):
        again(reopened, "phase3")
    assert not (reopened.folder / "pipeline.done.json").exists()
    assert pipeline(reopened.workspace, **reopened.asked).delivered == "baseline"


def test_spec_edited_between_phase_1_and_the_hand_over_is_refused(reopened):
    for name in ("phase2", "phase3", "handoff12"):
        (reopened.folder / f"{name}.done.json").unlink()
    (reopened.folder / "handoff12.json").unlink()
    spec = reopened.workspace / "specs" / "baseline_spec.yaml"
    spec.write_text(spec.read_text().replace("num_epochs: 1", "num_epochs: 2"))
    with pytest.raises(InputError, match="was changed since the approval; restore it"):
        again(reopened)


# --- other ways through the phases ------------------------------------------------------------------


class NotingRuntime(InlineRuntime):
    """Writes down what it runs."""

    _block_type_slug = "noting-runtime"
    _block_type_name = "Noting Runtime"

    file: str

    def image_digest(self, image):
        return f"a machine of its own, so that nothing is taken from the cache: {self.file}"

    def run(self, request):
        with Path(self.file).open("a") as file:
            file.write(f"{request.category} {request.argv[0]}\n")
        return super().run(request)


def test_metric_met_at_the_baseline_leaves_phase_3_out(slow_learner, tmp_path, caplog):
    """Also that without phase 1 and a checkpoint the loop trains its own baseline, where it was told to."""
    NotingRuntime(file=str(tmp_path / "notes")).save("here", overwrite=True)
    name = f"p-{uuid4()}"
    asked = {"skip_phase1": True, "loop": {**LOOP, "metric": MET}, "runtime": "noting-runtime/here"}
    result = pipeline(slow_learner, name, **asked)
    notes = (tmp_path / "notes").read_text().splitlines()
    assert notes[:2] == ["visual_changenet train", "visual_changenet inference"]
    assert Server().inner(name) == ["deft-aoi"]
    assert (result.status, result.delivered) == ("complete", "baseline")
    assert "phase 3 is left out: no_augmented_csv" in caplog.text
    assert "no_augmented_csv" in (result.folder / SUMMARY).read_text()
    state = load_state(result.folder)
    assert state.events[0].duration_sec > 0
    assert (result.folder / "baseline" / "train" / "train.log").is_file()
    assert not (result.folder / "handoff12.done.json").exists()


def test_failed_loop_ends_the_run_with_a_summary_and_the_same_command_goes_on(finished, slow_learner):
    """Also that an external checkpoint takes the place of phase 1."""
    external = finished.state.phase("baseline").best_ckpt_path
    asked = {
        "skip_phase1": True,
        "baseline_checkpoint": external,
        "loop": {**LOOP, "min_similarity": 1.0, "sdg_source": "none"},
    }
    for name in (f"p-{uuid4()}", f"p-{uuid4()}"):
        with pytest.raises(DeftError, match="mining and generation gave nothing"):
            pipeline(slow_learner, name, **asked)
        assert Server().inner(name) == ["deft-aoi"]
    folder = the_run(slow_learner)
    assert "**failed_phase2**" in (folder / SUMMARY).read_text()
    assert not (folder / "final_automl").exists()
    assert not (folder / "pipeline.done.json").exists()
    first = load_state(folder).events[0]
    assert (first.skip_reason, first.duration_sec) == ("external", 0)
    assert load_state(folder).phase("baseline").best_ckpt_path.read_bytes() == external.read_bytes()
    assert not (slow_learner / "specs" / "baseline_spec_automl.yaml").exists()


def test_automl_alone_only_sweeps(slow_learner):
    name = f"p-{uuid4()}"
    result = pipeline(slow_learner, name, mode="automl_only", phase1=SweepSettings(trials=1), no_gain="warn")
    assert Server().inner(name) == ["automl"]
    assert (result.status, result.delivered) == ("complete", "phase 1 best")
    assert result.checkpoint.is_file()
    assert {stage.set for stage in result.stages} == {"validation"}
    assert not (result.folder / "deft_state.json").exists()
    assert not (slow_learner / "specs" / "baseline_spec_automl.yaml").exists()


@pytest.mark.slow
def test_loop_alone_sweeps_never_and_if_not_met_says_why(slow_learner, tmp_path):
    bring(tmp_path, baseline=5, iter1=0)
    name = f"p-{uuid4()}"
    result = pipeline(slow_learner, name, mode="loop_only", loop={**LOOP, "metric": escapes(tmp_path)})
    assert Server().inner(name) == ["deft-aoi"]
    assert (result.status, result.delivered) == ("complete", "iter1")
    assert read_json(result.folder / "best_model.json")["iteration"] == "iter1"


@pytest.mark.slow
def test_no_gain_over_no_training(slow_learner):
    """Stops where that is chosen; the same run with a person asks that person instead."""
    asked = {"mode": "automl_only", "phase1": SweepSettings(trials=1)}
    with pytest.raises(
        DeftError, match=r"no better than a model without training: far_pct .*no_gain is stop"
    ):
        pipeline(slow_learner, **asked, no_gain="stop")
    spec = slow_learner / "specs" / "baseline_spec.yaml"
    before = spec.read_bytes()
    name = f"p-{uuid4()}"
    with (
        person(name, {"approve": True}, {"approve": False, "note": "not worth it"}) as seen,
        pytest.raises(DeftError, match="a person stopped the run: not worth it"),
    ):
        pipeline(slow_learner, name, **asked, yes=False)
    assert Server().pauses(name) == 2
    assert "phase 1 is no better than a model without training" in seen.summaries[1]
    assert spec.read_bytes() == before
    name = f"p-{uuid4()}"
    with person(name, {"approve": True}):
        result = pipeline(slow_learner, name, **asked, yes=False)
    assert any("no better than a model without training" in text for text in result.warnings)
