import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.errors import InputError
from tasks.evaluation.contract import Candidate, MetricContract, MetricResult
from tasks.evaluation.evaluator import Builtin

CONTRACT = MetricContract.parse("FAR < 10% at Recall=100%")


def result(value=5.0, recall=100.0, **more):
    fields = {"name": "far_pct", "value": value, "unit": "%", "constraints": {"recall_pct": recall}}
    return MetricResult(**{**fields, **more})


def test_text_form():
    assert (CONTRACT.name, CONTRACT.display_name, CONTRACT.operator) == ("far_pct", "FAR", "<")
    assert (CONTRACT.target, CONTRACT.unit, CONTRACT.evaluator) == (10.0, "%", Builtin())
    (held,) = CONTRACT.constraints
    assert (held.name, held.operator, held.target, held.unit) == ("recall_pct", ">=", 100.0, "%")


@pytest.mark.parametrize(
    ("text", "primary", "held"),
    [
        ("FAR < 10%", ("far_pct", "<", 10.0, "%"), []),
        ("FAR <= 2.5% at Recall=99.5%", ("far_pct", "<=", 2.5, "%"), [("recall_pct", ">=", 99.5, "%")]),
        ("recall>=90%", ("recall_pct", ">=", 90.0, "%"), []),
        ("Recall > 0 % at FAR >= 0%", ("recall_pct", ">", 0.0, "%"), [("far_pct", ">=", 0.0, "%")]),
    ],
)
def test_parse_table_of_the_text_form(text, primary, held):
    parsed = MetricContract.parse(text)
    bounds = [
        (bound.name, bound.operator, bound.target, bound.unit) for bound in (parsed, *parsed.constraints)
    ]
    assert bounds == [primary, *held]
    assert parsed.evaluator == Builtin()


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
        ({"evaluator": "mine"}, r"evaluator\.builtin\.id: Input should be 'far_at_recall' \(got 'mine'\)"),
        ({"evaluator": {"type": "mine"}}, r"evaluator: .*'mine'.*'builtin', 'command', 'artifact'"),
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
    with pytest.raises(InputError, match=r"does not answer|says nothing on the constraint recall_pct"):
        CONTRACT.passed(other)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_result_that_is_no_number_is_refused(value):
    with pytest.raises(ValidationError):
        result(value)


def test_a_diagnostic_that_is_no_number_is_refused():
    with pytest.raises(ValidationError, match="finite"):
        result(diagnostics={"per_defect": [1.0, float("nan")]})


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


@pytest.mark.parametrize(("sign", "good", "bad"), [("<", 1, 9), ("<=", 1, 9), (">", 9, 1), (">=", 9, 1)])
@pytest.mark.parametrize("good_is_feasible", [True, False])
@pytest.mark.parametrize("bad_is_feasible", [True, False])
def test_choice_by_operator_and_feasibility(sign, good, bad, good_is_feasible, bad_is_feasible):
    contract = MetricContract.parse(f"FAR {sign} 5% at Recall=100%")
    recall = {True: 100.0, False: 99.0}
    one = Candidate(result(good, recall[good_is_feasible]), val_loss=2.0)
    other = Candidate(result(bad, recall[bad_is_feasible]), val_loss=1.0, kind="best_val")
    expected = other if bad_is_feasible and not good_is_feasible else one
    assert contract.choose([one, other]) is contract.choose([other, one]) is expected


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        ((0.5, "best_val"), (0.4, "latest"), 1),
        ((None, "best_val"), (0.4, "latest"), 1),
        ((0.4, "latest"), (0.4, "best_val"), 1),
        ((None, None), (None, "best_val"), 1),
        ((None, "latest"), (None, None), 0),
        ((-0.5, None), (0.0, None), 0),
    ],
)
def test_ties_go_to_val_loss_then_best_val_then_the_first(first, second, chosen):
    pair = [Candidate(result(), *first), Candidate(result(), *second)]
    assert CONTRACT.choose(pair) is pair[chosen]


@pytest.mark.parametrize("val_loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_refused(val_loss):
    with pytest.raises(InputError, match=r"val_loss .* not finite"):
        Candidate(result(), val_loss=val_loss)


CANDIDATES = st.builds(
    lambda value, recall, loss, kind: Candidate(result(value, recall), loss, kind),
    st.sampled_from([1.0, 2.0, 50.0]),
    st.sampled_from([99.0, 100.0]),
    st.sampled_from([None, 0.1, 0.2]),
    st.sampled_from(["best_val", "latest", None]),
)


@given(st.data(), st.lists(CANDIDATES, min_size=1, max_size=6), st.sampled_from(["<", "<=", ">", ">="]))
def test_choice_does_not_depend_on_the_order_apart_from_ties(data, candidates, sign):
    contract = MetricContract.parse(f"FAR {sign} 10% at Recall=100%")
    chosen = contract.choose(candidates)
    again = contract.choose(data.draw(st.permutations(candidates)))
    assert (again.result, again.val_loss) == (chosen.result, chosen.val_loss)
    assert (again.kind == "best_val") == (chosen.kind == "best_val")
    assert not any(contract.better(other.result, chosen.result) for other in candidates)
    if any(contract.passed(other.result) for other in candidates):
        assert contract.passed(chosen.result)
