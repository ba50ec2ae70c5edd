import pytest

from tasks.gap_analysis.scores import read_scores
from tasks.gap_analysis.vcn import Gaps, Unreachable, analyse


def analysed(inference, **keys):
    return analyse(read_scores(inference.csv), inference.spec(**keys))


def test_worked_example(oracle):
    gaps = analysed(oracle)
    assert isinstance(gaps, Gaps)
    assert gaps.point.threshold == 0.2
    assert (gaps.candidates, gaps.candidates_feasible, len(gaps.runners_up)) == (6, 3, 2)
    assert [group.label for group in gaps.kept] == ["PASS", "NO_PASS"]
    assert gaps.samples_kept == 5


def test_filter_mode_keeps_the_wrong_side_only(oracle):
    gaps = analysed(oracle, top_k_per_label=None)
    assert [(group.label, group.rows.tolist()) for group in gaps.kept] == [("PASS", [3])]
    assert not gaps.queue_usable


def test_filter_mode_with_missed_defects_is_usable(oracle):
    assert analysed(oracle, top_k_per_label=None, threshold=0.35).queue_usable


def test_a_defect_at_the_threshold_is_missed_but_marginal(oracle):
    gaps = analysed(oracle, threshold=0.3)
    assert (gaps.point.fn, gaps.boundary) == (1, 1)
    assert sum(group.misclassified for group in gaps.groups) == gaps.point.fp + gaps.point.fn - gaps.boundary


def test_mixed_spellings_of_pass_are_one_group(inference):
    inference.write([(0.1, " pass "), (0.2, "Pass"), (0.9, "no_pass")])
    assert [group.label for group in analysed(inference).groups] == ["PASS", "NO_PASS"]


def test_all_no_pass(inference):
    gaps = analysed(inference.write([(0.1, "a"), (0.2, "b")]))
    assert gaps.point.precision == 1.0
    assert {group.label for group in gaps.groups} == {"A", "B"}


def test_one_row(inference):
    assert analysed(inference.write([(0.3, "a")])).point.threshold == 0.29999999999999993


@pytest.mark.parametrize("keys", [{}, {"min_recall": 0}, {"threshold": 0.5}])
def test_all_pass_is_unreachable(inference, keys):
    found = analysed(inference.write([(0.1, "PASS"), (0.2, "PASS")]), **keys)
    assert isinstance(found, Unreachable)
    assert (found.reason, found.passes, found.no_passes) == ("no_no_pass_rows", 2, 0)
    assert found.attainable is None
    assert found.best_f1 is None


def test_pinned_threshold_below_an_asked_recall_is_unreachable(oracle):
    found = analysed(oracle, threshold=0.5, min_recall=1.0)
    assert isinstance(found, Unreachable)
    assert found.reason == "pinned_threshold"
    assert found.pinned.recall == 0.5
    assert found.attainable.threshold == 0.2


def test_pinned_threshold_without_a_recall_target_is_taken(oracle):
    assert analysed(oracle, threshold=0.5).point.recall == 0.5


def test_far_ceiling_that_nothing_meets_is_unreachable(oracle):
    found = analysed(oracle, max_far=0.1)
    assert isinstance(found, Unreachable)
    assert (found.reason, found.attainable.recall, found.attainable.far) == ("max_far", 0.5, 0.0)
    assert found.best_f1.recall == 1.0


def test_far_ceiling_that_is_met(oracle):
    assert analysed(oracle, max_far=1 / 3).point.threshold == 0.2
