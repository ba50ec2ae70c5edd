import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from blocks.containers.overrides import quoted, words_of


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (-1.0, "-1.0"),
        (1e-05, "1e-05"),
        (float("inf"), "inf"),
        ("", "''"),
        ("cosine", "cosine"),
        ("/data/run_1/pairs.parquet", "/data/run_1/pairs.parquet"),
        ("true", "'true'"),
        ("Null", "'Null'"),
        ("5", "'5'"),
        ("1e-3", "'1e-3'"),
        ("${results_dir}/x", "'${results_dir}/x'"),
        ("a=b,c", "'a=b,c'"),
        ("it's", '"it\'s"'),
        ('it\'s "so"', "'it\\'s \"so\"'"),
        ("a\\", "'a\\\\'"),
        ("a\\b", "'a\\b'"),
        ([1, "a", [True, None]], "[1,a,[true,null]]"),
        ({"Low-Light": 0, "5": "x y"}, "{Low-Light:0,'5':'x y'}"),
        ([], "[]"),
        ({}, "{}"),
    ],
)
def test_quoted(value, word):
    assert quoted(value) == word


PLAIN = st.none() | st.booleans() | st.integers(-9999, 9999) | st.floats(-1e9, 1e9, width=32)
TEXTS = st.text("abc019_./:-+$,;#!?@%&*()[]{}=~", max_size=12) | st.sampled_from(
    ["true", "null", "1e-3", "0x1f"]
)
VALUES = st.recursive(PLAIN | TEXTS, lambda inner: st.lists(inner, max_size=3), max_leaves=5)


@given(VALUES.filter(lambda value: "${" not in str(value)))
def test_what_is_written_is_what_is_read(value):
    [word] = words_of({"key": value}, {"key": None})
    read = OmegaConf.to_container(OmegaConf.from_dotlist([word]))["key"]
    assert read == value
    assert type(read) is type(value)


def test_nested_keys_are_dotted_as_far_as_the_launcher_knows_them():
    known = {"dataset": {"classify": {"input_map": None, "batch_size": 4}}, "model": None}
    values = {"dataset": {"classify": {"input_map": {"Low": 0, "High": 1}, "batch_size": 8}}, "model": {}}
    assert list(words_of(values, known)) == [
        "dataset.classify.input_map={Low:0,High:1}",
        "dataset.classify.batch_size=8",
        "model={}",
    ]


def test_a_blank_is_refused():
    with pytest.raises(ValueError, match=r"a\.path holds a blank"):
        list(words_of({"a": {"path": "/my data"}}, {"a": {"path": None}}))
