import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.automl.judging import is_one_class, judge, tie_broken
from tasks.errors import InputError

PASSES = np.linspace(0.05, 0.45, 9)
DEFECTS = np.array([0.6, 0.7, 0.8])


def judged(passes, defects, margin=0.5):
    scores = np.concatenate([passes, defects])
    return judge(scores, np.arange(len(scores)) >= len(passes), margin)


def test_a_model_that_tells_the_classes_apart():
    found = judged(PASSES, DEFECTS)
    assert (found.far_pct, found.auc, found.collapse, found.warnings) == (0.0, 1.0, "", ())
    assert found.threshold == 0.45
    assert found.at_margin == found.at_threshold == {"PASS": 9, "NO_PASS": 3}
    assert found.distinct == 12
    assert found.target == 0.0


def test_far_counts_pass_rows_and_so_does_its_step():
    found = judged(PASSES, [0.42, 0.8])
    assert found.far_pct == found.step_pct == pytest.approx(100 / 9)
    assert found.at_threshold == {"PASS": 8, "NO_PASS": 3}
    assert found.target == pytest.approx(100 / 9 + 0.9 * 100 / 9 * (1 / 18))


@pytest.mark.parametrize(
    ("passes", "defects", "reason"),
    [
        (PASSES, [0.6, np.nan, np.inf], "2 of 12 scores are not finite"),
        (np.full(9, 0.5), np.full(3, 0.5), "1 scores"),
        (np.full(9, 0.1), np.full(3, 0.9), "2 scores"),
        (1 - PASSES, 1 - DEFECTS, "AUC 0.000 is below"),
        (PASSES, [0.01, 0.9, 0.95], "FAR 100.0 %"),
    ],
    ids=["not finite", "constant", "two values", "inverted", "one defect below all"],
)
def test_collapse(passes, defects, reason):
    assert reason in judged(passes, defects).collapse


def test_scores_that_are_not_finite_give_the_worst_figures_and_no_counts():
    found = judged(PASSES, [0.6, np.nan, np.inf])
    assert (found.far_pct, found.threshold, found.auc) == (100.0, None, None)
    assert found.at_margin == found.at_threshold == {}
    assert np.isfinite(found.target)
    assert not found.one_class


@pytest.mark.parametrize(("margin", "only"), [(2.0, "PASS"), (0.0, "NO_PASS")])
def test_one_class_at_the_margin_is_a_warning(margin, only):
    found = judged(PASSES, DEFECTS, margin)
    assert found.one_class
    assert found.collapse == ""
    assert f"says {only} to every row" in found.warnings[0]


def test_both_classes_are_needed():
    for flag, missing in ((True, "PASS"), (False, "NO_PASS")):
        with pytest.raises(InputError, match=f"no {missing} rows"):
            judge(np.array([0.1, 0.2]), np.array([flag, flag]), 0.5)


def test_a_score_for_every_row():
    with pytest.raises(InputError, match="2 scores for 3"):
        judge(np.zeros(2), np.zeros(3, bool), 0.5)


def test_counts_by_class():
    assert is_one_class({"PASS": 4, "NO_PASS": 0})
    assert not is_one_class({"PASS": 4, "NO_PASS": 1})
    assert not is_one_class({})


@settings(max_examples=1000, deadline=None)
@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))), st.data())
def test_a_whole_step_is_never_reordered(counts, data):
    passes, false_alarms = counts
    more = data.draw(st.integers(false_alarms + 1, passes))
    aucs = [data.draw(st.floats(0, 1)) for _ in range(2)]
    lower, higher = (
        tie_broken(100.0 * alarms / passes, auc, passes)
        for alarms, auc in zip((false_alarms, more), aucs, strict=True)
    )
    assert lower < higher


@given(st.floats(0, 100), st.integers(1, 1000), st.floats(0, 1), st.floats(0, 1))
def test_of_equal_far_the_higher_auc_is_never_worse(far, passes, one, other):
    low, high = sorted((one, other))
    assert tie_broken(far, high, passes) <= tie_broken(far, low, passes)


def test_with_the_number_of_defects_a_step_would_be_reordered():
    passes, defects = 90, 10
    one_alarm_less, one_more = 100.0 * 1 / passes, 100.0 * 2 / passes
    assert tie_broken(one_alarm_less, 0.5, defects) > tie_broken(one_more, 0.9, defects)
    assert tie_broken(one_alarm_less, 0.5, passes) < tie_broken(one_more, 0.9, passes)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(0, 20), min_size=2, max_size=30),
    st.lists(st.integers(0, 20), min_size=1, max_size=9),
)
def test_monotone_scores_are_judged_alike(passes, defects):
    plain = judged(np.array(passes) / 20, np.array(defects) / 20)
    bent = judged(np.exp(np.array(passes) / 7.0), np.exp(np.array(defects) / 7.0))
    assert (plain.far_pct, plain.auc, plain.at_threshold) == (bent.far_pct, bent.auc, bent.at_threshold)
    assert plain.collapse == bent.collapse
