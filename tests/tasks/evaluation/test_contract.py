import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.errors import InputError
from tasks.evaluation.contract import MetricContract, MetricResult

CONTRACT = MetricContract.parse("FAR < 10% at Recall=100%")


def result(value=5.0, recall=100.0, **more):
    fields = {"name": "far_pct", "value": value, "unit": "%", "constraints": {"recall_pct": recall}}
    return MetricResult(**{**fields, **more})


def test_text_form():
    assert (CONTRACT.name, CONTRACT.display_name, CONTRACT.operator) == ("far_pct", "FAR", "<")
    assert (CONTRACT.target, CONTRACT.unit, CONTRACT.evaluator) == (10.0, "%", "far_at_recall")
    (held,) = CONTRACT.constraints
    assert (held.name, held.operator, held.target, held.unit) == ("recall_pct", ">=", 100.0, "%")


@pytest.mark.parametrize("text", ["FAR<10% at recall>=100%", "far  <  10 %  AT  Recall = 100 %"])
def test_text_form_in_other_spellings(text):
    parsed = MetricContract.parse(text)
    assert parsed.constraints[0].target == CONTRACT.constraints[0].target
    assert parsed.passed(result(9.99))


def test_text_form_without_constraint():
    assert MetricContract.parse("FAR <= 2.5%").constraints == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FAR", "is not of the form"),
        ("FAR < ten%", "is not of the form"),
        ("FAR < 1.2.3%", "is not a number"),
        ("FPR < 10%", "unknown metric of the metric contract 'FPR'; choose one of: FAR, Recall"),
        ("FAR < 10% at Precision=90%", "unknown metric of the metric contract 'Precision'"),
        ("FAR < 0.1", "have unit %"),
        ("FAR < 10% at Recall=1", "have unit %"),
    ],
)
def test_text_that_is_no_contract(text, message):
    with pytest.raises(InputError, match=message):
        MetricContract.parse(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operator": "="}, "operator"),
        ({"target": float("inf")}, "target"),
        ({"name": "FAR %"}, "name"),
        ({"unit": "fraction"}, "have unit %"),
        ({"evaluator": "mine"}, "unknown evaluator 'mine'; choose one of: far_at_recall"),
        ({"colour": "red"}, "unknown key colour"),
    ],
)
def test_fields_that_are_no_contract(change, message):
    with pytest.raises(InputError, match=message):
        MetricContract.of({**CONTRACT.to_dict(), **change})


def test_fields_round_trip():
    assert MetricContract.of(CONTRACT.to_dict()) == CONTRACT


@pytest.mark.parametrize(
    ("value", "recall", "passed"), [(9.99, 100.0, True), (10.0, 100.0, False), (0.0, 99.9, False)]
)
def test_passed_is_computed(value, recall, passed):
    assert CONTRACT.passed(result(value, recall)) is passed


@pytest.mark.parametrize(("sign", "passed"), [("<", False), ("<=", True), (">", False), (">=", True)])
def test_operators_at_the_target(sign, passed):
    assert MetricContract.parse(f"FAR {sign} 10%").passed(result(10.0)) is passed


@pytest.mark.parametrize(
    "other",
    [result(unit="fraction"), result(name="fpr_pct"), result(constraints={"precision_pct": 3.0})],
    ids=["unit", "name", "constraint"],
)
def test_a_result_of_something_else_is_refused(other):
    with pytest.raises(InputError, match=r"does not answer|unknown constraint"):
        CONTRACT.passed(other)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_result_that_is_no_number_is_refused(value):
    with pytest.raises(ValidationError):
        result(value)


def test_better_looks_at_feasibility_first():
    assert CONTRACT.better(result(50.0, 100.0), result(0.0, 99.0))
    assert CONTRACT.better(result(4.0), result(5.0))
    assert not CONTRACT.better(result(5.0), result(5.0))


def test_better_follows_the_direction():
    higher = MetricContract.parse("Recall >= 90%")
    fields = {"name": "recall_pct", "unit": "%"}
    assert higher.better(MetricResult(value=95.0, **fields), MetricResult(value=91.0, **fields))


@given(st.lists(st.tuples(st.sampled_from([1.0, 2.0, 3.0]), st.sampled_from([99.0, 100.0])), min_size=1))
def test_best_is_not_bettered_and_first_among_equals(values):
    results = [result(*value) for value in values]
    best = CONTRACT.best(results)
    assert not any(CONTRACT.better(other, best) for other in results)
    first = next(i for i, other in enumerate(results) if not CONTRACT.better(best, other))
    assert best is results[first]


def test_best_of_nothing():
    with pytest.raises(InputError, match="no metric result"):
        CONTRACT.best([])
