"""The playbook: the change for each failure, and when a person is asked."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError
from tasks.huggingface.recovery import (
    attempts_in,
    change_config,
    remedy_for,
    remember,
    signature,
    struck_out,
)

CONFIG = {
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "learning_rate": 2e-4,
}


@given(st.integers(2, 512), st.integers(1, 64))
def test_out_of_memory_keeps_the_effective_batch(batch, accumulated):
    given_config = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated}
    changes = remedy_for("oom", "", given_config).changes
    smaller = changes["per_device_train_batch_size"]
    assert smaller <= batch // 2
    assert smaller * changes["gradient_accumulation_steps"] == batch * accumulated
    assert changes["gradient_checkpointing"] is True


def test_out_of_memory_down_to_a_person():
    config, seen = dict(CONFIG), []
    while not (remedy := remedy_for("oom", "", config)).needs_a_person:
        config |= remedy.changes
        seen.append((config["per_device_train_batch_size"], config["gradient_accumulation_steps"]))
    assert seen == [(4, 4), (2, 8), (1, 16)]
    assert "larger GPU" in remedy.why
    single = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    assert remedy_for("oom", "", single).changes == {"gradient_checkpointing": True}


def test_out_of_memory_in_the_evaluation():
    assert remedy_for("oom", "", CONFIG, command="evaluate").changes == {"per_device_eval_batch_size": 2}
    assert remedy_for("oom", "", {"per_device_eval_batch_size": 1}, command="baseline").needs_a_person


@pytest.mark.parametrize("command", ["prepare", "tests", "merge", "infer", "report"])
def test_out_of_memory_elsewhere_is_nothing_that_a_smaller_batch_mends(command):
    assert remedy_for("oom", "", CONFIG, command=command).needs_a_person


def test_no_number_and_flat():
    changes = remedy_for("nan", "loss nan", CONFIG).changes
    assert math.isclose(changes["learning_rate"], 2e-5)
    assert changes["max_grad_norm"] == 1.0
    flat = remedy_for("flat", "the loss does not fall", CONFIG)
    assert flat.needs_a_person
    assert "-100" in flat.why


@pytest.mark.parametrize(
    ("message", "words", "changes"),
    [
        ("RuntimeError: worker (pid 3) killed by signal: Bus error", "shared memory", {"shm_size": "32g"}),
        (
            "TypeError: sdpa() got an unexpected keyword argument 'enable_gqa'",
            "eager",
            {"attn_implementation": "eager"},
        ),
        ("ImportError: numpy.core.multiarray failed to import", "numpy<2", {}),
        ("ValueError: CVE-2025-32434 upgrade torch", "safetensors", {}),
        ("ImportError: cannot import name 'X' from 'trl'", "documentation", {}),
        ("ValueError: strange", "not in the playbook", {}),
    ],
)
def test_playbook(message, words, changes):
    remedy = remedy_for("error", message, CONFIG)
    assert words in remedy.why
    assert remedy.changes == changes


def test_a_change_that_is_there_already_is_no_remedy():
    assert remedy_for("error", "Bus error", CONFIG | {"shm_size": "32g"}).needs_a_person


def test_equal_failures_have_one_signature():
    one = signature("train", "RuntimeError: 12.5 GiB at 0x7fab in /a/b/c.py")
    assert one == signature("train", "RuntimeError: 3 GiB at 0x11 in /other/c.py")
    assert one != signature("smoke", "RuntimeError: 12.5 GiB at 0x7fab in /a/b/c.py")


def test_three_strikes(tmp_path):
    remedy = remedy_for("oom", "CUDA out of memory", CONFIG)
    for message in ("CUDA out of memory 1", "other", "CUDA out of memory 1", "CUDA out of memory 2"):
        assert not struck_out(attempts_in(tmp_path), "train", message)
        remember(tmp_path, "train", "oom", message, remedy)
    assert struck_out(attempts_in(tmp_path), "train", "CUDA out of memory 3")
    assert not struck_out(attempts_in(tmp_path), "smoke", "CUDA out of memory 3")


def test_config_keeps_its_comments(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("# mine\nlearning_rate: 2.0e-4  # from the card\nnotes:\n- one\nbf16: true\n")
    change_config(file, {"learning_rate": 2e-5, "max_grad_norm": 1.0})
    assert file.read_text() == (
        "# mine\nlearning_rate: 2.0e-05  # from the card\nnotes:\n- one\nbf16: true\nmax_grad_norm: 1.0\n"
    )
    with pytest.raises(InputError, match="by hand"):
        change_config(file, {"notes": ["two"]})
    assert yaml.safe_load(file.read_text())["notes"] == ["one"]
