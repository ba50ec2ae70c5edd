"""What logs say of a training: canned ones of good, flat, exploding and memory-hungry trainings."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.huggingface.smoke import (
    descends,
    failure_of,
    history_of_log,
    last_error,
    read_history,
    share_done,
    smoke_verdict,
    watch_training,
)


def steps(losses, every=10, **more):
    return [
        {"step": max(1, n * every), "loss": loss, "grad_norm": 1.0, **more} for n, loss in enumerate(losses)
    ]


GOOD = steps([2.3, 2.0, 1.7, 1.5, 1.3, 1.1])
FLAT = steps([2.30, 2.31, 2.29, 2.31, 2.30, 2.30])
OOM = """Traceback (most recent call last):
  File "train.py", line 30, in main
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79 GiB
"""


def test_a_sound_first_step():
    verdict = smoke_verdict(0, [{"step": 1, "loss": 2.1, "grad_norm": 3.0}, {"train_loss": 2.1}])
    assert verdict.passed
    assert verdict.line() == "PASSED (loss=2.1, grad_norm=3)"


@pytest.mark.parametrize(
    ("status", "entry", "reason"),
    [
        (1, {"loss": 2.1, "grad_norm": 3.0}, "status 1"),
        (0, {"loss": float("nan"), "grad_norm": 3.0}, "not a number"),
        (0, {"loss": None, "grad_norm": 3.0}, "not a number"),
        (0, {"loss": 0.0, "grad_norm": 3.0}, "labels masked"),
        (0, {"loss": 2.1, "grad_norm": 0.0}, "no parameter learns"),
        (0, {"loss": 2.1}, "gradient norm is None"),
        (0, {"train_loss": 2.1, "loss": 2.1}, "no step was logged"),
    ],
)
def test_an_unsound_first_step(status, entry, reason):
    verdict = smoke_verdict(status, [{"step": 1, **entry}])
    assert not verdict.passed
    assert reason in verdict.line()


def test_grpo_may_begin_at_zero_when_its_rewards_differ():
    step = {"loss": 0.0, "grad_norm": 0.2, "reward_std": 0.4}
    assert smoke_verdict(0, [step], method="grpo").passed
    assert "do not differ" in smoke_verdict(0, [step | {"reward_std": 0.0}], method="grpo").line()


def test_slope():
    assert descends(GOOD) is True
    assert descends(FLAT) is False
    assert descends(steps([2.0, 1.0])) is None
    assert descends(steps([1.0, 1.2, 1.5, 1.9, 2.5])) is False
    assert descends(steps([2.3, 2.0, 9.0, 1.5, 1.3, 1.1])) is True, "one spike turns nothing"


def test_the_warm_up_is_left_out():
    warming = [{"step": n, "loss": 2.3, "learning_rate": n * 1e-5} for n in range(1, 8)]
    falling = [{"step": 7 + n, "loss": 2.3 - n / 5, "learning_rate": 7e-5 - n * 1e-6} for n in range(1, 8)]
    assert descends(warming + falling) is True


@given(st.lists(st.floats(0.1, 5), min_size=4, max_size=30))
def test_a_loss_and_its_mirror_do_not_both_fall(losses):
    assert not (descends(steps(losses)) and descends(steps(losses[::-1])))


LONG_FLAT = FLAT * 4


def test_flat_only_after_enough_of_the_training():
    assert watch_training(LONG_FLAT)[0] == "flat"
    assert watch_training(FLAT) is None
    assert watch_training(LONG_FLAT, share=0.4) is None
    assert watch_training(GOOD * 4, share=0.4) is None
    assert watch_training(LONG_FLAT, method="grpo") is None


def test_share_of_a_training():
    assert share_done([], {"num_train_epochs": 3}) == 0
    assert share_done([{"loss": 1.0, "epoch": 1.5}], {"num_train_epochs": 3}) == 0.5
    assert (
        share_done([{"loss": 1.0, "epoch": 1.5, "step": 10}], {"num_train_epochs": 3, "max_steps": 40})
        == 0.25
    )


def simulated(fall, total, every, noise, seed):
    """A loss that falls from 2 by `fall` in `total` steps, with the noise of batches, after a warm-up."""
    draw, warm = np.random.default_rng(seed), total // 10
    for step in [1, *range(every, total + 1, every)]:
        rate = step / warm if step < warm else (total - step) / (total - warm)
        loss = 2 - fall * (1 - math.exp(-3 * step / total)) / (1 - math.exp(-3)) + draw.normal(0, noise)
        yield {"step": step, "loss": loss, "grad_norm": 1.0, "learning_rate": rate, "epoch": 3 * step / total}


def ended(shape, seed):
    """Whether the training is ended, looked at after every eighth line of its log."""
    history = list(simulated(*shape, seed))
    looks = [history[:upto] for upto in range(8, len(history), 8)]
    return any(watch_training(one, share=share_done(one, {"num_train_epochs": 3})) for one in looks)


@pytest.mark.parametrize(
    "shape",
    [
        (0.6, 300, 10, 0.1),
        (0.6, 1000, 10, 0.1),
        (1.0, 1000, 10, 0.15),
        (0.2, 2000, 10, 0.05),
        (0.3, 1000, 5, 0.1),
    ],
)
def test_a_sound_training_is_not_ended(shape):
    assert not any(ended(shape, seed) for seed in range(10))


def test_a_flat_training_is_ended():
    assert sum(ended((0, 1000, 10, 0.1), seed) for seed in range(10)) >= 8


def test_kinds_of_failure():
    assert failure_of(1, OOM, GOOD)[0] == "oom"
    assert failure_of(0, "", steps([2.3, float("nan")]))[0] == "nan"
    assert failure_of(0, "", [{"step": 1, "loss": 2.0, "grad_norm": float("nan")}])[0] == "nan"
    assert failure_of(0, "", LONG_FLAT)[0] == "flat"
    assert failure_of(2, "bla\nValueError: no such column\n", [])[1] == "ValueError: no such column"
    assert failure_of(-9, "", [])[0] == "error"
    assert failure_of(0, "", GOOD) is None


def test_last_error_of_several_ranks():
    log = "[rank1]: RuntimeError: first\n[rank0]: torch.cuda.SomeError: second\nother line\n"
    assert last_error(log) == "torch.cuda.SomeError: second"
    assert last_error("all well") is None
    failed = "FAILED tests/test_collator.py::test_a_batch - KeyError: 'labels'"
    assert last_error(f"E       KeyError: 'labels'\n{failed}\n1 failed, 8 passed in 3.0s\n") == failed


def test_printed_lines_of_version_4_and_5():
    log = (
        "{'loss': 2.3, 'grad_norm': 1.0, 'epoch': 0.1}\nsome text\n"
        "{'loss': '2.1', 'grad_norm': 'nan', 'learning_rate': '5e-05', 'epoch': '0.2'}\n"
        "{'loss': nan, 'epoch': 0.3}\n{'loss': 1.0, broken\n"
        "{'train_loss': '2.0', 'epoch': '1'}\n"
    )
    entries = history_of_log(log, logging_steps=10)
    assert [entry.get("step") for entry in entries] == [1, 10, 20, None]
    assert entries[1]["learning_rate"] == 5e-5
    assert watch_training(entries)[0] == "nan"


def test_state_file_of_the_folder_or_of_its_latest_checkpoint(tmp_path):
    assert read_history(tmp_path) == []
    folder = tmp_path / "checkpoint-5"
    folder.mkdir()
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": GOOD}))
    assert read_history(tmp_path) == GOOD
    (tmp_path / "trainer_state.json").write_text('{"log_hist')
    assert read_history(tmp_path) == GOOD
