import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.artifacts import write_text
from tasks.deft.state import (
    EVIDENCE,
    ITERATION_STAGES,
    LOG_FILE,
    LOOP_STOP,
    STATE_FILE,
    Step,
    commit,
    commit_error,
    create_state,
    load_state,
)
from tasks.errors import DeftError, InputError


@pytest.fixture
def folder(tmp_path):
    return new_run(tmp_path, max_iterations=2)


def new_run(folder, max_iterations):
    create_state(
        folder,
        kpi_target="FAR < 10% at Recall=100%",
        metric_contract={"name": "far_pct"},
        max_iterations=max_iterations,
        config={"seed": 1},
        offline=True,
    )
    return folder


def evidence(folder, step):
    return {
        name: write_text(folder / step.label / f"{step.stage}-{name}", name) for name in EVIDENCE[step.stage]
    }


def advance(folder, passed=False):
    """Commit the next step with real files as evidence."""
    step = load_state(folder).next_step()
    fields = evidence(folder, step)
    if step.stage == "evaluate":
        fields |= {"passed": passed, "metric_result": {"value": 1.0}}
    return commit(folder, step, f"did {step.stage}", 1.2, **fields)


def test_baseline_then_iterations_in_their_order(folder):
    steps = []
    while step := load_state(folder).next_step():
        steps.append((step.label, step.stage))
        advance(folder)
    baseline = [("baseline", stage) for stage in ("train", "evaluate", "rca")]
    first = [("iter1", stage) for stage in ITERATION_STAGES]
    last = [("iter2", stage) for stage in ITERATION_STAGES[:-1]]
    assert steps == [*baseline, *first, *last, ("iter2", LOOP_STOP)]
    state = load_state(folder)
    assert state.status == "complete"
    assert state.completed_at
    assert [event.seq for event in state.events] == list(range(1, len(steps) + 1))


def test_met_metric_stops_without_another_iteration(folder):
    advance(folder)
    state = advance(folder, passed=True)
    assert state.next_step() == Step(label="baseline", stage=LOOP_STOP)


@pytest.mark.parametrize("stage", ["evaluate", "rca", "routing", "data_merge", LOOP_STOP])
def test_step_out_of_order_is_refused_and_changes_nothing(folder, stage):
    before = (folder / STATE_FILE).read_bytes()
    with pytest.raises(DeftError, match="cannot be committed"):
        commit(folder, Step(label="baseline", stage=stage), "x", 1)
    assert (folder / STATE_FILE).read_bytes() == before


@pytest.mark.parametrize("absent", EVIDENCE["train"])
def test_commit_without_evidence_is_refused_and_changes_nothing(folder, absent):
    step = Step(label="baseline", stage="train")
    fields = evidence(folder, step)
    fields[absent].unlink()
    before = (folder / STATE_FILE).read_bytes()
    with pytest.raises(DeftError, match=absent):
        commit(folder, step, "x", 1, **fields)
    assert (folder / STATE_FILE).read_bytes() == before


def test_skip_needs_no_evidence_and_is_recorded_with_its_reason(folder):
    for _ in range(4):
        advance(folder)
    step = load_state(folder).next_step()
    state = commit(folder, step, "none", 5, skip_reason="sdg_source=none", anomalygen_skipped=True)
    assert state.events[-1].skip_reason == "sdg_source=none"
    assert state.events[-1].duration_sec == 0


def test_failed_step_stays_the_next_one(folder):
    step = load_state(folder).next_step()
    state = commit_error(folder, step, "no images", 2)
    assert state.status == "failed"
    assert state.next_step() == step
    assert advance(folder).status == "in_progress"


def test_log_holds_the_events_of_the_state(folder):
    advance(folder)
    advance(folder)
    lines = [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]
    assert lines == [event.model_dump() for event in load_state(folder).events]


def test_log_one_line_short_after_a_crash_is_completed(folder):
    advance(folder)
    advance(folder)
    log = folder / LOG_FILE
    whole = log.read_text()
    log.write_text(whole.splitlines(keepends=True)[0])
    load_state(folder)
    assert log.read_text() == whole
    assert not log.with_suffix(".jsonl.bak").exists()


def test_log_that_disagrees_is_rebuilt_and_kept(folder):
    advance(folder)
    log = folder / LOG_FILE
    whole = log.read_text()
    log.write_text("something else\n")
    load_state(folder)
    assert log.read_text() == whole
    assert log.with_suffix(".jsonl.bak").read_text() == "something else\n"


def test_change_by_hand_is_reported(folder, caplog):
    advance(folder)
    file = folder / STATE_FILE
    file.write_text(file.read_text().replace("did train", "did nothing"))
    load_state(folder)
    assert "changed by hand" in caplog.text


def test_second_state_in_one_folder_is_refused(folder):
    with pytest.raises(InputError, match="exists"):
        new_run(folder, 1)


def test_damaged_state_is_named(folder):
    (folder / STATE_FILE).write_text("{}")
    with pytest.raises(InputError, match=r"deft_state\.json: .*started_at"):
        load_state(folder)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.lists(st.booleans(), min_size=4, max_size=4))
def test_every_run_ends_by_the_metric_or_the_last_iteration(tmp_path_factory, rounds, met):
    folder = new_run(tmp_path_factory.mktemp("run"), rounds)
    while step := load_state(folder).next_step():
        advance(folder, passed=met[step.iteration])
    state = load_state(folder)
    expected = next((number for number in range(rounds) if met[number]), rounds)
    assert state.events[-1].iter == ("baseline" if expected == 0 else f"iter{expected}")
