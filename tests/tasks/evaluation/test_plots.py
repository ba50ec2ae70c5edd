import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tasks.evaluation.action import PLOTS
from tasks.evaluation.kpi import far_at_recall
from tasks.evaluation.plots import (
    BINS,
    MANY,
    confusion_matrix,
    full_recall,
    score_distribution,
    write_plots,
)

SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.05, 0.9])
IS_PASS = np.array([True, True, False, True, False, False])


@pytest.fixture
def axes():
    return Figure().subplots()


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_three_pictures_of_equal_bytes_for_equal_scores(tmp_path):
    kpi = far_at_recall(SCORES, IS_PASS)
    for name in ("a", "b"):
        write_plots(tmp_path / name, SCORES, IS_PASS, kpi)
    for name in PLOTS:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        with Image.open(tmp_path / "a" / name) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 300


def test_the_distribution_has_40_bins_and_the_threshold(axes):
    score_distribution(axes, SCORES, IS_PASS, 0.25)
    assert {len(steps.get_data().values) for steps in axes.patches} == {BINS} == {40}
    assert sum(axes.patches[0].get_data().values) == 3
    assert axes.lines[0].get_xdata()[0] == 0.25
    assert axes.get_yscale() == "linear"


def test_many_samples_are_counted_on_a_logarithmic_scale(axes):
    score_distribution(axes, np.zeros(MANY), np.ones(MANY, dtype=bool), None)
    assert axes.get_yscale() == "log"


def test_the_matrix_says_all_four_counts(axes):
    point = full_recall(far_at_recall(SCORES, IS_PASS))
    confusion_matrix(axes, point)
    assert texts(axes)[::2] == ["3", "0", "3", "0"]
    assert texts(axes)[1::2] == [
        "defects found\n100 % of 3",
        "defects missed\n0 % of 3",
        "false alarms\n100 % of 3",
        "let pass\n0 % of 3",
    ]


def test_full_recall_whatever_the_contract_asks_for():
    assert full_recall(far_at_recall(SCORES, IS_PASS, 0.5)).fn == 0
