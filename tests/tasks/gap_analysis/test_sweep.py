import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.gap_analysis.sweep import best, feasible, pinned, sweep


def brute_force(scores, passes, min_recall):
    """The specification word for word, in O(n * m)."""
    chosen = None
    evaluated = 0
    for threshold in [float(np.nextafter(min(scores), -np.inf)), *sorted(set(scores))]:
        alarms = [score > threshold for score in scores]
        tp = sum(a and not p for a, p in zip(alarms, passes, strict=True))
        fp = sum(a and p for a, p in zip(alarms, passes, strict=True))
        fn = sum(not a and not p for a, p in zip(alarms, passes, strict=True))
        precision = tp / (tp + fp) if tp + fp else 0.0
        recall = tp / (tp + fn) if tp + fn else 0.0
        f1 = 2.0 * precision * recall / (precision + recall) if precision + recall else 0.0
        evaluated += 1
        if tp + fn and recall >= min_recall - 1e-12:
            chosen = max(chosen or (-1.0,), (f1, precision, threshold, tp, fp, fn))
    return chosen, evaluated


FEW = st.sampled_from([-1.0, 0.0, 0.25, 0.3, 0.5, 0.7])
SCORES = st.one_of(FEW, st.floats(-3, 3, allow_nan=False, width=32), st.floats(0, 1, allow_nan=False))
ROWS = st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=40)


@settings(max_examples=1000, deadline=None)
@given(ROWS, st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_equals_brute_force(rows, min_recall):
    scores, passes = [row[0] + 0.0 for row in rows], [row[1] for row in rows]
    expected, evaluated = brute_force(scores, passes, min_recall)
    points = sweep(np.array(scores), np.array(passes))
    chosen = best(points, feasible(points, min_recall))
    assert len(points) == evaluated
    if expected is None:
        assert chosen == []
        return
    point = points.at(chosen[0])
    assert (point.f1, point.precision, point.threshold, point.tp, point.fp, point.fn) == expected


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_at_full_recall_the_largest_score_below_the_lowest_defect_is_chosen(rows):
    scores, passes = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    if passes.all():
        return
    points = sweep(scores, passes)
    lowest = scores[~passes].min()
    below = scores[scores < lowest]
    expected = below.max() if below.size else np.nextafter(lowest, -np.inf)
    assert points.threshold[best(points, feasible(points, 1.0))[0]] == expected


@settings(max_examples=300, deadline=None)
@given(ROWS, SCORES)
def test_pinned_counts_as_the_rule_says(rows, threshold):
    scores, passes = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    point = pinned(scores, passes, threshold).at(0)
    assert point.tp + point.fp == np.count_nonzero(scores > threshold)
    assert (point.tp + point.fn, point.fp + point.tn) == (np.count_nonzero(~passes), np.count_nonzero(passes))


def test_worked_example():
    points = sweep(np.array([0.1, 0.2, 0.3, 0.4, 0.9]), np.array([True, True, False, True, False]))
    point = points.at(best(points, feasible(points, 1.0))[0])
    assert (point.threshold, point.tp, point.fp, point.tn, point.fn) == (0.2, 2, 1, 2, 0)
    assert (point.precision, point.recall, point.f1) == pytest.approx((2 / 3, 1.0, 0.8))
    assert point.far == pytest.approx(1 / 3)


def test_all_scores_equal_gives_two_candidates_and_the_lower_wins():
    points = sweep(np.array([0.5, 0.5]), np.array([True, False]))
    assert len(points) == 2
    assert points.threshold[best(points, feasible(points, 1.0))[0]] == np.nextafter(0.5, -np.inf)


def test_all_no_pass_is_reachable_with_precision_one_and_no_far():
    points = sweep(np.array([0.1, 0.5]), np.array([False, False]))
    point = points.at(best(points, feasible(points, 1.0, max_far=0.0))[0])
    assert point.precision == 1.0
    assert np.isnan(point.far)


def test_all_pass_is_never_feasible():
    assert feasible(sweep(np.array([0.1]), np.array([True])), 0.0).size == 0


def test_far_ceiling_leaves_out_candidates():
    points = sweep(np.array([0.1, 0.2, 0.3]), np.array([True, False, True]))
    assert feasible(points, 1.0).size == 2
    assert feasible(points, 1.0, max_far=0.5).tolist() == [1]
    assert feasible(points, 1.0, max_far=0.1).size == 0


def test_runners_up_follow_in_order_and_end_with_the_candidates():
    points = sweep(np.array([0.1, 0.2, 0.9]), np.array([True, True, False]))
    chosen = best(points, feasible(points, 1.0), most=9)
    assert points.threshold[chosen].tolist() == [0.2, 0.1, np.nextafter(0.1, -np.inf)]


@settings(max_examples=1000, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_order_of_rows_changes_nothing(rows, random):
    shuffled = random.sample(rows, len(rows))
    results = []
    for order in (rows, shuffled):
        points = sweep(np.array([row[0] for row in order]), np.array([row[1] for row in order]))
        results.append([points.at(i) for i in best(points, feasible(points, 0.5), most=4)])
    assert repr(results[0]) == repr(results[1])
