from itertools import count
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.automl.algorithms import seed_of
from tasks.automl.ranking import decided_by, ranked
from tasks.automl.trial import Failure, Outcome, Row, SweepMetric
from tasks.automl.winner import NoWinner, Policy, QualityCheck, choose, gain_over, suspicious
from tasks.errors import InputError

FAR = SweepMetric(name="far_pct", direction="minimise", unit="%")
LOSS = SweepMetric(name="val_loss", direction="minimise")
F1 = SweepMetric(name="f1", direction="maximise")
POLICY = Policy()


class Rows:
    """Makes rows with checkpoints on disk."""

    def __init__(self, folder):
        self.folder = folder
        self.numbers = count()

    def __call__(self, score=None, state="complete", source="sampler", **fields):
        number = next(self.numbers)
        outcome = None
        if score is not None:
            checkpoint = self.folder / f"{number}.pth"
            checkpoint.write_bytes(b"weights")
            facts = {
                "target": score,
                "checkpoint": checkpoint,
                "epochs": 3,
                "predicted": {"PASS": 2, "NO_PASS": 1},
            }
            given_fields = {key: fields.pop(key) for key in list(fields) if key in Outcome.model_fields}
            outcome = Outcome(**({**facts, "score": score} | given_fields))
        return Row(
            number=number,
            phase=1,
            source=source,
            seed=100 + number,
            params={},
            specs={},
            spec_sha256="x",
            state=state,
            outcome=outcome,
            **fields,
        )

    def failed(self, kind="diverged", **fields):
        failure = Failure(kind=kind, signature="s", message="the loss is nan")
        return self(state="failed", failure=failure, **fields)


@pytest.fixture
def make(tmp_path):
    return Rows(tmp_path)


class Reruns:
    """Answers to reruns in order, and which were asked for."""

    def __init__(self, make, *scores):
        self.make, self.scores, self.asked = make, list(scores), []

    def __call__(self, row, seed):
        self.asked.append((row.rec_id, seed))
        answer = self.scores.pop(0)
        return answer if isinstance(answer, Row) else self.make(answer, source="rerun")


def never(row, seed):
    raise AssertionError(f"{row.rec_id} was run again")


def numbers(rows):
    return [row.number for row in rows]


def test_the_lowest_false_alarm_rate_is_first(make):
    assert numbers(ranked([make(40.0), make(3.0), make(20.0)], FAR)) == [1, 2, 0]


def test_the_highest_f1_is_first(make):
    assert numbers(ranked([make(0.4), make(0.9), make(0.6)], F1)) == [1, 2, 0]


def test_ties_go_to_the_lower_target_then_the_earlier(make):
    rows = [make(3.0, target=3.5), make(3.0, target=3.2), make(3.0, target=3.2)]
    assert numbers(ranked(rows, FAR)) == [1, 2, 0]


def test_only_complete_models_of_the_sweep_are_ranked(make):
    rows = [
        make(1.0, state="pruned"),
        make(1.0, state="collapsed", collapse="AUC"),
        make(1.0, collapse="constant"),
        make(1.0, source="rerun"),
        make(state="running"),
        make.failed(),
        make(50.0),
    ]
    assert numbers(ranked(rows, FAR)) == [6]


ONE_CLASS = {"PASS": 3, "NO_PASS": 0}


def test_one_class_counts_only_where_the_loss_decides(make):
    rows = [make(1.0, predicted=ONE_CLASS, facts={"val_loss": 0.1}), make(2.0, facts={"val_loss": 0.2})]
    assert numbers(ranked(rows, FAR)) == [0, 1]
    assert numbers(ranked(rows, FAR, "val_loss_guarded")) == [1]
    assert numbers(ranked(rows, LOSS)) == [1]
    assert numbers(ranked(rows, FAR, "topk_by_far")) == [0, 1]


def test_among_the_lowest_losses_far_decides(make):
    rows = [make(loss, facts={"far_pct": far}) for loss, far in ((0.1, 9), (0.2, 5), (0.3, 7), (0.4, 1))]
    assert numbers(ranked(rows, LOSS, "topk_by_far", 3)) == [1, 2, 0]
    assert numbers(ranked(rows, LOSS, "topk_by_far", 9)) == [3, 1, 2, 0]
    assert decided_by(LOSS, "topk_by_far").name == "far_pct"


def test_a_figure_that_is_needed_and_missing_is_named(make):
    with pytest.raises(InputError, match="rec_000 has no val_loss"):
        ranked([make(3.0)], FAR, "val_loss_guarded")


@pytest.mark.parametrize(
    ("scores", "step", "reason"),
    [
        ([5.0], 1, ""),
        ([5.0, 9.9], 1, ""),
        ([5.0, 10.0], 1, "factor of 2"),
        ([20.0, 27.0, 30.0], 1, "two steps and 25%"),
        ([20.0, 27.0], 1, ""),
        ([20.0, 26.0, 30.0], 1, ""),
        ([20.0, 27.0, 30.0], 4, ""),
        ([5.0, 5.0, 5.0], 0, ""),
        ([0.0, 0.0, 9.0], 1, ""),
        ([0.0, 1.0], 1, ""),
        ([0.0, 2.0, 2.0], 1, ""),
        ([0.0, 4.0], 1, "3 times the spread"),
        ([0.0, 3.0, 4.0], 1, "two steps"),
        ([0.0, 10.0, 13.0], 1, "3 times the spread"),
        ([0.0, 1e-6], 0, "3 times the spread"),
    ],
)
def test_too_good_to_be_believed(scores, step, reason):
    found = suspicious(scores, FAR, step)
    assert reason in found
    assert bool(found) == bool(reason)


@pytest.mark.parametrize(
    ("scores", "doubted"), [([0.9, 0.45], True), ([0.9, 0.5], False), ([0.9, 0.6, 0.5], True)]
)
def test_too_good_when_more_is_better(scores, doubted):
    assert bool(suspicious(scores, F1)) == doubted


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=8))
def test_minimised_and_maximised_mirror_each_other_in_the_ratio(values):
    pair = sorted(values)[:2]
    inverse = [1 / value for value in pair]
    assert bool(suspicious(pair, FAR, gap=2.0)) == bool(suspicious(inverse, F1, gap=2.0)) or pair[1] / pair[
        0
    ] == (pytest.approx(2.0))


def test_gain_is_strict_and_may_be_unknown():
    assert gain_over(20.0, 10.0, FAR) is True
    assert gain_over(10.0, 10.0, FAR) is False
    assert gain_over(0.5, 0.4, F1) is False
    assert gain_over(None, 10.0, FAR) is None


def test_a_winner_that_is_believed_is_not_run_again(make):
    rows = [make(20.0), make(18.0), make(22.0)]
    check = choose(rows, FAR, never, POLICY, step=1.0, zero_shot=60.0)
    assert (check.chosen_rec, check.chosen_run, check.score) == ("rec_001", "rec_001", 18.0)
    assert check.checkpoint == rows[1].outcome.checkpoint
    assert (check.decision, check.gain, check.reruns, check.reasons) == ("best", True, [], [])
    assert [(one.rank, one.rec_id) for one in check.candidates] == [
        (1, "rec_001"),
        (2, "rec_000"),
        (3, "rec_002"),
    ]


def test_no_gain_over_the_model_without_training_is_said(make):
    check = choose([make(20.0), make(19.0)], FAR, never, POLICY, zero_shot=19.0)
    assert check.gain is False
    assert "19 is no better than 19 before the sweep" in check.reasons


def test_collapsed_trials_are_shown_and_never_chosen(make):
    rows = [
        make(0.0, state="collapsed", collapse="2 scores"),
        make(1.0, state="collapsed", collapse="AUC"),
        make(30.0),
        make.failed(),
    ]
    check = choose(rows, FAR, never, POLICY)
    assert (check.chosen_rec, check.decision) == ("rec_002", "best")
    shown = [(one.rank, one.rec_id, one.collapsed) for one in check.candidates]
    assert shown == [(1, "rec_002", False), (None, "rec_000", True), (None, "rec_001", True)]


@pytest.mark.parametrize("content", [None, b""], ids=["missing", "empty"])
def test_a_missing_checkpoint_gives_way_to_the_next(make, content):
    rows = [make(10.0), make(11.0), make(12.0)]
    for row in rows[:2]:
        row.outcome.checkpoint.unlink()
        if content is not None:
            row.outcome.checkpoint.write_bytes(content)
    check = choose(rows, FAR, never, POLICY)
    assert (check.chosen_rec, check.decision) == ("rec_002", "fallback")
    assert check.reasons == [f"rec_00{n}: its checkpoint is missing or empty" for n in (0, 1)]


def test_without_any_candidate_every_trial_is_named(make):
    rows = [
        make(10.0),
        make(1.0, state="collapsed", collapse="two values"),
        make.failed(),
        make(state="pruned"),
    ]
    rows[0].outcome.checkpoint.unlink()
    message = (
        "rec_000: its checkpoint is missing or empty, rec_001: collapsed: two values, "
        "rec_002: failed: the loss is nan, rec_003: pruned"
    )
    with pytest.raises(NoWinner, match=message):
        choose(rows, FAR, never, POLICY)


def test_the_fourth_is_not_looked_at(make):
    rows = [make(10.0 + n) for n in range(4)]
    for row in rows[:3]:
        row.outcome.checkpoint.unlink()
    with pytest.raises(NoWinner, match="rec_002: its checkpoint"):
        choose(rows, FAR, never, POLICY)


def test_no_trials_at_all():
    with pytest.raises(NoWinner, match="none was run"):
        choose([], FAR, never, POLICY)


def test_a_suspicious_winner_that_holds_stands_with_its_median(make):
    rows = [make(40.0), make(5.0), make(38.0)]
    again = Reruns(make, 30.0, 12.0)
    check = choose(rows, FAR, again, POLICY, step=1.0)
    assert (check.chosen_rec, check.score, check.decision) == ("rec_001", 12.0, "best")
    assert check.chosen_run == "rec_004"
    assert check.checkpoint.name == "4.pth"
    assert [(one.rec_id, one.run_id, one.score) for one in check.reruns] == [
        ("rec_001", "rec_003", 30.0),
        ("rec_001", "rec_004", 12.0),
    ]
    assert "factor of 2" in check.reasons[0]
    assert "trained 3 times, median: 12" in check.reasons[1]


def test_a_suspicious_winner_that_does_not_hold_gives_way(make):
    rows = [make(40.0), make(5.0), make(38.0)]
    check = choose(rows, FAR, Reruns(make, 70.0, 60.0), POLICY, step=1.0)
    assert (check.chosen_rec, check.score, check.decision) == ("rec_002", 38.0, "fallback")
    assert len(check.reruns) == 2


def test_seeds_of_reruns_are_new_and_always_the_same(make):
    rows = [make(40.0), make(5.0)]
    asked = []
    for _ in range(2):
        again = Reruns(make, 6.0, 7.0)
        choose(rows, FAR, again, POLICY)
        asked.append(again.asked)
    assert asked[0] == asked[1] == [("rec_001", seed_of(101, "rec_001", "rerun", n)) for n in (1, 2)]
    assert len({101, *(seed for _, seed in asked[0])}) == 3


def test_on_a_tie_the_one_with_more_runs_stays(make):
    check = choose([make(40.0), make(5.0), make(45.0)], FAR, Reruns(make, 40.0, 60.0), POLICY, step=1.0)
    assert (check.chosen_rec, check.score, check.decision) == ("rec_001", 40.0, "best")


def test_the_second_gets_the_same_test_and_no_third(make):
    rows = [make(2.0), make(10.0), make(40.0), make(90.0)]
    again = Reruns(make, 50.0, 60.0, 70.0, 80.0)
    check = choose(rows, FAR, again, POLICY, step=1.0)
    assert [rec for rec, _ in again.asked] == ["rec_000", "rec_000", "rec_001", "rec_001"]
    assert (check.chosen_rec, check.score) == ("rec_002", 40.0)


def test_a_third_that_is_suspicious_too_is_taken_and_said(make):
    rows = [make(2.0), make(5.0), make(12.0), make(90.0)]
    check = choose(rows, FAR, Reruns(make, 80.0, 80.0, 80.0, 80.0), POLICY, step=1.0)
    assert check.chosen_rec == "rec_002"
    assert check.reasons[-1] == "rec_002 is taken as it is: nothing more is trained again"


def test_the_best_median_wins_even_if_it_is_the_first_again(make):
    rows = [make(2.0), make(10.0)]
    check = choose(rows, FAR, Reruns(make, 30.0, 30.0, 90.0, 90.0), POLICY, step=1.0)
    assert (check.chosen_rec, check.score) == ("rec_000", 30.0)


def test_a_rerun_without_a_model_is_worse_than_any(make):
    rows = [make(40.0), make(5.0), make(41.0)]
    collapsed = make(1.0, state="collapsed", collapse="constant", source="rerun")
    check = choose(rows, FAR, Reruns(make, collapsed, make.failed(source="rerun")), POLICY, step=1.0)
    assert (check.chosen_rec, check.score) == ("rec_000", 40.0)
    assert [one.score for one in check.reruns] == [None, None]
    assert [one.reason for one in check.reruns] == ["collapsed: constant", "failed: the loss is nan"]
    assert "median: no model" in check.reasons[1]


def test_one_rerun_without_a_model_leaves_the_worse_of_the_others(make):
    check = choose([make(40.0), make(5.0)], FAR, Reruns(make, make.failed(source="rerun"), 8.0), POLICY)
    assert (check.chosen_rec, check.score) == ("rec_001", 8.0)


def test_a_rerun_that_failed_for_reasons_outside_does_not_count(make):
    rows = [make(40.0), make(5.0)]
    lost = [make.failed("infrastructure", source="rerun") for _ in range(2)]
    check = choose(rows, FAR, Reruns(make, *lost), POLICY)
    assert (check.chosen_rec, check.score) == ("rec_001", 5.0)
    assert check.reruns[0].reason.endswith("; does not count")


def test_a_lone_trial_has_nothing_to_be_held_against(make):
    assert choose([make(5.0)], FAR, never, POLICY).chosen_rec == "rec_000"


def test_reruns_can_be_switched_off(make):
    check = choose([make(40.0), make(5.0)], FAR, never, Policy(reruns=0))
    assert check.chosen_rec == "rec_001"
    assert "factor of 2" in check.reasons[0]


def test_the_check_is_in_the_metric_that_decides(make):
    rows = [
        make(loss, facts={"far_pct": far}) for loss, far in ((0.1, 9.0), (0.11, 8.0), (0.12, 8.5), (0.5, 1.0))
    ]
    check = choose(rows, LOSS, never, Policy(selection="topk_by_far"), step=1.0, zero_shot=50.0)
    assert (check.metric.name, check.chosen_rec, check.score, check.gain) == ("far_pct", "rec_001", 8.0, True)
    assert check.candidates[-1].refused == "not among the first 3 by validation loss"


def test_the_check_survives_its_file(make):
    check = choose([make(40.0), make(5.0)], FAR, Reruns(make, 6.0, 7.0), POLICY)
    assert QualityCheck.model_validate_json(check.model_dump_json()) == check


@given(
    st.lists(st.integers(0, 100), min_size=1, max_size=5),
    st.lists(st.integers(0, 100), min_size=4, max_size=4),
)
def test_the_winner_is_never_worse_than_a_candidate_as_far_as_known(tmp_path_factory, scores, again):
    make = Rows(tmp_path_factory.getbasetemp())
    rows = [make(float(score)) for score in scores]
    reruns = Reruns(make, *map(float, again))
    check = choose(rows, FAR, reruns, POLICY, step=1.0)
    known = {row.rec_id: [row.outcome.score] for row in rows}
    for one in check.reruns:
        known[one.rec_id].append(one.score)
    figures = {rec: sorted(runs)[len(runs) // 2] for rec, runs in known.items()}
    assert check.score == figures[check.chosen_rec]
    assert check.score <= min([figures[one.rec_id] for one in check.candidates], default=inf)
    assert len({rec for rec, _ in reruns.asked}) <= 2
    assert check.outcome.score in known[check.chosen_rec]
