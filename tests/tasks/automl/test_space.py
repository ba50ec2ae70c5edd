import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.automl.space import Parameter, Space, parameter, read_space, resolved
from tasks.errors import InputError
from tasks.keys import flat, merged, nested, value_at

BASE = {
    "train": {"num_epochs": 10, "optim": {"lr": 5e-6, "optim": "adamw", "weight_decay": 1.0}},
    "model": {"difference_modules": 4, "weights": [1.0, 10.0]},
}
KNOWN = set(flat(BASE))


def check(spec):
    """A schema with three rules."""
    for key in flat(spec):
        if key not in KNOWN:
            raise InputError(f"{key}: unknown key")
    if not 0 <= spec["train"]["optim"]["lr"] <= 1:
        raise InputError("train.optim.lr must lie between 0 and 1")
    if not 1 <= spec["model"]["difference_modules"] <= 4:
        raise InputError("model.difference_modules must lie between 1 and 4")


def space_of(*parameters, phase=1, base=BASE, only=()):
    return resolved(parameters, base, phase, check, only)


LR = parameter("lr", {"keys": ["train.optim.lr"], "type": "float", "low": 1e-6, "high": 1e-4, "log": True})
MODULES = parameter("model.difference_modules", {"type": "int", "low": 2, "high": 4})


# Reading


def test_a_space_file(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text(
        "lr: {keys: [train.optim.lr], type: float, around: [0.1, 10], log: true}\n"
        "train.optim.weight_decay: {type: float, low: 1e-3, high: 0.8, log: true}\n"
        "train.optim.optim: {type: choice, choices: [adamw, sgd]}\n"
        "model.difference_modules: {pin: 4}\n"
    )
    space = space_of(*read_space(file))
    lr, decay, optim = space.searched
    assert (lr.low, lr.high) == (5e-7, 5e-5)
    assert decay.low == 1e-3
    assert optim.choices == ("adamw", "sgd")
    assert space.pinned == {"model.difference_modules": 4}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lr: [1, 2", "not YAML"),
        ("- lr\n", "must hold keys and values"),
        ("lr: 3\n", "lr must be a mapping"),
        ("lr: {type: float, min: 0, max: 1}\n", "lr.*min"),
        ("lr: {type: float, low: 0}\n", "give low and high, or around"),
        ("lr: {type: float, low: 0, high: 1, around: [1, 2]}\n", "give low and high, or around"),
        ("lr: {type: float, low: 1, high: 1}\n", "must be below high"),
        ("lr: {type: float, low: 0, high: 1, log: true}\n", "starts above 0"),
        ("lr: {type: choice, choices: [a, a]}\n", "two different choices"),
        ("lr: {type: double, low: 0, high: 1}\n", "type"),
    ],
)
def test_a_definition_that_is_not_whole(tmp_path, text, says):
    file = tmp_path / "space.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=says) as error:
        read_space(file)
    assert str(file) in str(error.value)


def test_no_space_file(tmp_path):
    with pytest.raises(InputError, match=r"search space.*absent\.yaml"):
        read_space(tmp_path / "absent.yaml")


# Working out


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"name": "train.optim.learning_rate", "low": 0.1, "high": 1},
            r"learning_rate = 0\.1: .*unknown key",
        ),
        ({"name": "train.optim.lr", "low": 0.1, "high": 2}, r"lr = 2\.0: .*between 0 and 1"),
        ({"name": "train.optim.lr", "low": -1, "high": 1}, r"lr = -1\.0: .*between 0 and 1"),
    ],
)
def test_unknown_keys_and_bounds_outside_the_schema(given, says):
    with pytest.raises(InputError, match=says):
        space_of(Parameter(type="float", **given))


def test_a_pin_and_a_choice_outside_the_schema():
    with pytest.raises(InputError, match="difference_modules = 5"):
        space_of(LR, parameter("model.difference_modules", {"pin": 5}))
    with pytest.raises(InputError, match="difference_modules = 8"):
        space_of(parameter("model.difference_modules", {"type": "choice", "choices": [2, 8]}))


def test_what_has_no_effect_is_left_out_with_its_reason():
    momentum = Parameter(
        name="train.optim.weight_decay",
        type="float",
        low=0,
        high=1,
        inert_if={"train.optim.optim": ["adamw"]},
    )
    late = Parameter(name="model.weights[1]", type="float", low=1, high=9, phases=(3,), reason="overwritten")
    space = space_of(LR, momentum, late)
    assert [one.name for one in space.searched] == ["lr"]
    assert space.inert == (
        ("train.optim.weight_decay", "no effect while train.optim.optim is adamw"),
        ("model.weights[1]", "overwritten"),
    )
    sgd = merged(BASE, {"train": {"optim": {"optim": "sgd"}}})
    assert len(space_of(LR, momentum, late, phase=3, base=sgd).searched) == 3
    with pytest.raises(InputError, match="nothing is left"):
        space_of(late)


def test_a_later_parameter_replaces_an_earlier_one_of_its_name():
    wider = LR.model_copy(update={"high": 1e-2})
    assert space_of(LR, wider).searched == (wider,)


def test_two_parameters_of_one_key():
    other = Parameter(name="rate", keys=("train.optim.lr",), type="float", low=0, high=1)
    with pytest.raises(InputError, match=r"lr and rate both set train\.optim\.lr"):
        space_of(LR, other)


def test_around_a_value_that_is_not_there():
    bare = merged(BASE, {"train": {"optim": {"lr": 0.0}}})
    around = Parameter(name="train.optim.lr", type="float", around=(0.1, 10))
    with pytest.raises(InputError, match=r"train\.optim\.lr.*is 0\.0"):
        space_of(around, base=bare)


def test_only_names_what_is_searched():
    assert [one.name for one in space_of(LR, MODULES, only=("lr",)).searched] == ["lr"]
    with pytest.raises(InputError, match="lrr"):
        space_of(LR, MODULES, only=("lrr",))


# Specs of trials


def test_pins_are_exact():
    pins = {"model.difference_modules": 4, "train.optim.lr": 5e-6, "train.optim.weight_decay": 1.0}
    searched = Parameter(name="model.weights[1]", type="float", low=1, high=100)
    space = space_of(searched, *(parameter(name, {"pin": value}) for name, value in pins.items()))
    spec = merged(BASE, space.specs_of({"model.weights[1]": 2.0}))
    found = [value_at(spec, key) for key in pins]
    assert found == [4, 5e-6, 1.0]
    assert [type(value) for value in found] == [int, float, float]
    assert spec["model"]["weights"] == [1.0, 2.0]


def test_trial_0_is_the_base_spec():
    space = space_of(LR, MODULES)
    assert space.base == {"lr": 5e-6, "model.difference_modules": 4}
    assert merged(BASE, {}) == BASE
    assert merged(BASE, space.specs_of(space.base)) == BASE


def test_one_value_may_set_several_keys():
    both = Parameter(
        name="both", keys=("train.optim.lr", "train.optim.weight_decay"), type="float", low=0, high=1
    )
    assert space_of(both).specs_of({"both": 0.5}) == {"train": {"optim": {"lr": 0.5, "weight_decay": 0.5}}}


def test_values_outside_the_box_are_not_held():
    space = space_of(LR, Parameter(name="train.optim.optim", type="choice", choices=("adamw", "sgd")))
    assert space.holds({"lr": 1e-6, "train.optim.optim": "sgd"})
    assert not space.holds({"lr": 1e-3, "train.optim.optim": "sgd"})
    assert not space.holds({"lr": None, "train.optim.optim": "sgd"})
    assert not space.holds({"lr": 1e-6, "train.optim.optim": "lion"})
    assert not space.holds({"lr": 1e-6})


@given(st.floats(0, 1), st.booleans())
def test_the_unit_scale_goes_there_and_back(share, log):
    low, high = 1e-6, 1e-1
    value = low * (high / low) ** share if log else low + share * (high - low)
    one = Parameter(name="x", type="float", low=low, high=high, log=log)
    assert math.isclose(Space((one,), {}, (), {}).unit({"x": value})["x"], share, abs_tol=1e-9)


# Nested and flat

names = st.text("abc", min_size=1, max_size=2)
values = st.one_of(
    st.integers(), st.floats(allow_nan=False), st.booleans(), st.none(), st.lists(st.integers())
)
trees = st.recursive(
    st.dictionaries(names, values, min_size=1, max_size=3),
    lambda inner: st.dictionaries(names, st.one_of(values, inner), min_size=1, max_size=3),
    max_leaves=8,
)


@given(trees)
def test_nested_undoes_flat(tree):
    assert nested(flat(tree)) == tree


@given(trees, st.data())
def test_merged_touches_only_its_keys(tree, data):
    before = copy.deepcopy(tree)
    keys = data.draw(st.lists(st.sampled_from(sorted(flat(tree))), unique=True))
    spec = merged(tree, nested(dict.fromkeys(keys, "new")))
    assert tree == before
    assert flat(spec) == flat(tree) | dict.fromkeys(keys, "new")


@pytest.mark.parametrize("keys", [["a", "a.b"], ["a.b", "a"]])
def test_a_key_inside_another(keys):
    with pytest.raises(InputError, match="a"):
        nested(dict.fromkeys(keys, 1))


def test_a_list_element_that_is_not_there():
    with pytest.raises(InputError, match=r"weights\[5\]"):
        merged(BASE, {"model": {"weights[5]": 1.0}})
    assert value_at(BASE, "model.weights[5]") is None
    assert value_at(BASE, "model.weights[1]") == 10.0
