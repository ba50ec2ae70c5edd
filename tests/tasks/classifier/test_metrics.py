import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.classifier.metrics import check_contract, measured, read_scores, weakest_rows, worst_recall_pct
from tasks.errors import InputError
from tasks.evaluation.contract import MetricContract

ERROR = {"name": "error_pct", "display_name": "Error", "operator": "<", "target": 5, "unit": "%"}
RECALL = {"name": "worst_recall_pct", "display_name": "Recall", "operator": ">=", "target": 80, "unit": "%"}

ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("abc"), st.floats(0, 1, width=32)),
    min_size=1,
    max_size=40,
)


def table(rows):
    return pd.DataFrame(
        {
            "filepath": [f"{number}.png" for number in range(len(rows))],
            "label": [row[0] for row in rows],
            "predicted": [row[1] for row in rows],
            "true_label_prob": [row[2] for row in rows],
        }
    )


@given(ROWS)
def test_error_and_wrong_counts_agree(rows):
    result = measured(table(rows), MetricContract.of(ERROR))
    wrong = sum(label != predicted for label, predicted, _ in rows)
    assert result.value == pytest.approx(100 * wrong / len(rows))
    assert sum(result.diagnostics["wrong"].values()) == wrong


@given(ROWS)
def test_worst_recall_is_the_lowest_of_any_label(rows):
    recalls = [
        100 * sum(row[0] == row[1] for row in rows if row[0] == label) / sum(row[0] == label for row in rows)
        for label in {row[0] for row in rows}
    ]
    assert worst_recall_pct(table(rows)) == pytest.approx(min(recalls))


@given(ROWS, st.integers(1, 50))
def test_weakest_rows_are_no_surer_than_the_rest(rows, count):
    chosen = weakest_rows(table(rows), count).tolist()
    probabilities = [rows[number][2] for number in chosen]
    rest = [row[2] for number, row in enumerate(rows) if number not in chosen]
    assert len(chosen) == min(count, len(rows))
    assert probabilities == sorted(probabilities)
    assert not rest or max(probabilities) <= min(rest)


def test_constraints_are_measured_too():
    contract = MetricContract.of({**ERROR, "constraints": [RECALL]})
    result = measured(table([("a", "a", 1), ("b", "a", 0)]), contract)
    assert (result.value, result.constraints) == (50, {"worst_recall_pct": 0})
    assert not contract.feasible(result)


def test_unknown_metric_and_outside_evaluator_are_refused():
    with pytest.raises(InputError, match="unknown metric of an image classifier 'far_pct'"):
        check_contract(MetricContract.of("FAR < 10%"))
    command = {"type": "command", "executable": "/bin/true"}
    with pytest.raises(InputError, match="leave its evaluator out"):
        check_contract(MetricContract.of({**ERROR, "evaluator": command}))


def test_scores_keep_labels_that_look_like_numbers_or_nothing(tmp_path):
    file = tmp_path / "inference.csv"
    file.write_text("filepath,label,predicted,true_label_prob\na,001,NA,0.5\n")
    scores = read_scores(file)
    assert scores["label"].tolist() == ["001"]
    assert scores["predicted"].tolist() == ["NA"]


def test_table_of_something_else_is_refused(tmp_path):
    file = tmp_path / "inference.csv"
    file.write_text("filepath,label\na,b\n")
    with pytest.raises(InputError, match=r"is not an inference\.csv"):
        read_scores(file)
