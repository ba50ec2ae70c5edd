import pytest

from tasks.artifacts import write_json
from tasks.deft.state import DeftState
from tasks.deft.summary import iteration_summary


def test_says_what_went_in_what_changed_and_what_comes_next(played):
    played.advance_to("routing", "iter2")
    text = iteration_summary(played.state, "iter1")
    for words in (
        "# Iteration 1 of 2",
        "missing, bridge (from baseline, threshold 0.25)",
        "4 to mining, 3 to generation",
        "20 asked for, 20 placed, 19 admitted",
        "35 neighbours, 30 similar enough, 21 new samples",
        "100 → 140",
        "50 % → 30 % (target FAR < 10% at Recall=100%)",
        "iter1/train/model_best_003.pth (best_val, validation loss 0.1)",
        "routing of iter2",
        "the guard-rail blocked 1 synthetic pairs",
    ):
        assert words in text


def test_last_iteration_says_why_the_loop_stops(played, play):
    played.finish()
    assert "the loop stops: no iteration is left" in iteration_summary(played.state, "iter2")


def test_met_metric_says_so(play):
    run = play(values=(50.0, 2.0))
    run.finish()
    assert "the loop stops: the metric is met" in iteration_summary(run.state, "iter1")


def test_worse_than_before_is_a_warning(play):
    run = play(values=(20.0, 30.0))
    run.advance_to("rca", "iter1")
    assert "- worse than the best before (20 %)" in iteration_summary(run.state, "iter1")


def test_less_placed_than_asked_is_a_warning(played):
    played.advance_to("anomalygen")
    played.advance(anomalygen_amp_requested=30)
    assert "- generation placed 20 of 30 defects" in iteration_summary(played.state, "iter1")


def test_renders_at_every_stage_within_300_words(played):
    while played.step:
        played.advance()
        for label in played.state.iterations:
            if label != "baseline":
                assert len(iteration_summary(played.state, label).split()) <= 300


def test_renders_with_nothing_known(played):
    assert "—" in iteration_summary(played.state, "iter1")


def test_text_cannot_break_the_table(played):
    played.advance_to("routing")
    state = played.state
    state.phase("baseline").rca_target_defects = ["a|b"]
    assert "a\\|b" in iteration_summary(DeftState.model_validate(state.model_dump()), "iter1")


@pytest.mark.parametrize("blocked", [0, 3])
def test_guard_rail_is_mentioned_when_it_blocked(played, blocked):
    played.advance_to("data_mining")
    write_json(played.state.phase("iter1").ingest_summary, {"guardrail_blocked": blocked})
    assert ("guard-rail" in iteration_summary(played.state, "iter1")) == bool(blocked)
