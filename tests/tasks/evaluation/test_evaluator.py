from pathlib import Path

import pytest

from tasks.errors import InputError
from tasks.evaluation.contract import MetricContract
from tasks.evaluation.evaluator import AwaitedArtifact, Builtin

FIELDS = MetricContract.parse("FAR < 10% at Recall=100%").to_dict()
COMMAND = {"type": "command", "executable": "/opt/not here/eval.py", "args": ["--mode", "two words"]}
ARTIFACT = {"type": "artifact", "producer": "line 7", "path": "/results/{iter_label}/{checkpoint_kind}.json"}


def contract(evaluator):
    return MetricContract.of({**FIELDS, "evaluator": evaluator})


@pytest.mark.parametrize(
    "evaluator", ["far_at_recall", {"type": "builtin", "id": "far_at_recall"}, COMMAND, ARTIFACT]
)
def test_round_trip(evaluator):
    made = contract(evaluator)
    assert MetricContract.of(made.model_dump(mode="json")) == made


def test_plain_text_is_a_builtin_one():
    assert contract("far_at_recall").evaluator == Builtin() == MetricContract.parse("FAR < 1%").evaluator


def test_an_hour_is_waited_by_default():
    assert contract(COMMAND).evaluator.timeout_s == contract(ARTIFACT).evaluator.timeout_s == 3600


@pytest.mark.parametrize(
    ("evaluator", "message"),
    [
        ({**COMMAND, "executable": "eval.py"}, r"evaluator\.command\.executable: must be an absolute path"),
        ({**COMMAND, "timeout_s": 0}, r"evaluator\.command\.timeout_s"),
        ({**COMMAND, "timeout_s": float("inf")}, r"evaluator\.command\.timeout_s"),
        ({**COMMAND, "args": "--mode"}, r"evaluator\.command\.args"),
        ({**COMMAND, "shell": True}, r"unknown key evaluator\.command\.shell"),
        ({"type": "command"}, r"executable: required and not set"),
        ({**ARTIFACT, "path": "out/{iter_label}.json"}, r"path: must be an absolute path"),
        ({**ARTIFACT, "path": "/out/result.json"}, r"path: must hold \{iter_label\}"),
        ({**ARTIFACT, "path": "/out/{{iter_label}}.json"}, r"path: must hold \{iter_label\}"),
        ({**ARTIFACT, "path": "/{iter_label.__class__}"}, r"path: must hold \{iter_label\}"),
        ({**ARTIFACT, "path": "/{iter_label}/{run}"}, r"path: may hold .* only"),
        ({**ARTIFACT, "path": "/{iter_label}/{"}, r"path: .*(brace|'\{')"),
        ({**ARTIFACT, "producer": ""}, r"producer"),
    ],
)
def test_fields_that_are_no_evaluator(evaluator, message):
    with pytest.raises(InputError, match=message):
        contract(evaluator)


def test_path_of_an_artifact():
    artifact = AwaitedArtifact(**{**ARTIFACT, "path": "/r {{x}}/{iter_label}/{checkpoint_kind}.json"})
    assert artifact.path_for("iter2", "latest") == Path("/r {x}/iter2/latest.json")
