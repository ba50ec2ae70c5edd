import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.changenet import metrics

SETS = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40)


def split(rows):
    return np.array([score for score, _ in rows], np.float32), np.array([flag for _, flag in rows])


@given(SETS)
def test_auc_counts_pairs_with_ties_half(rows):
    scores, defect = split(rows)
    pairs = [(d > p) + 0.5 * (d == p) for d in scores[defect] for p in scores[~defect]]
    if pairs:
        assert metrics.auc(scores, defect) == pytest.approx(np.mean(pairs))
    else:
        assert math.isnan(metrics.auc(scores, defect))


@given(SETS)
def test_far_is_that_of_the_best_threshold_with_all_defects_found(rows):
    scores, defect = split(rows)
    if defect.all() or not defect.any():
        assert metrics.far_at_full_recall(scores, defect) == 100
        return
    candidates = [scores.min() - 1, *scores]
    full = [t for t in candidates if (scores[defect] > t).all()]
    best = min(100 * (scores[~defect] > t).mean() for t in full)
    assert metrics.far_at_full_recall(scores, defect) == pytest.approx(best)


def test_constant_scores_have_far_100():
    assert metrics.far_at_full_recall(np.full(9, 0.5, np.float32), np.arange(9) < 3) == 100


def test_test_metrics_have_the_denominators_of_the_container():
    scores = np.array([0.9, 0.2, 0.8, 0.1], np.float32)
    defect = np.array([True, True, False, False])
    assert metrics.test_metrics(scores, defect, 0.5) == {
        "test_acc": 50.0,
        "test_fpr": 25.0,
        "test_fnr": 25.0,
        "defect_acc": 50.0,
    }


def test_validation_metrics_are_a_superset_of_the_containers():
    values = metrics.validation_metrics(np.array([0.9, 0.2], np.float32), np.array([True, False]), 0.5)
    assert values == {
        "val_acc": 100.0,
        "val_fpr": 0.0,
        "val_far": 0.0,
        "val_recall": 100.0,
        "val_auc": 1.0,
        "val_pred_pos": 50.0,
    }
