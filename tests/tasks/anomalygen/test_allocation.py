import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.anomalygen.allocation import chosen_defects, counted, matched, proportional, turns, uniform
from tasks.errors import InputError

DEFECTS = st.lists(st.text("abc", min_size=1), min_size=1, max_size=8, unique=True)
SHARES = st.dictionaries(st.text("abcdef", min_size=1), st.floats(0, 1e6), min_size=1, max_size=8)


def paintable(label: str) -> bool:
    return label != "tombstone"


@given(st.integers(0, 300), DEFECTS)
def test_uniform_gives_the_remainder_to_the_first(total, defects):
    counts = uniform(total, defects)
    assert sum(counts.values()) == total
    assert list(counts) == defects
    rest = total % len(defects)
    assert list(counts.values()) == [total // len(defects) + (k < rest) for k in range(len(defects))]


@given(st.integers(0, 300), SHARES.filter(lambda shares: any(shares.values())))
def test_proportional_is_within_one_of_the_exact_share(total, shares):
    counts = proportional(total, shares)
    assert sum(counts.values()) == total
    whole = sum(shares.values())
    for defect, count in counts.items():
        assert abs(count - total * (shares[defect] / whole)) < 1 + 1e-6
        assert not (count and not shares[defect])


def test_the_largest_remainder_gets_the_rest_and_of_equal_ones_the_first():
    assert proportional(10, {"a": 0.12, "b": 0.67, "c": 0.21}) == {"a": 1, "b": 7, "c": 2}
    assert proportional(3, {"a": 1, "b": 1}) == {"a": 2, "b": 1}


def test_shares_that_are_all_zero_are_refused():
    with pytest.raises(InputError, match="all 0"):
        proportional(5, {"a": 0, "b": 0.0})


@given(st.dictionaries(st.text("abc", min_size=1), st.integers(0, 9), max_size=5))
def test_turns_hold_every_sample_in_rounds(request_):
    order = turns(request_)
    assert {label: order.count(label) for label in request_} == request_
    assert order[: sum(count > 0 for count in request_.values())] == [k for k, n in request_.items() if n]


def test_defects_are_those_of_the_weak_samples_as_spelled_there_in_order():
    weak = ["Missing ", "PASS", "tombstone", "excess solder", "missing", "Bridge"]
    assert chosen_defects([], weak, ["open"], paintable) == ["missing", "excess solder", "bridge"]
    assert chosen_defects(["EXCESS_SOLDER", "open"], weak, [], paintable) == ["excess solder", "open"]


def test_pass_samples_alone_take_the_defects_of_the_data_set():
    assert chosen_defects([], ["PASS"], ["PASS", "Open", "tombstone"], paintable) == ["open"]


@pytest.mark.parametrize(("weak", "others"), [(["PASS"], ["PASS", "tombstone"]), (["tombstone"], ["open"])])
def test_no_defect_to_generate_says_what_to_do(weak, others):
    with pytest.raises(InputError, match="list some in defects"):
        chosen_defects([], weak, others, paintable)


@pytest.mark.parametrize("wanted", [["tombstone"], ["missing", "Tombstone"], ["pass"]])
def test_a_wanted_defect_that_cannot_be_painted_is_named(wanted):
    with pytest.raises(InputError, match=r"cannot paint (tombstone|PASS)"):
        chosen_defects(wanted, ["missing"], [], paintable)


def test_counts_and_explicit_values_go_by_the_compared_spelling():
    assert counted(["excess solder", "open"], ["EXCESS_SOLDER", "excess-solder", "x"]) == {
        "excess solder": 2,
        "open": 0,
    }
    assert matched({"Excess_Solder": 3}, ["excess solder", "open"], "weights") == {
        "excess solder": 3,
        "open": 0,
    }
    with pytest.raises(InputError, match="weights: shift is not among"):
        matched({"shift": 1}, ["open"], "weights")
    with pytest.raises(InputError, match="twice"):
        matched({"Open": 1, "open": 2}, ["open"], "weights")
