import json

import pytest
import yaml

from blocks.runtime import InlineRuntime
from blocks.versions import ANOMALYGEN
from flows.aoi_profile import PRESEEDED, AoiProfile
from flows.aoi_training import position_of
from flows.approved import BESIDE_APPROVAL, own_parameters
from flows.profiles import Data, open_profile
from tasks.artifacts import sha256_of, write_yaml
from tasks.automl.trial import SweepMetric
from tasks.dataset.table import read_table
from tasks.deft.audit import audit
from tasks.deft.state import LOG_FILE, load_state
from tasks.errors import InputError
from tasks.pipeline.facts import TunedModel

FAR, VAL_LOSS = AoiProfile.metrics["far_pct"], AoiProfile.metrics["val_loss"]


@pytest.fixture(name="profile")
def _profile(workspace):
    return open_profile("aoi_changenet", workspace)


@pytest.fixture(name="model")
def _model(profile, tmp_path):
    """A model of phase 1; only the loop's evaluation would look into the checkpoint."""
    checkpoint = tmp_path / "model_best_003.pth"
    checkpoint.write_bytes(b"weights")
    return TunedModel(
        spec=profile.base_spec(),
        checkpoint=checkpoint,
        epoch=3,
        step=12,
        facts={"val_loss": 0.5},
        source="automl_phase1",
    )


def tree(folder):
    return {
        str(file.relative_to(folder)): sha256_of(file) for file in sorted(folder.rglob("*")) if file.is_file()
    }


def test_unknown_profile_is_refused(workspace):
    with pytest.raises(InputError, match=r"unknown profile 'nothing'; choose one of: aoi_changenet"):
        open_profile("nothing", workspace)


def test_workspace_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError):
        open_profile("aoi_changenet", tmp_path)


def test_data_are_the_sets_that_decide_what_a_run_is_about(profile, workspace):
    names = ["training_csv", "validation_csv", "kpi_test_csv", "mining_pool_csv"]
    assert list(profile.data()) == names
    assert all(path.is_relative_to(workspace) and path.is_file() for path in profile.data().values())


def test_workspace_without_pool_has_three_sets(workspace):
    (workspace / "augmentation" / "mining_pool" / "mining_pool.csv").unlink()
    assert list(open_profile("aoi_changenet", workspace).data()) == [
        "training_csv",
        "validation_csv",
        "kpi_test_csv",
    ]


def test_enlarged_rows_start_at_the_root_and_base_rows_at_the_images(profile, workspace):
    assert profile.base_data(workspace).images_dir == (workspace / "images").resolve()
    assert profile.base_data(workspace).rows() == 64
    assert profile.combined_data(workspace / "x.csv") == Data(workspace / "x.csv", workspace)


def test_full_spec_has_every_default_and_the_epochs(profile):
    full = profile.full({"task": "classify", "dataset": {"classify": {"image_ext": ".jpg"}}})
    assert full["train"]["num_epochs"] == 10
    assert profile.epochs(profile.base_spec()) == 1


def test_spec_that_the_schema_does_not_allow_is_refused(profile):
    with pytest.raises(InputError, match="train"):
        profile.full({"train": {"optim": {"lr": "fast"}}})


def test_step_of_the_metric_is_one_pass_row(profile, workspace):
    labels = read_table(workspace / "train" / "base" / "validation_set.csv")["label"]
    assert profile.metric_step(FAR) == pytest.approx(100 / sum(labels == "PASS"))
    assert profile.metric_step(VAL_LOSS) == 0


def test_untrained_score_is_of_far_alone(profile, tmp_path):
    assert profile.untrained_score(tmp_path, None, VAL_LOSS, InlineRuntime()) is None
    assert not list(tmp_path.glob("*_spec.yaml"))


def test_images_hold_a_generator_where_one_is_asked_for(profile):
    assert ANOMALYGEN not in profile.images({})
    assert ANOMALYGEN in profile.images({"sdg_source": "anomalygen"})


def test_loop_parameters_are_whole_and_those_of_a_phase_know_no_place(profile, tmp_path):
    first = profile.loop_parameters(tmp_path / "a", {"max_iterations": 1})
    second = profile.loop_parameters(tmp_path / "b", {"max_iterations": 1})
    assert first["results_dir"] == tmp_path / "a"
    assert first["num_sdg"] == 20
    assert own_parameters(first) == own_parameters(second)
    assert BESIDE_APPROVAL.isdisjoint(own_parameters(first))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "max_iterations: Field required"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"max_iterations": 1, "min_similarity": 5}, "min_similarity"),
        ({"max_iterations": 1, "topk": 5}, "unknown parameter of deft-aoi 'topk'"),
        ({"max_iterations": 1, "runtime": "docker-runtime/x"}, "unknown parameter of deft-aoi 'runtime'"),
        ({"max_iterations": 1, "approval_token": "x"}, "unknown parameter of deft-aoi 'approval_token'"),
    ],
)
def test_parameters_that_the_loop_does_not_take_are_refused(profile, tmp_path, given, said):
    with pytest.raises(InputError) as refused:
        profile.loop_parameters(tmp_path, given)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def trainer(profile, metric=FAR, warm_start=None, concurrency=1):
    data = profile.base_data(profile.root)
    return profile.trainer(profile.root, data, warm_start, metric, InlineRuntime(), concurrency)


@pytest.mark.parametrize(("metric", "monitored"), [(FAR, "val_far"), (VAL_LOSS, "val_loss")])
def test_job_keeps_the_checkpoint_of_the_metric_and_knows_no_kpi_set(profile, tmp_path, metric, monitored):
    job = trainer(profile, metric).job(profile.base_spec(), tmp_path)
    assert job["train"]["checkpointer"]["monitor"] == monitored
    assert job["train"]["validation_interval"] == 1
    assert {"test_dataset", "infer_dataset"}.isdisjoint(job["dataset"]["classify"])
    assert str(profile.workspace.kpi_csv) not in yaml.safe_dump(job)


def test_job_starts_from_the_warm_start_and_never_resumes(profile, tmp_path):
    job = trainer(profile, warm_start=tmp_path / "best.pth").job(profile.base_spec(), tmp_path)
    assert job["train"]["pretrained_model_path"] == str(tmp_path / "best.pth")
    assert job["train"]["resume_training_checkpoint_path"] is None


def test_job_leaves_the_spec_alone_beside_places_and_checkpoints(profile, tmp_path):
    spec = profile.base_spec()
    job = trainer(profile).job(spec, tmp_path)
    assert spec == profile.base_spec()
    assert job["model"] == spec["model"]
    assert job["train"]["optim"] == spec["train"]["optim"]
    assert job["train"]["num_epochs"] == spec["train"]["num_epochs"]


@pytest.mark.parametrize(("threads", "expected"), [(None, 1), (1, 1)])
def test_trials_of_one_process_share_its_cores(profile, tmp_path, threads, expected):
    spec = profile.base_spec()
    spec["native"]["threads"] = threads
    job = trainer(profile, concurrency=1000).job(spec, tmp_path)
    assert job["native"]["threads"] == expected


@pytest.mark.parametrize("copied", [False, True])
def test_sweep_that_would_see_the_kpi_set_is_refused(profile, workspace, tmp_path, copied):
    kpi = workspace / "kpi" / "testing_set.csv"
    if copied:
        kpi = tmp_path / "harmless.csv"
        kpi.write_bytes((workspace / "kpi" / "testing_set.csv").read_bytes())
    spec = profile.base_spec()
    spec["train"]["extra_csv"] = str(kpi)
    with pytest.raises(InputError, match=r"train\.extra_csv: .* is the KPI set, which no sweep may see"):
        trainer(profile).job(spec, tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model_best_007", (7, 0)),
        ("model_epoch_007_step_00123", (7, 123)),
        ("changenet_model_classify_latest", (0, 0)),
        ("best", (0, 0)),
    ],
)
def test_epoch_and_step_in_a_name(tmp_path, name, expected):
    assert position_of(tmp_path / f"{name}.pth") == expected


def test_checkpoint_is_placed_under_its_epoch_and_step(profile, model, tmp_path):
    placed = profile.place_checkpoint(tmp_path / "run", model)
    assert placed == tmp_path / "run" / "baseline" / "train" / "model_epoch_003_step_00012.pth"
    assert sha256_of(placed) == sha256_of(model.checkpoint)
    assert profile.place_checkpoint(tmp_path / "run", model) == placed


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model_epoch_007_step_00123.pth", "model_epoch_007_step_00123.pth"),
        ("mine.pth", "model_epoch_000_step_00000.pth"),
    ],
)
def test_external_checkpoint_says_its_epoch_by_its_name(profile, tmp_path, name, expected):
    (tmp_path / name).write_bytes(b"weights")
    model = TunedModel(spec={}, checkpoint=tmp_path / name, source="external")
    assert profile.place_checkpoint(tmp_path / "run", model).name == expected


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), (b"", "is empty")])
def test_checkpoint_that_is_not_whole_is_refused(profile, model, tmp_path, content, said):
    model.checkpoint.unlink()
    if content is not None:
        model.checkpoint.write_bytes(content)
    with pytest.raises(InputError, match=said):
        profile.place_checkpoint(tmp_path / "run", model)
    assert not (tmp_path / "run").exists()


@pytest.fixture(name="preseeded")
def _preseeded(profile, model, tmp_path):
    folder = tmp_path / "run"
    loop = profile.loop_parameters(folder, {"max_iterations": 1})
    profile.preseed(folder, loop, model, profile.place_checkpoint(folder, model))
    return folder, loop


def test_preseeded_baseline_counts_as_trained_without_a_training(preseeded, model):
    folder, _ = preseeded
    state = load_state(folder)
    (event,) = state.events
    assert (event.iter, event.stage, event.duration_sec) == ("baseline", "train", 0)
    assert (event.summary, event.skip_reason) == (PRESEEDED, "automl_phase1")
    assert json.loads((folder / LOG_FILE).read_text()) == event.model_dump(mode="json")
    assert state.phase("baseline").training_rows == 64
    assert state.phase("baseline").val_loss_best_val == 0.5
    assert str(state.next_step()) == "baseline/evaluate"
    assert audit(state) == []


def test_training_spec_of_the_baseline_is_the_one_that_won(preseeded, model, profile):
    state = load_state(preseeded[0])
    spec = yaml.safe_load(state.phase("baseline").training_spec.read_text())
    assert spec["train"]["optim"] == model.spec["train"]["optim"]
    assert spec["dataset"]["classify"]["train_dataset"]["csv_path"] == str(profile.workspace.training_csv)


def test_preseeding_again_changes_nothing(preseeded, profile, model):
    folder, loop = preseeded
    before = tree(folder)
    profile.preseed(folder, loop, model, profile.place_checkpoint(folder, model))
    assert tree(folder) == before


def test_external_model_is_named_as_such(profile, model, tmp_path):
    loop = profile.loop_parameters(tmp_path / "run", {"max_iterations": 1})
    external = model.model_copy(update={"source": "external", "facts": {}})
    profile.preseed(tmp_path / "run", loop, external, profile.place_checkpoint(tmp_path / "run", external))
    (event,) = load_state(tmp_path / "run").events
    assert event.skip_reason == "external"
    assert event.summary == "baseline train skipped: external"


def test_unfinished_loop_has_no_outcome_and_takes_no_final_model(preseeded, profile, model):
    folder, loop = preseeded
    with pytest.raises(InputError, match="the loop has not finished; run it again"):
        profile.loop_outcome(folder, loop)


def test_metric_has_a_direction(profile):
    assert {metric.direction for metric in profile.metrics.values()} == {"minimise"}
    assert next(iter(profile.metrics)) == "far_pct"
    with pytest.raises(ValueError, match="direction"):
        SweepMetric(name="far_pct")


def test_base_spec_is_read_as_it_is_written(profile):
    changed = {**profile.base_spec(), "encryption_key": "k"}
    write_yaml(profile.base_file, changed)
    assert profile.base_spec() == changed
