import os
import shutil
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from blocks.runtime import InlineRuntime
from flows.aoi_profile import AoiProfile
from flows.aoi_training import AoiTrainer, judged_on_validation, position_of, refuse_kpi_set
from flows.automl import automl
from flows.profiles import Data
from tasks.automl.settings import SweepSettings
from tasks.automl.trial import Stopped
from tasks.dataset.specs import DATA_SETS
from tasks.errors import InputError
from tasks.keys import flat, value_at
from tasks.status import STATUS_FILE, STOP_FILE

FAR, LOSS = AoiProfile.metrics["far_pct"], AoiProfile.metrics["val_loss"]


class ImageRuntime(InlineRuntime):
    """A runtime of images, which have an engine of their own."""

    _block_type_name = "Image Runtime of a Test"
    _block_type_slug = "image-runtime-of-a-test"

    @property
    def runs_nvidia(self):
        return True


@pytest.fixture
def profile(workspace):
    return AoiProfile(workspace)


@pytest.fixture
def trainer(profile):
    def make(metric=FAR, warm_start=None, concurrency=1, runtime=None, data=None):
        place, space = runtime or InlineRuntime(), profile.workspace
        base = Data(space.training_csv, space.images_dir)
        return AoiTrainer(space, data or base, warm_start, metric, place, concurrency)

    return make


def with_values(spec, **values):
    """A copy of the spec with values of its `train`."""
    return {**spec, "train": {**spec["train"], **values}}


# The job


def test_the_job_names_the_kpi_set_nowhere(profile, trainer, tmp_path):
    spec = profile.base_spec()
    kpi = {"csv_path": str(profile.workspace.kpi_csv), "images_dir": "x"}
    spec["dataset"]["classify"] |= {"test_dataset": kpi, "infer_dataset": kpi}
    job = trainer().job(spec, tmp_path / "rec")
    assert set(DATA_SETS) & set(job["dataset"]["classify"]) == {"train_dataset", "validation_dataset"}
    assert not [value for value in flat(job).values() if str(value).endswith("testing_set.csv")]


def test_the_job_trains_on_the_rows_that_were_given(profile, trainer, tmp_path):
    csv = tmp_path / "combined.csv"
    shutil.copy(profile.workspace.training_csv, csv)
    job = trainer(data=Data(csv, profile.root)).job(profile.base_spec(), tmp_path / "rec")
    places = job["dataset"]["classify"]
    assert places["train_dataset"]["csv_path"] == str(csv)
    assert places["train_dataset"]["images_dir"] == str(profile.root)
    assert places["validation_dataset"]["csv_path"] == str(profile.validation_set)
    assert job["results_dir"] == str(tmp_path / "rec")


def test_the_spec_of_the_trial_stays_as_it_is(profile, trainer, tmp_path):
    spec = profile.base_spec()
    text = yaml.safe_dump(spec, sort_keys=False)
    trainer(concurrency=2).job(spec, tmp_path / "rec")
    assert yaml.safe_dump(spec, sort_keys=False) == text


def test_the_kpi_set_is_refused_by_its_path(profile, trainer, tmp_path):
    link = tmp_path / "rows.csv"
    link.symlink_to(profile.workspace.kpi_csv)
    for csv in (profile.workspace.kpi_csv, link):
        with pytest.raises(
            InputError, match=r"train_dataset.csv_path: .* is the KPI set, which no sweep may see"
        ):
            trainer(data=Data(csv, profile.root)).job(profile.base_spec(), tmp_path / "rec")


def test_the_kpi_set_is_refused_by_its_content(profile, trainer, tmp_path):
    shutil.copy(profile.workspace.kpi_csv, profile.workspace.validation_csv)
    with pytest.raises(InputError, match=r"validation_dataset.csv_path: .* is the KPI set"):
        trainer().job(profile.base_spec(), tmp_path / "rec")


def test_other_rows_of_the_same_length_are_no_kpi_set(tmp_path):
    kpi, other = tmp_path / "kpi.csv", tmp_path / "other.csv"
    kpi.write_text("a,b\n1,2\n")
    other.write_text("a,b\n1,3\n")
    refuse_kpi_set({"rows": str(other), "absent": str(tmp_path / "no.csv"), "epochs": 3}, kpi)
    with pytest.raises(InputError, match="rows"):
        refuse_kpi_set({"deep": {"rows": str(kpi)}}, kpi)


@pytest.mark.parametrize(("given", "expected"), [(50, 4), (4, 4), (3, 3), (None, 1)])
def test_intervals_are_clamped_to_the_epochs(profile, trainer, tmp_path, given, expected):
    spec = with_values(
        profile.base_spec(), num_epochs=4, checkpoint_interval=given, validation_interval=given
    )
    job = trainer(runtime=ImageRuntime()).job(spec, tmp_path / "rec")
    assert (job["train"]["checkpoint_interval"], job["train"]["validation_interval"]) == (expected, expected)
    assert trainer().job(spec, tmp_path / "rec")["train"]["validation_interval"] == 1


@pytest.mark.parametrize(("metric", "monitor"), [(FAR, "val_far"), (LOSS, "val_loss")])
def test_the_checkpoint_that_is_kept_is_that_of_the_metric(profile, trainer, tmp_path, metric, monitor):
    job = trainer(metric).job(profile.base_spec(), tmp_path / "rec")
    rule = {"enable_topk": True, "monitor": monitor, "mode": "min", "save_top_k": 1}
    assert job["train"]["checkpointer"] == rule


def test_an_engine_of_its_own_keeps_its_checkpoint_rule(profile, trainer, tmp_path):
    spec = profile.base_spec()
    job = trainer(runtime=ImageRuntime()).job(spec, tmp_path / "rec")
    assert job["train"]["checkpointer"] == spec["train"]["checkpointer"]


def test_a_warm_start_is_in_every_job_and_nothing_is_resumed(profile, trainer, tmp_path):
    spec = with_values(
        profile.base_spec(), pretrained_model_path="/other.pth", resume_training_checkpoint_path="/a.pth"
    )
    warm, cold = trainer(warm_start=tmp_path / "loop.pth"), trainer()
    assert warm.job(spec, tmp_path / "rec")["train"]["pretrained_model_path"] == str(tmp_path / "loop.pth")
    assert cold.job(spec, tmp_path / "rec")["train"]["pretrained_model_path"] is None
    for made in (warm, cold):
        assert made.job(spec, tmp_path / "rec")["train"]["resume_training_checkpoint_path"] is None


def test_trials_at_the_same_time_share_the_cores(profile, trainer, tmp_path):
    cores = len(os.sched_getaffinity(0))
    free = profile.base_spec()
    del free["native"]["threads"]

    def threads(spec, concurrency):
        return trainer(concurrency=concurrency).job(spec, tmp_path / "rec")["native"].get("threads")

    assert [threads(free, count) for count in (1, 2, 1000)] == [None, max(1, cores // 2), 1]
    assert threads(profile.base_spec(), 2) == 1  # the person's own number


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("model_epoch_007_step_00123.pth", (7, 123)),
        ("model_best_004.pth", (4, 0)),
        ("changenet_model_classify_latest.pth", (0, 0)),
    ],
)
def test_epoch_and_step_are_in_the_name(name, position):
    assert position_of(Path(name)) == position


# A training


def never(epoch, value):
    return False


@pytest.fixture
def spec(profile):
    """The tiny baseline with three epochs."""
    return with_values(profile.base_spec(), num_epochs=3, checkpoint_interval=3)


trains = pytest.mark.usefixtures("prefect_server")


@trains
def test_the_outcome_is_of_the_checkpoint_of_the_best_epoch(profile, trainer, spec, tmp_path):
    curve = {}

    def report(epoch, value):
        curve[epoch] = value
        return False

    made = trainer()
    outcome = made(spec, tmp_path / "rec", report)
    assert sorted(curve) == [0, 1, 2]
    assert outcome.score == pytest.approx(min(curve.values()))
    assert curve[outcome.epoch] == pytest.approx(outcome.score)
    assert outcome.checkpoint.parent == tmp_path / "rec" / "train"
    assert set(outcome.facts) == {"far_pct", "auc", "val_loss"}
    assert sum(outcome.predicted.values()) == 32
    job = made.job(spec, tmp_path / "rec")
    again = judged_on_validation(job, profile.workspace, outcome.checkpoint, tmp_path / "again", made.runtime)
    assert again.far_pct == outcome.score


@trains
def test_the_validation_loss_as_metric(trainer, spec, tmp_path):
    curve = {}

    def report(epoch, value):
        curve[epoch] = value
        return False

    outcome = trainer(LOSS)(spec, tmp_path / "rec", report)
    assert outcome.score == outcome.target == min(curve.values()) == outcome.facts["val_loss"]
    assert curve[outcome.epoch] == outcome.score


@trains
def test_a_training_stops_when_it_is_told_to(trainer, spec, tmp_path):
    spec = with_values(spec, num_epochs=200, checkpoint_interval=200)
    with pytest.raises(Stopped):
        trainer()(spec, tmp_path / "rec", lambda epoch, value: epoch >= 1)
    assert (tmp_path / "rec" / "train" / STOP_FILE).exists()
    assert (tmp_path / "rec" / "train" / STATUS_FILE).read_text().count("Eval metrics generated.") < 100


# What is read

_opened: list[str] = []
_watching = threading.Event()


def _hook(event, args):
    if _watching.is_set() and event == "open":
        _opened.append(os.fsdecode(args[0]) if isinstance(args[0], str | bytes | os.PathLike) else "")


@contextmanager
def files_opened():
    """Every file that this process opens; the hook of the interpreter stays, and rests outside."""
    if not hasattr(sys, "_deft_hook"):
        sys.addaudithook(_hook)
        sys._deft_hook = True
    _opened.clear()
    _watching.set()
    try:
        yield _opened
    finally:
        _watching.clear()


@trains
def test_no_sweep_opens_the_kpi_csv(workspace, tmp_path):
    spec_file = workspace / "specs" / "baseline_spec.yaml"
    spec = yaml.safe_load(spec_file.read_text())
    kpi = {"csv_path": str(workspace / "kpi" / "testing_set.csv"), "images_dir": str(workspace / "images")}
    spec["dataset"]["classify"] |= {"test_dataset": kpi, "infer_dataset": kpi}
    spec_file.write_text(yaml.safe_dump(spec, sort_keys=False))
    settings = SweepSettings(algorithm="random", trials=2, reruns=0)
    with files_opened() as opened:
        automl(workspace, sweep=settings, results_dir=tmp_path / "sweep")
    names = {Path(name).name for name in opened}
    assert {"training_set.csv", "validation_set.csv", "baseline_spec.yaml", "study.log"} <= names
    assert not [name for name in opened if Path(name).name == "testing_set.csv"]
    for file in (tmp_path / "sweep").rglob("*_spec.yaml"):
        if file.name != "winner_spec.yaml":
            named = [
                key
                for key, value in flat(yaml.safe_load(file.read_text())).items()
                if value == kpi["csv_path"]
            ]
            assert not named, file


@trains
def test_every_trial_of_a_warm_start_begins_with_its_checkpoint(workspace, tmp_path):
    first = automl(workspace, sweep=SweepSettings(algorithm="random", trials=1), results_dir=tmp_path / "one")
    start = first.model.checkpoint
    settings = SweepSettings(algorithm="random", trials=2, reruns=0)
    result = automl(workspace, sweep=settings, warm_start=start, results_dir=tmp_path / "two")
    specs = [
        yaml.safe_load(file.read_text()) for file in (tmp_path / "two").glob("recs/*/train/train_spec.yaml")
    ]
    assert len(specs) == 2
    for spec in specs:
        assert value_at(spec, "train.pretrained_model_path") == str(start)
        assert value_at(spec, "train.resume_training_checkpoint_path") is None
    assert result.untrained.value == first.stage.value
    assert result.model.source == "automl_phase3"
