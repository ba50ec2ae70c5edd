import errno

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.automl.failures import RULES, classify, halved, shared_cause, signature
from tasks.automl.trial import Failure, Row
from tasks.errors import InputError, StageFailed, UsageError


def caused(error, cause):
    try:
        raise error from cause
    except type(error) as raised:
        return raised


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "infrastructure"),
        (ConnectionResetError("peer"), "infrastructure"),
        (TimeoutError(), "infrastructure"),
        (StageFailed("visual_changenet train ended with exit status 137"), "infrastructure"),
        (StageFailed("train ended with exit code -9"), "infrastructure"),
        (StageFailed("the process was killed by signal 9"), "infrastructure"),
        (RuntimeError("Docker daemon is not running"), "infrastructure"),
        (RuntimeError("DataLoader worker exited unexpectedly"), "infrastructure"),
        (StageFailed("the request timed out"), "infrastructure"),
        (caused(StageFailed("train left no checkpoint"), OSError(errno.EIO, "I/O")), "infrastructure"),
        (InputError("train.optim.lr: must be above 0"), "invalid_spec"),
        (UsageError("argument 'x' is not key=value"), "invalid_spec"),
        (caused(InputError("file a.csv cannot be read"), PermissionError("a.csv")), "invalid_spec"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (caused(StageFailed("training failed"), torch.OutOfMemoryError("x")), "out_of_memory"),
        (StageFailed("container says: CUDA out of memory"), "out_of_memory"),
        (StageFailed("the loss of epoch 3 is nan; lower train.optim.lr (0.1)"), "diverged"),
        (StageFailed("visual_changenet train ended with exit status 1"), "diverged"),
        (ValueError("shapes do not fit"), "diverged"),
    ],
    ids=str,
)
def test_kind_of_failure(error, kind):
    assert classify(error).kind == kind


def test_an_error_without_words_is_named_by_its_type():
    assert classify(MemoryError()).message == "MemoryError"


def test_a_message_is_one_line_of_bounded_length():
    message = classify(ValueError("a\n  b " + "x" * 1000)).message
    assert message.startswith("a b x")
    assert len(message) == 500


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("the loss of epoch 3 is nan; lower lr (1e-4)", "the loss of epoch 12 is inf; lower lr (0.0003)"),
        ("no file /runs/a_1/rec_003/model.pth here", "no file /data/b/c.pth here"),
        ("no file results/rec_003/model.pth", "no file results/rec_004/model.pth"),
        ("object at 0x7f3a12", "object at 0x99bb"),
        ("digest 3fa1b2c4d5e6 differs", "digest 00ab11cd22ef33 differs"),
        ("run 3f2c8a10-aaaa-bbbb-cccc-0123456789ab ended", "run ffffffff-0000-4bcd-9abc-abcdefabcdef ended"),
        ("rec_003 ended", "rec_104 ended"),
    ],
)
def test_equal_causes_have_equal_signatures(one, other):
    assert signature(ValueError(one)) == signature(ValueError(other))


def test_other_words_or_types_are_other_causes():
    assert signature(ValueError("loss is nan")) != signature(ValueError("score is nan"))
    assert signature(ValueError("loss")) != signature(StageFailed("loss"))


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 10**9))
def test_numbers_never_tell_causes_apart(value, epoch):
    assert signature(ValueError(f"epoch {epoch}: {value}")) == "ValueError: epoch #: #"


def row(number, cause="", state="failed"):
    failure = Failure(kind="diverged", signature=cause, message=f"{cause} of {number}") if cause else None
    return Row(
        number=number,
        phase=1,
        source="sampler",
        seed=1,
        params={},
        specs={},
        spec_sha256="x",
        state=state,
        failure=failure,
    )


def test_three_equal_failures_in_a_row_are_one_cause():
    assert shared_cause([row(0, "a"), row(1, "b"), row(2, "b"), row(3, "b")]) == "b of 3"
    assert shared_cause([row(3, "b"), row(1, "b"), row(2, "b")]) == "b of 3"


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row(0, "b"), row(1, "b")],
        [row(0, "b"), row(1, "a"), row(2, "b")],
        [row(0, "b"), row(1, state="complete"), row(2, "b")],
        [row(0, "b"), row(1, "b"), row(2, "b"), row(3, state="complete")],
        [row(0, state="collapsed"), row(1, state="collapsed"), row(2, state="collapsed")],
    ],
)
def test_anything_between_is_no_shared_cause(rows):
    assert shared_cause(rows) == ""


def test_a_trial_that_still_runs_does_not_hide_a_shared_cause():
    assert shared_cause([row(0, "b"), row(1, state="running"), row(2, "b"), row(3, "b")]) == "b of 3"


def test_half_a_batch():
    spec = {"dataset": {"classify": {"batch_size": 9, "workers": 1}}}
    assert halved(spec, "dataset.classify.batch_size") == {
        "dataset": {"classify": {"batch_size": 4, "workers": 1}}
    }
    assert spec["dataset"]["classify"]["batch_size"] == 9


@pytest.mark.parametrize("spec", [{"b": 3}, {"b": 1}, {}, {"b": "auto"}])
def test_a_batch_that_cannot_be_halved(spec):
    assert halved(spec, "b") is None


def test_rules():
    assert {kind: (len(rule.waits), rule.counted) for kind, rule in RULES.items()} == {
        "infrastructure": (2, False),
        "out_of_memory": (1, True),
        "invalid_spec": (0, False),
        "diverged": (0, True),
    }
    assert [kind for kind, rule in RULES.items() if rule.halves_batch] == ["out_of_memory"]
