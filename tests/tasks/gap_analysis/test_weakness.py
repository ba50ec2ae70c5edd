import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.gap_analysis.weakness import by_label, target_defects, weakness_of

ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([-0.5, -0.1, 0.0, 0.1, 0.1, 0.7])), min_size=1, max_size=40
)


def grouped(rows):
    labels = tuple(dict.fromkeys(row[0] for row in rows))
    label_of = np.array([labels.index(row[0]) for row in rows])
    return by_label(tuple(map(str, labels)), label_of, np.array([row[1] for row in rows]))


def test_worked_example():
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.9])
    weakness = weakness_of(scores, np.array([True, True, False, True, False]), 0.2)
    assert weakness == pytest.approx([-0.1, 0.0, -0.1, 0.2, -0.7])


@given(ROWS, st.none() | st.integers(1, 50))
def test_kept_rows_are_those_of_a_stable_sort(rows, top_k):
    for group in grouped(rows):
        own = [number for number, row in enumerate(rows) if str(row[0]) == group.label]
        ranked = sorted(own, key=lambda number: -rows[number][1])
        expected = [n for n in ranked if rows[n][1] > 0] if top_k is None else ranked[:top_k]
        kept = group.kept(top_k)
        assert kept.rows.tolist() == expected
        assert kept.weakness.tolist() == [rows[number][1] for number in expected]


@given(ROWS)
def test_the_label_with_the_weakest_row_comes_first(rows):
    groups = grouped(rows)
    first = max(range(len(rows)), key=lambda number: (rows[number][1], -number))
    assert groups[0].label == str(rows[first][0])
    assert sum(group.rows.size for group in groups) == len(rows)


def test_statistics_cover_all_rows_of_the_label():
    (group,) = grouped([("a", -0.4), ("a", 0.2), ("a", 0.0), ("a", 0.6)])
    assert group.statistics() == {
        "total": 4,
        "mean_weakness": pytest.approx(0.1),
        "median_weakness": pytest.approx(0.1),
        "max_weakness": 0.6,
        "n_misclassified": 2,
    }


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("few", 0.9), ("many", 0.1), ("many", 0.1)], ["many", "few"]),
        ([("at", 0.0), ("over", 0.1)], ["over", "at"]),
        ([("far", -0.9), ("near", -0.1)], ["near", "far"]),
        ([("PASS", 0.9), ("shift", -0.1)], ["shift"]),
    ],
    ids=["missed", "misclassified", "mean weakness", "PASS is no target"],
)
def test_target_defects_in_the_order_of_need(rows, expected):
    assert target_defects(grouped(rows)) == expected
