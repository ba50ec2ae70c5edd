import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.changenet.sampling import drawn_rows, row_weights


def test_weights_and_share_of_the_specs_example():
    defect = np.arange(1000) < 50
    weights = row_weights(defect, 0.2)
    assert set(weights[~defect]) == {1.0}
    assert weights[defect] == pytest.approx(np.full(50, 3.8))
    share = np.mean([defect[drawn_rows(weights, 1, epoch)].mean() for epoch in range(200)])
    assert share == pytest.approx(0.2 / 1.2, abs=0.01)


@given(passes=st.integers(1, 500), defects=st.integers(1, 500), ratio=st.floats(0.01, 1))
def test_the_expected_share_does_not_depend_on_the_imbalance(passes, defects, ratio):
    defect = np.arange(passes + defects) < defects
    weights = row_weights(defect, ratio)
    assert weights[defect].sum() / weights.sum() == pytest.approx(ratio / (1 + ratio))


def test_draws_follow_from_seed_and_epoch():
    weights = np.ones(50)
    assert drawn_rows(weights, 1, 0).tolist() == drawn_rows(weights, 1, 0).tolist()
    assert drawn_rows(weights, 1, 0).tolist() != drawn_rows(weights, 1, 1).tolist()
    assert len(drawn_rows(weights, 1, 0)) == 50


def test_ratio_zero_draws_no_defect():
    defect = np.arange(10) < 5
    assert not defect[drawn_rows(row_weights(defect, 0.0), 1, 0)].any()
