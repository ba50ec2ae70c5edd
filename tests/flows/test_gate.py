"""The gate alone: what is looked at, what an approval binds, and what is written then. Nothing is trained."""

import shutil

import pytest
from filelock import FileLock
from prefect import flow

from blocks.runtime import InlineRuntime
from blocks.versions import image_uri
from flows.approved import hold_to, own_parameters
from flows.gate import approved_run, covered_parameters, look, subject_of
from flows.profiles import open_profile
from tasks.artifacts import read_json
from tasks.automl.settings import SweepSettings
from tasks.errors import DeftError, InputError
from tasks.pipeline.settings import PipelineSettings
from tasks.preflight import registry
from tasks.preflight.execution import summarise
from tasks.preflight.summary import read

pytestmark = pytest.mark.usefixtures("prefect_server")

APPROVED = {"approved_spec.yaml", "pipeline.json", "preflight_summary.json", "preflight_summary.md"}


@pytest.fixture(name="kind")
def _kind(workspace):
    return open_profile("aoi_changenet", workspace)


@pytest.fixture(name="asked")
def _asked(workspace):
    def asked(**changed):
        given = {
            "workspace": workspace,
            "runtime": "inline",
            "profile": "aoi_changenet",
            "mode": "full",
            "metric": None,
            "phase1": SweepSettings(trials=2),
            "phase3": SweepSettings(trials=2),
            "loop": {"max_iterations": 1},
            "skip_phase1": False,
            "skip_phase3": False,
            "phase3_when": "always",
            "baseline_checkpoint": None,
            "no_gain": "pause",
            "per_job_minutes": None,
        }
        return PipelineSettings.model_validate(given | changed)

    return asked


@pytest.fixture(name="gate")
def _gate(kind, asked):
    """Goes through the gate in a flow run; gives the approved run."""

    def gate(folder=None, token=None, yes=True, **changed):
        @flow(name="gate-alone")
        def shown():
            return approved_run(
                asked(**changed), kind, InlineRuntime(),
                yes=yes, token=token, timeout_seconds=90, folder=folder,
            )  # fmt: skip

        return shown()

    return gate


def token_of(settings, kind):
    return summarise(subject_of(settings, kind, InlineRuntime())).token


def names(folder):
    return {file.name for file in folder.iterdir() if not file.name.startswith(".")}


# --- what is looked at ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "phases"),
    [
        ({}, ("phase1", "loop", "phase3")),
        ({"mode": "loop_only"}, ("loop",)),
        ({"mode": "automl_only"}, ("phase1",)),
        ({"skip_phase1": True}, ("loop", "phase3")),
        ({"skip_phase3": True}, ("phase1", "loop")),
    ],
)
def test_phases_of_a_mode(kind, asked, chosen, phases):
    assert subject_of(asked(**chosen), kind, InlineRuntime()).phases == phases


def test_both_sweeps_show_one_metric_and_one_validation_set(kind, asked):
    subject = subject_of(asked(), kind, InlineRuntime())
    first, last = subject.phase1, subject.phase3
    assert (first.metric, first.direction) == (last.metric, last.direction) == ("far_pct", "minimise")
    assert first.validation_set == last.validation_set == kind.validation_set
    assert first.warm_start is None
    assert last.warm_start == "best model of the loop, in every trial"


def test_last_sweep_pins_the_architecture_and_searches_a_smaller_learning_rate(kind, asked):
    subject = subject_of(asked(), kind, InlineRuntime())
    first = {row.parameter: row for row in subject.phase1.space}
    last = {row.parameter: row for row in subject.phase3.space}
    assert (first["modules"].role, last["modules"].role) == ("searched", "left out")
    assert "moves with the winner of phase 1" in last["lr"].range
    assert first["lr"].range == "0.0002 … 0.02"


@pytest.mark.parametrize(
    ("chosen", "source"),
    [
        ({}, "winner of phase 1"),
        ({"skip_phase1": True}, "trained by the loop"),
    ],
)
def test_baseline_says_where_it_comes_from(kind, asked, chosen, source):
    assert subject_of(asked(**chosen), kind, InlineRuntime()).loop.baseline == source


def test_given_baseline_is_named_and_has_to_be_there(kind, asked, tmp_path):
    chosen = asked(skip_phase1=True, baseline_checkpoint=tmp_path / "m.pth")
    with pytest.raises(InputError, match=r"baseline_checkpoint .*m\.pth: No such file"):
        subject_of(chosen, kind, InlineRuntime())
    (tmp_path / "m.pth").write_bytes(b"weights")
    assert subject_of(chosen, kind, InlineRuntime()).loop.baseline == str(tmp_path / "m.pth")


def test_equal_question_has_one_token_and_any_change_another(kind, asked):
    base = token_of(asked(), kind)
    assert token_of(asked(), kind) == base
    changed = [
        asked(loop={"max_iterations": 2}),
        asked(phase3=SweepSettings(trials=3)),
        asked(no_gain="stop"),
    ]
    assert len({base, *(token_of(one, kind) for one in changed)}) == 4


@pytest.mark.parametrize("name", ["specs/baseline_spec.yaml", "kpi/testing_set.csv", "space.yaml"])
def test_changed_file_has_another_token(kind, asked, workspace, name):
    (workspace / "space.yaml").write_text(
        "lr: {keys: [train.optim.lr], type: float, low: 1.0e-3, high: 0.01}\n"
    )
    chosen = asked(phase1=SweepSettings(trials=2, search_space=workspace / "space.yaml"))
    before = token_of(chosen, kind)
    with (workspace / name).open("a") as file:
        file.write("# a remark\n" if name.endswith("yaml") else "\n")
    assert token_of(chosen, kind) != before


def test_changed_image_has_another_token(kind, asked, workspace):
    before = token_of(asked(), kind)
    image = next((workspace / "images").rglob("*.jpg"))
    image.write_bytes(image.read_bytes() + b"\0")
    assert token_of(asked(), kind) != before


def test_approval_binds_what_each_inner_flow_will_know(kind, asked, tmp_path):
    chosen = asked()
    covered = covered_parameters(chosen, kind)
    called = kind.loop_parameters(tmp_path / "run", chosen.loop) | {
        "runtime": "inline",
        "approval_token": "x",
    }
    assert covered["loop"] == own_parameters(called)
    assert covered["phase1"] == {"sweep": chosen.phase1.model_dump(mode="json"), "metric": None}


def test_look_writes_nothing_and_shows_the_token(kind, asked, workspace, caplog):
    caplog.set_level("INFO", logger="deft.flow")
    before = sorted(workspace.rglob("*"))
    look(asked(), kind, InlineRuntime())
    assert sorted(workspace.rglob("*")) == before
    assert token_of(asked(), kind) in caplog.text


# --- what stops the gate ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["host.disk", "data.kpi_labels", "confirmation"])
def test_check_that_is_missing_makes_the_gate_invalid(gate, workspace, monkeypatch, name):
    left = [one for one in registry.CHECKS if one.id != name]
    assert len(left) < len(registry.CHECKS)
    monkeypatch.setattr(registry, "CHECKS", left)
    with pytest.raises(DeftError, match=rf"checks are missing: {name} \(not executed\)"):
        gate()
    assert not (workspace / "results").exists()


def test_what_blocks_is_named_and_nothing_is_written(gate, workspace):
    shutil.copy(workspace / "kpi" / "testing_set.csv", workspace / "train" / "base" / "validation_set.csv")
    with pytest.raises(DeftError, match="must be mended first"):
        gate()
    assert not (workspace / "results").exists()


def test_bad_parameter_of_the_loop_is_refused_before_anything_is_written(gate, workspace):
    with pytest.raises(InputError, match="unknown parameter of deft-aoi 'num_sgd'"):
        gate(loop={"max_iterations": 1, "num_sgd": 5})
    assert not (workspace / "results").exists()


def test_bad_setting_of_the_loop_blocks(gate, workspace):
    with pytest.raises(DeftError, match="project"):
        gate(loop={"max_iterations": 1, "project": "a b"})
    assert not (workspace / "results").exists()


def test_unknown_metric_of_a_sweep_is_refused(gate, workspace):
    with pytest.raises(InputError, match="unknown metric 'beauty'"):
        gate(metric="beauty")
    assert not (workspace / "results").exists()


# --- what an approval leaves ------------------------------------------------------------------------


def test_approval_leaves_the_record_the_summary_and_the_spec(gate, workspace):
    run = gate()
    assert names(run.folder) == APPROVED
    assert run.folder.parent == workspace / "results"
    assert run.record.approved_by == "yes"
    assert read(run.folder / "preflight_summary.json", run.record.token).covers.parameters["mode"] == "full"
    kept = (run.folder / "approved_spec.yaml").read_bytes()
    assert kept == (workspace / "specs" / "baseline_spec.yaml").read_bytes()


def test_equal_token_approves_and_another_does_not(gate, kind, asked, workspace):
    with pytest.raises(DeftError, match="is not the token of the summary"):
        gate(token="0" * 64)
    assert not (workspace / "results").exists()
    token = token_of(asked(), kind)
    run = gate(token=token, yes=False)
    assert (run.record.approved_by, run.record.token) == ("token", token)
    assert gate(token=token, yes=False).folder == run.folder


def test_token_of_something_else_takes_up_no_approved_run(gate):
    run = gate()
    with pytest.raises(DeftError, match="is not the token of the summary"):
        gate(token="0" * 64)
    with pytest.raises(DeftError, match="was approved as"):
        gate(token="0" * 64, folder=run.folder)


def test_same_question_goes_on_without_asking(gate, workspace):
    run = gate()
    assert gate(yes=False).folder == run.folder
    assert gate(yes=False, folder=run.folder).record == run.record
    assert len(list((workspace / "results").iterdir())) == 1


def test_other_question_is_another_run(gate, workspace):
    run = gate()
    assert gate(loop={"max_iterations": 2}).folder != run.folder
    with pytest.raises(DeftError, match=r"changed since it was approved: loop\.max_iterations 1 -> 2"):
        gate(loop={"max_iterations": 2}, folder=run.folder)


def test_folder_may_be_chosen(gate, tmp_path):
    run = gate(folder=tmp_path / "mine")
    assert run.folder == tmp_path / "mine"
    assert names(run.folder) == APPROVED


def test_changed_search_space_is_another_run(gate, workspace):
    space = workspace / "space.yaml"
    space.write_text("lr: {keys: [train.optim.lr], type: float, low: 1.0e-3, high: 0.01}\n")
    chosen = {"phase1": SweepSettings(trials=2, search_space=space)}
    run = gate(**chosen)
    assert gate(**chosen).folder == run.folder
    space.write_text("lr: {keys: [train.optim.lr], type: float, low: 1.0e-3, high: 0.02}\n")
    with pytest.raises(DeftError, match=r"the content of phase1\.search_space"):
        gate(**chosen, folder=run.folder)
    assert gate(**chosen).folder != run.folder


def test_folder_that_another_process_holds_is_refused(gate, tmp_path):
    (tmp_path / "mine").mkdir()
    with FileLock(tmp_path / "mine" / ".pipeline.lock"), pytest.raises(DeftError, match="another process"):
        gate(folder=tmp_path / "mine")
    assert names(tmp_path / "mine") == set()


def test_inner_flow_without_a_summary_runs_on_its_own_account():
    hold_to(None, None, "loop", {"num_sdg": 1})


def test_inner_flow_of_a_phase_that_was_not_approved_is_refused(gate, asked):
    run = gate(skip_phase3=True)
    file = run.folder / "preflight_summary.json"
    own = {"sweep": asked().phase3.model_dump(mode="json"), "metric": None}
    hold_to(file, run.record.token, "phase1", own)
    with pytest.raises(DeftError, match="the approval does not cover phase3"):
        hold_to(file, run.record.token, "phase3", own)
    assert read_json(run.folder / "pipeline.json")["token"] == run.record.token


def test_a_runtime_that_starts_images_names_those_of_its_engine(kind, asked):
    class Images(InlineRuntime):
        """Answers everything with our own image."""

        _block_type_slug = "images-of-a-test"
        starts_images = True

        def image_for(self, key):
            return "images.native.engine"

    subject = subject_of(asked(), kind, Images())
    assert subject.images == {"images.native.engine": image_uri("images.native.engine")}
    assert subject_of(asked(), kind, InlineRuntime()).images == {}


def test_an_image_without_a_name_is_refused(kind, asked, monkeypatch, tmp_path):
    class Images(InlineRuntime):
        """Starts the images of the versions file."""

        _block_type_slug = "images-of-a-test"
        starts_images = True

    versions = tmp_path / "versions.yaml"
    versions.write_text("images: {}\n")
    monkeypatch.setenv("TAO_VERSIONS_FILE", str(versions))
    with pytest.raises(DeftError, match="has no image under images"):
        subject_of(asked(), kind, Images())
