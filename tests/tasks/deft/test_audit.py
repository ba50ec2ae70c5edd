import json

import pytest

from tasks.artifacts import read_json, write_text
from tasks.deft.audit import audit, audited
from tasks.deft.commits import commit_error
from tasks.deft.stages import STAGES
from tasks.deft.state import LOG_FILE, STATE_FILE, load_state, write_state


def edit_state(run, change):
    """What a person does with an editor: the stored digest stays as it was."""
    file = run.folder / STATE_FILE
    content = read_json(file)
    change(content)
    file.write_text(json.dumps(content))


def texts(run):
    return [finding.text for finding in audit(run.state)]


def test_untouched_run_has_no_finding_at_any_stage(played):
    assert audit(played.state) == []
    while played.step:
        played.advance()
        assert audit(played.state) == []
        assert audited(played.folder) == played.state


def test_error_is_no_finding(played):
    commit_error(played.folder, played.step, "no images", 1)
    assert audit(played.state) == []
    played.advance()
    assert audit(played.state) == []


EVIDENCE = [
    (step, name)
    for step in ("baseline/train", "baseline/evaluate", "baseline/rca", "iter1/routing", "iter1/anomalygen")
    for name in STAGES[step.split("/")[1]].evidence
] + [
    (f"iter1/{stage}", name)
    for stage in ("data_mining", "data_merge")
    for name in STAGES[stage].evidence
    if name != "mining_history_file"
]


@pytest.mark.parametrize("deed", ["removed", "changed"])
@pytest.mark.parametrize(("step", "name"), EVIDENCE)
def test_run_goes_back_to_before_the_stage_whose_file_was_touched(played, step, name, deed):
    played.advance_to("routing", "iter2")
    label = step.split("/")[0]
    file = getattr(played.state.phase(label), name)
    if deed == "removed":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes() + b" ")
    state = audited(played.folder)
    # The chosen checkpoint is one of those that training left: touching it goes back to the training.
    expected = f"{label}/train" if name == "best_ckpt_path" else step
    assert str(state.next_step()) == expected
    assert state.restarts[-1].went_on_with == expected
    assert any(str(file) in finding for finding in state.restarts[-1].findings)
    assert audit(load_state(played.folder)) == []
    assert played.finish().status == "complete"


def test_phases_without_a_commit_left_are_put_aside_and_nothing_is_removed(played):
    played.advance_to("evaluate", "iter2")
    (played.folder / "baseline" / "gaps.parquet").unlink()
    events = [event.model_dump() for event in played.state.events]
    state = audited(played.folder)
    assert list(state.iterations) == ["baseline"]
    assert not (played.folder / "iter1").exists()
    assert len(list(played.folder.glob("iter?.stale_*/combined.csv"))) == 2
    (old,) = played.folder.glob(f"{STATE_FILE}.stale_*")
    assert read_json(old)["events"] == events
    lines = (played.folder / LOG_FILE).read_text().splitlines()
    load_state(played.folder)
    assert len((played.folder / LOG_FILE).read_text().splitlines()) == len(state.events) < len(lines)


def test_phase_keeps_what_its_trusted_stages_committed(played):
    played.advance_to("routing", "iter1")
    (played.folder / "baseline" / "inference.csv").unlink()
    phase = audited(played.folder).phase("baseline")
    assert phase.best_ckpt_path == phase.best_val_ckpt_path
    assert phase.metric_result is None
    assert phase.rca_gaps_parquet is None
    assert phase.stage_completed == "train"


def test_value_changed_by_hand_goes_back_to_its_stage(played):
    played.advance_to("routing", "iter1")
    edit_state(played, lambda content: content["iterations"]["baseline"].update(threshold=0.1))
    state = audited(played.folder)
    assert str(state.next_step()) == "baseline/evaluate"
    assert any("changed by hand" in finding for finding in state.restarts[0].findings)


def test_other_change_by_hand_is_kept_and_recorded(played):
    played.advance_to("rca")
    edit_state(played, lambda content: content.update(max_iterations=3))
    state = audited(played.folder)
    assert state.max_iterations == 3
    assert str(state.next_step()) == "baseline/rca"
    assert state.restarts[0].findings == [f"{STATE_FILE} was changed by hand after its last commit"]
    assert audit(load_state(played.folder)) == []


@pytest.mark.parametrize(
    ("change", "named", "goes_on_with"),
    [
        (lambda state: state.events.pop(1), "its number should be 2", "baseline/evaluate"),
        (lambda state: setattr(state.events[3], "seq", 9), "its number should be 4", "iter1/routing"),
        (lambda state: setattr(state.events[2], "stage", "train"), "it cannot follow", "baseline/rca"),
        (lambda state: setattr(state, "current_iteration", 5), "current_iteration is 5", "iter1/anomalygen"),
        (lambda state: setattr(state, "status", "complete"), "status is complete", "iter1/anomalygen"),
    ],
)
def test_state_that_contradicts_itself(played, change, named, goes_on_with):
    played.advance_to("anomalygen")
    state = played.state
    change(state)
    write_state(played.folder, state)
    state = audited(played.folder)
    assert any(named in finding for finding in state.restarts[0].findings)
    assert str(state.next_step()) == goes_on_with


@pytest.mark.parametrize("name", ["best_model", "best_model_inference_spec"])
def test_complete_is_not_believed_without_what_is_handed_over(played, name):
    played.finish()
    (played.folder / name).unlink()
    assert any(f"its {name} is gone" in text for text in texts(played))
    state = audited(played.folder)
    assert state.status == "in_progress"
    assert str(state.next_step()) == "iter2/loop_stop"
    assert played.finish().status == "complete"


def test_ledger_goes_back_with_the_run(played):
    played.advance_to("train", "iter2")
    entry = {
        "topn": 5,
        "max_new_rows": None,
        "candidate_parquet": "c",
        "candidate_sha256": "",
        "candidate_unique_count": 1,
        "already_mined_count": 0,
        "selected_count": 1,
        "output_parquet": "o",
        "output_sha256": "",
        "summary_file": "s",
        "summary_sha256": "",
    }
    entries = [{**entry, "iteration": n, "selected_filepaths": [f"{n}.jpg"]} for n in (1, 2)]
    ledger = write_text(
        played.folder / "mining_history.json",
        json.dumps({"iterations": entries, "cumulative_unique_count": 2}),
    )
    (played.folder / "iter2" / "mining_pool.csv").unlink()
    audited(played.folder)
    assert [one["iteration"] for one in read_json(ledger)["iterations"]] == [1]
    assert len(read_json(ledger.with_suffix(".json.bak"))["iterations"]) == 2
