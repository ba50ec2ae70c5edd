import pytest
from filelock import FileLock

from tasks.artifacts import read_json, sha256_of, write_json
from tasks.classifier.loop import STATE_FILE, LoopPhase, LoopSettings, opened_loop
from tasks.errors import DeftError, InputError
from tasks.evaluation.contract import MetricResult

ERROR = {"name": "error_pct", "display_name": "Error", "operator": "<", "target": 5, "unit": "%"}


def settings(**more):
    given = {"metric": ERROR, "max_iterations": 2, "num_weak": 5, "topn": 2}
    return LoopSettings(**{**given, "max_new_rows": None, "num_epochs": 1, "seed": 0, **more})


def phase(run, label, error):
    checkpoint = run.folder / label / "model.safetensors"
    checkpoint.parent.mkdir(exist_ok=True)
    checkpoint.write_text(label)
    return LoopPhase(
        label=label,
        checkpoint=checkpoint,
        checkpoint_sha256=sha256_of(checkpoint),
        training_csv=run.folder / label / "train.csv",
        rows=1,
        training_spec=run.lists.train,
        inference_csv=run.lists.kpi,
        features=run.lists.kpi,
        metric_result=MetricResult(name="error_pct", value=error, unit="%"),
        passed=error < 5,
        trained=True,
    )


def committed(shapes, folder, *errors, **more):
    with opened_loop(shapes.root, settings(**more), folder) as run:
        for label, error in zip(("baseline", "iter1", "iter2"), errors, strict=False):
            run.commit(phase(run, label, error))
    return run


@pytest.mark.parametrize(
    ("errors", "goes_on", "status", "best"),
    [
        ([20], True, "no_new_images", "baseline"),
        ([4], False, "metric_met", "baseline"),
        ([20, 10, 12], False, "max_iterations", "iter1"),
        ([20, 10, 10], False, "max_iterations", "iter1"),
        ([20, 10, 4], False, "metric_met", "iter2"),
    ],
)
def test_loop_ends_by_the_contract_or_by_its_limit(shapes, tmp_path, errors, goes_on, status, best):
    run = committed(shapes, tmp_path / "run", *errors)
    assert run.goes_on == goes_on
    outcome = run.finish()
    assert (outcome.status, outcome.best_label) == (status, best)
    assert outcome.checkpoint.read_text() == best
    assert (outcome.combined_csv is None) == (len(errors) == 1)


def test_state_on_disk_is_what_the_next_call_goes_on_with(shapes, tmp_path):
    committed(shapes, tmp_path / "run", 20, 10)
    with opened_loop(shapes.root, settings(), tmp_path / "run") as run:
        assert [one.label for one in run.phases] == ["baseline", "iter1"]
        assert run.iteration == 2
        run.finish()
    state = read_json(tmp_path / "run" / STATE_FILE)
    assert state["complete"] is True
    assert state["phases"][1]["metric_result"]["value"] == 10


def test_other_settings_or_data_are_refused(shapes, tmp_path):
    committed(shapes, tmp_path / "run", 20)
    with (
        pytest.raises(DeftError, match="other settings or data"),
        opened_loop(shapes.root, settings(topn=3), tmp_path / "run"),
    ):
        pass
    next((shapes.root / "pool" / "cross").iterdir()).unlink()
    with (
        pytest.raises(DeftError, match="other settings or data"),
        opened_loop(shapes.root, settings(), tmp_path / "run"),
    ):
        pass


def test_changed_checkpoint_is_refused(shapes, tmp_path):
    run = committed(shapes, tmp_path / "run", 20)
    run.phases[0].checkpoint.write_text("altered")
    with (
        pytest.raises(InputError, match="gone or changed since"),
        opened_loop(shapes.root, settings(), tmp_path / "run"),
    ):
        pass


def test_damaged_state_is_refused(shapes, tmp_path):
    committed(shapes, tmp_path / "run", 20)
    write_json(tmp_path / "run" / STATE_FILE, {"phases": []})
    with (
        pytest.raises(InputError, match="no state of a classifier loop"),
        opened_loop(shapes.root, settings(), tmp_path / "run"),
    ):
        pass


def test_two_processes_never_work_on_one_run(shapes, tmp_path):
    (tmp_path / "run").mkdir()
    with (
        FileLock(tmp_path / "run" / ".lock"),
        pytest.raises(DeftError, match="another process works on"),
        opened_loop(shapes.root, settings(), tmp_path / "run"),
    ):
        pass


def test_metric_that_a_classifier_has_not_is_refused(shapes, tmp_path):
    metric = {**ERROR, "name": "far_pct"}
    with (
        pytest.raises(InputError, match="unknown metric"),
        opened_loop(shapes.root, settings(metric=metric), tmp_path / "run"),
    ):
        pass
    assert not (tmp_path / "run").exists()


def test_baseline_checkpoint_that_is_missing_is_named(shapes, tmp_path):
    with (
        pytest.raises(InputError, match=r"baseline_checkpoint .*gone\.safetensors: No such file"),
        opened_loop(shapes.root, settings(), tmp_path / "run", tmp_path / "gone.safetensors"),
    ):
        pass
