import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, mannwhitneyu

from tasks.errors import InputError, StageFailed
from tasks.evaluation.kpi import (
    auc,
    check_threshold_agrees,
    far_at_recall,
    far_pct,
    far_pct_without,
    wilson_interval,
)
from tasks.gap_analysis.sweep import sweep

SCORES = st.sampled_from([0.1, 0.2, 0.2, 0.3, 0.5, 0.8]) | st.floats(0, 1, allow_nan=False)
ROWS = st.lists(st.tuples(SCORES, st.booleans()), min_size=2, max_size=30)


def arrays(rows):
    scores, passes = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    assume(passes.any() and not passes.all())
    return scores, passes


@settings(max_examples=500, deadline=None)
@given(ROWS)
def test_far_at_full_recall_has_a_closed_form(rows):
    scores, passes = arrays(rows)
    expected = 100.0 * np.count_nonzero(scores[passes] >= scores[~passes].min()) / passes.sum()
    assert far_pct(far_at_recall(scores, passes).point) == expected == far_pct_without(scores, passes, 0)


@settings(max_examples=1000, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_order_of_rows_changes_nothing(rows, random):
    arrays(rows)
    results = [far_at_recall(*arrays(order)) for order in (rows, random.sample(rows, len(rows)))]
    assert results[0].point == results[1].point
    assert results[0].best_f1 == results[1].best_f1
    assert results[0].diagnostics == results[1].diagnostics


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=30))
def test_monotone_rescaling_of_scores_keeps_far(rows):
    scores, passes = arrays(rows)
    before, after = (far_at_recall(values, passes) for values in (scores * 1.0, np.exp(scores / 3.0) - 5.0))
    assert far_pct(before.point) == far_pct(after.point)
    assert before.diagnostics["auc"] == after.diagnostics["auc"]


@settings(max_examples=1000, deadline=None)
@given(ROWS)
def test_a_pass_row_below_the_threshold_lowers_far(rows):
    scores, passes = arrays(rows)
    before = far_pct(far_at_recall(scores, passes).point)
    after = far_pct(far_at_recall(np.append(scores, scores.min() - 1), np.append(passes, True)).point)
    assert after < before or before == after == 0.0


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_auc_is_the_mann_whitney_statistic(rows):
    scores, passes = arrays(rows)
    u = mannwhitneyu(scores[~passes], scores[passes]).statistic
    assert auc(sweep(scores, passes)) == pytest.approx(u / ((~passes).sum() * passes.sum()))


@given(st.integers(0, 400), st.integers(1, 400))
def test_wilson_interval(successes, trials):
    assume(successes <= trials)
    expected = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_diagnostics_of_a_known_set():
    passes = np.array([True] * 4 + [False] * 3)
    kpi = far_at_recall(np.array([0.1, 0.35, 0.55, 0.9, 0.3, 0.5, 0.8]), passes)
    assert kpi.point.threshold == 0.1
    assert kpi.lowest_defect == 4
    assert kpi.diagnostics["far_counts"] == "3/4"
    assert kpi.diagnostics["far_pct_at_2nd_lowest_defect"] == 50.0
    assert kpi.diagnostics["far_pct_at_3rd_lowest_defect"] == 25.0
    assert kpi.diagnostics["recall_pct"] == 100.0


def test_far_without_a_second_defect_is_none():
    diagnostics = far_at_recall(np.array([0.1, 0.9]), np.array([True, False])).diagnostics
    assert diagnostics["far_pct_at_2nd_lowest_defect"] is None


def test_far_at_a_recall_slightly_below_full():
    scores = np.append([0.5], np.append([0.1], np.full(299, 0.9)))
    kpi = far_at_recall(scores, np.append([True], np.full(300, False)))
    assert far_pct(kpi.point) == 100.0
    assert kpi.diagnostics["far_pct_at_recall_99_5"] == 0.0


def test_best_f1_prefers_recall_over_precision():
    # F1 is 2/3 with recall 1 (precision 1/2) and with recall 1/2 (precision 1).
    scores = np.array([0.1, 0.5, 0.5, 0.9])
    kpi = far_at_recall(scores, np.array([False, True, True, False]))
    assert kpi.best_f1.recall == 1.0


@pytest.mark.parametrize(("passed", "missing"), [(True, "NO_PASS"), (False, "PASS")])
def test_one_class_has_no_far_at_recall(passed, missing):
    with pytest.raises(InputError, match=f"no {missing} rows"):
        far_at_recall(np.array([0.1, 0.2]), np.array([passed, passed]))


def test_thresholds_that_agree():
    check_threshold_agrees(0.1 + 0.2, 0.30000000000000004)


@pytest.mark.parametrize("metric", [0.3, None, float("nan")])
def test_thresholds_that_do_not_agree_are_both_named(metric):
    with pytest.raises(StageFailed, match=rf"threshold {metric} of the metric .* 0\.30000000000000004"):
        check_threshold_agrees(metric, 0.1 + 0.2)
