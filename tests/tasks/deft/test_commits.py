import pytest

from tasks.artifacts import write_json, write_text
from tasks.deft.commits import commit, commit_error, preseed_baseline, register_final
from tasks.deft.stages import FINAL, ITERATION_STAGES, LOOP_STOP, STAGES, Step
from tasks.deft.state import LOG_FILE, STATE_FILE
from tasks.errors import DeftError, StageFailed


def files_of(run):
    return [
        (run.folder / name).read_bytes() for name in (STATE_FILE, LOG_FILE) if (run.folder / name).exists()
    ]


def test_baseline_then_iterations_in_their_order(played):
    steps = []
    while step := played.step:
        steps.append((step.label, step.stage))
        played.advance()
    baseline = [("baseline", stage) for stage in ("train", "evaluate", "rca")]
    first = [("iter1", stage) for stage in ITERATION_STAGES]
    last = [("iter2", stage) for stage in ITERATION_STAGES[:-1]]
    assert steps == [*baseline, *first, *last, ("iter2", LOOP_STOP)]
    state = played.state
    assert state.status == "complete"
    assert state.completed_at
    assert state.final_artifacts["stop_reason"] == "max_iterations"
    assert [event.seq for event in state.events] == list(range(1, len(steps) + 1))


def test_met_metric_stops_without_another_iteration(play):
    run = play(values=(50.0, 5.0))
    state = run.finish()
    assert list(state.iterations) == ["baseline", "iter1"]
    assert state.final_artifacts["stop_reason"] == "metric_met"


@pytest.mark.parametrize("stage", ["evaluate", "rca", "routing", "data_merge", LOOP_STOP])
def test_step_out_of_order_is_refused_and_changes_nothing(played, stage):
    before = files_of(played)
    with pytest.raises(DeftError, match="cannot be committed: next is baseline/train"):
        commit(played.folder, Step(label="baseline", stage=stage), "x", 1)
    assert files_of(played) == before


def test_field_of_another_stage_is_refused(played):
    with pytest.raises(DeftError, match="cannot set threshold"):
        played.advance(threshold=0.1)


@pytest.mark.parametrize("stage", [stage for stage in STAGES if STAGES[stage].evidence and stage != FINAL])
def test_commit_without_a_file_of_its_evidence_is_refused_and_changes_nothing(played, stage):
    played.advance_to(stage)
    step, before = played.step, files_of(played)
    for name in STAGES[stage].evidence:
        fields = played.fields()
        away = fields[name].rename(fields[name].with_suffix(".away"))
        with pytest.raises(StageFailed, match=f"{name} .* does not exist"):
            commit(played.folder, step, "x", 1, **fields)
        away.rename(fields[name])
        with pytest.raises(StageFailed, match=f"names no {name}"):
            commit(played.folder, step, "x", 1, **played.fields(**{name: None}))
        assert files_of(played) == before
    played.advance()


def test_failed_step_stays_the_next_one(played):
    step = played.step
    state = commit_error(played.folder, step, "no images", 2)
    assert state.status == "failed"
    assert state.phase("baseline").status == "failed"
    assert state.next_step() == step
    assert played.advance().status == "in_progress"


def test_pre_seeded_baseline_begins_with_its_evaluation(played):
    fields = played.fields()
    state = preseed_baseline(played.folder, "automl_phase1", "trained by AutoML", **fields)
    assert state.events[0].duration_sec == 0
    assert state.events[0].skip_reason == "automl_phase1"
    assert str(state.next_step()) == "baseline/evaluate"
    assert state.phase("baseline").best_ckpt_path == fields["best_val_ckpt_path"]


def test_pre_seeded_checkpoint_must_lie_in_the_train_folder(played, tmp_path):
    fields = played.fields(best_val_ckpt_path=write_text(tmp_path / "elsewhere.pth", "x"))
    with pytest.raises(DeftError, match="cannot be skipped"):
        preseed_baseline(played.folder, "automl_phase1", "x", **fields)


def test_final_model_is_registered_after_the_stop(played):
    played.advance()
    with pytest.raises(DeftError, match="cannot be committed"):
        register_final(played.folder, "x", 1)
    before = played.finish()
    place = played.folder / FINAL
    result = {**before.phase("iter2").metric_result, "value": 4.0}
    fields = {
        "best_ckpt_path": write_text(place / "best.pth", "weights"),
        "best_ckpt_kind": "best_val",
        "training_spec": write_text(place / "spec.yaml", "x: 1"),
        "inference_csv": write_text(place / "inference.csv", "scores"),
        "metric_result_file": write_json(place / "metric_result.json", result),
        "metric_result": result,
        "threshold": 0.25,
        "passed": True,
        "source": "automl_phase3",
    }
    state = register_final(played.folder, "tuned", 60, **fields)
    assert state.completed_at == before.completed_at
    assert state.registered_at
    assert state.next_step() is None
    assert state.phase(FINAL).status == "complete"
    assert state.current_iteration == 2
    with pytest.raises(DeftError, match="cannot be committed"):
        register_final(played.folder, "again", 60, **fields)
