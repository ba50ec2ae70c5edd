import json
import logging
import os
import threading
import time
from pathlib import Path

import pytest

from tasks.action import Action, main
from tasks.artifacts import read_json, write_yaml
from tasks.errors import InputError, StageFailed
from tasks.evaluation.action import FAR_AT_RECALL
from tasks.evaluation.contract import MetricContract
from tasks.evaluation.measure import MEASURE
from tasks.spec import load_spec

CSV = """input_path,golden_path,label,object_name,siamese_score
b,g,PASS,0,0.1
b,g,missing,1,0.9
b,g,PASS,2,0.95
"""
FIELDS = MetricContract.parse("FAR < 10% at Recall=100%").to_dict()
ANSWER = {
    "name": "far_pct",
    "value": 4.5,
    "unit": "%",
    "threshold": 0.5,
    "constraints": {"recall_pct": 100.0},
}
HEAD = """#!/bin/sh
# The last two words are --output-json and the file.
for word; do output=$word; done
"""


@pytest.fixture
def space(tmp_path):
    (tmp_path / "inference.csv").write_text(CSV)
    return tmp_path


@pytest.fixture
def spec_of(space):
    def make(evaluator, **keys):
        return load_spec(
            MEASURE.spec,
            {
                "inference_csv": space / "inference.csv",
                "results_dir": space / "out",
                "metric_contract": {**FIELDS, "evaluator": evaluator},
                "iter_label": "iter1",
                "checkpoint_kind": "best_val",
                **keys,
            },
        )

    return make


@pytest.fixture
def measure(spec_of, space):
    def run(evaluator, **keys):
        spec = spec_of(evaluator, **keys)
        MEASURE.run(spec)
        assert all(path.is_file() for path in MEASURE.outputs(spec).values())
        assert not list((space / "out").glob(".*"))
        return read_json(space / "out" / "metric_result.json")

    return run


@pytest.fixture
def command(space):
    """Writes a shell script that is an evaluator, in a folder whose name holds spaces."""

    def make(body, args=(), **keys):
        script = space / "my tools" / "evaluate it.sh"
        script.parent.mkdir(exist_ok=True)
        script.write_text(HEAD + body)
        script.chmod(0o755)
        return {"type": "command", "executable": str(script), "args": list(args), **keys}

    return make


def answering(answer):
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return f"cat > \"$output\" <<'END'\n{text}\nEND\n"


def artifact(space, **keys):
    return {"type": "artifact", "producer": "line 7", "path": str(space / "{iter_label}.json"), **keys}


def test_builtin_is_far_at_recall(measure, space):
    found = measure("far_at_recall")
    spec = {"inference_csv": space / "inference.csv", "results_dir": space / "plain"}
    FAR_AT_RECALL.run(load_spec(FAR_AT_RECALL.spec, spec))
    assert found == read_json(space / "plain" / "metric_result.json")
    assert (space / "out" / "summary.txt").is_file()


def test_far_at_recall_refuses_a_contract_with_another_evaluator(command, spec_of):
    with pytest.raises(InputError, match=r"evaluator is of type command.*use evaluation measure"):
        FAR_AT_RECALL.run(spec_of(command("")))


def test_command_gives_the_result(measure, command):
    found = measure(command(answering(ANSWER)))
    diagnostics = found.pop("diagnostics")
    assert found == ANSWER
    assert diagnostics == {"far_pct_at_recall_99_5": 50.0, "auc": 0.5}


def test_diagnostics_of_the_evaluator_stand(measure, command):
    given = {"auc": 0.75, "boards": ["a", "b"]}
    found = measure(command(answering({**ANSWER, "diagnostics": given})))
    assert found["diagnostics"] == {"far_pct_at_recall_99_5": 50.0, **given}


def test_command_without_figures_of_its_csv(measure, command, space, caplog):
    (space / "inference.csv").write_text("label\nPASS\n")
    with caplog.at_level(logging.INFO, logger="deft"):
        assert measure(command(answering(ANSWER)))["diagnostics"] == {}
    assert "no far_pct_at_recall_99_5 and auc beside the metric" in caplog.text


def test_arguments_reach_the_command_as_they_are(measure, command, space):
    words = ["two words", "", "*", "$HOME; touch x", "--output-json"]
    measure(command(answering(ANSWER) + 'printf "%s\\n" "$@"\n', words))
    said = (space / "out" / "evaluator.log").read_text().splitlines()
    assert said[:-1] == [*words, "--inference-csv", str(space / "inference.csv"), "--output-json"]
    assert Path(said[-1]).is_absolute()


def test_metric_of_another_name_and_direction(measure, command):
    contract = {"name": "f2", "display_name": "F2", "operator": ">=", "target": 0.9, "unit": ""}
    evaluator = command(answering({"name": "f2", "value": 1, "unit": ""}))
    found = measure(None, metric_contract={**contract, "evaluator": evaluator})
    assert (found["value"], found["threshold"], found["constraints"]) == (1.0, None, {})


def test_passed_is_not_believed(measure, command, caplog):
    with caplog.at_level(logging.INFO, logger="deft"):
        found = measure(command(answering({**ANSWER, "value": 99.0, "passed": True, "note": "x"})))
    assert "passed" not in found
    assert "not read: note, passed; whether it passes is computed anew" in caplog.text


def test_an_output_of_before_is_not_the_answer(measure, command, space):
    measure(command(answering(ANSWER)))
    (space / "out" / "output.json").write_text(json.dumps(ANSWER))
    with pytest.raises(
        StageFailed, match=r"evaluate it\.sh wrote no output JSON; its log .*evaluator\.log ends: done"
    ):
        measure(command("echo done\n"))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("soon", "output JSON of evaluator .*evaluate it.sh cannot be read: Expecting value: line 1"),
        ("[1]", "holds a list, not an object"),
        ({**ANSWER, "value": float("nan")}, "value: Input should be a finite number"),
        ('{"name": "far_pct", "value": 1e999, "unit": "%"}', "value: Input should be a finite number"),
        ({**ANSWER, "value": "4.5"}, "value: Input should be a valid number"),
        ({**ANSWER, "value": True}, "value: Input should be a valid number"),
        ({**ANSWER, "threshold": float("inf")}, "threshold: Input should be a finite number"),
        ({**ANSWER, "constraints": {"recall_pct": None}}, r"constraints\.recall_pct: .*valid number"),
        ({**ANSWER, "diagnostics": {"a": [float("nan")]}}, r"diagnostics\.a.*finite number"),
        ({**ANSWER, "diagnostics": {"auc": "good"}}, r"diagnostics\.auc: 'good' is not a number"),
        ({"name": "far_pct", "unit": "%"}, "value: required and not set"),
        (
            {**ANSWER, "unit": "fraction"},
            "far_pct in 'fraction' does not answer the contract's far_pct in '%'",
        ),
        ({**ANSWER, "name": "far"}, "far in '%' does not answer the contract's far_pct in '%'"),
        ({**ANSWER, "constraints": {}}, "says nothing on the constraint recall_pct; its constraints: none"),
    ],
)
def test_an_answer_that_is_none(measure, command, space, answer, message):
    with pytest.raises(StageFailed, match=message):
        measure(command(answering(answer)))
    assert [path.name for path in (space / "out").iterdir()] == ["evaluator.log"]


def test_exit_status_and_the_last_lines_of_the_log_are_named(measure, command):
    body = answering(ANSWER) + "for n in 1 2 3 4 5 6 7; do echo line $n; done; echo broken >&2; exit 3\n"
    with pytest.raises(StageFailed) as caught:
        measure(command(body))
    message = str(caught.value)
    assert "evaluate it.sh ended with exit status 3; its log" in message
    assert message.endswith("evaluator.log ends: line 4 | line 5 | line 6 | line 7 | broken")


def test_a_command_that_is_too_slow_ends_with_its_children(measure, command, space):
    late = space / "late"
    body = f"(sleep 1.2; touch '{late}') &\necho started\nsleep 30\n"
    started = time.monotonic()
    with pytest.raises(StageFailed, match=r"was ended after 0\.5 s; its log .* ends: started"):
        measure(command(body, timeout_s=0.5))
    assert time.monotonic() - started < 20
    time.sleep(1.2)
    assert not late.exists()


@pytest.mark.parametrize("mode", [None, 0o644])
def test_a_command_that_cannot_be_executed(measure, command, space, mode):
    evaluator = command(answering(ANSWER))
    script = Path(evaluator["executable"])
    script.unlink() if mode is None else script.chmod(mode)
    with pytest.raises(InputError, match=r"evaluate it\.sh is not an executable file"):
        measure(evaluator)
    assert not (space / "out").exists()


def test_a_command_that_the_system_does_not_start(measure, command):
    evaluator = command("")
    Path(evaluator["executable"]).write_bytes(b"\x00no program")
    with pytest.raises(StageFailed, match=r"evaluate it\.sh cannot be started: .*Exec format"):
        measure(evaluator)


def test_a_missing_inference_csv_is_said_before_anything_is_called(measure, command, space):
    (space / "inference.csv").unlink()
    with pytest.raises(InputError, match=r"inference CSV .*inference\.csv: No such file"):
        measure(command(answering(ANSWER)))
    assert not (space / "out").exists()


def test_an_artifact_that_is_there(measure, space, caplog):
    (space / "iter1.json").write_text(json.dumps(ANSWER))
    with caplog.at_level(logging.INFO, logger="deft"):
        assert measure(artifact(space))["value"] == 4.5
    assert "is older than" not in caplog.text


def test_an_artifact_older_than_the_inference_is_taken_with_a_warning(measure, space, caplog):
    (space / "iter1.json").write_text(json.dumps(ANSWER))
    os.utime(space / "iter1.json", (1, 1))
    assert measure(artifact(space))["value"] == 4.5
    assert "iter1.json is older than" in caplog.text


def test_an_artifact_of_each_checkpoint(measure, space):
    for kind, value in (("best_val", 3.0), ("latest", 2.0)):
        (space / f"iter1 {kind}.json").write_text(json.dumps({**ANSWER, "value": value}))
    evaluator = artifact(space, path=str(space / "{iter_label} {checkpoint_kind}.json"))
    assert [measure(evaluator, checkpoint_kind=kind)["value"] for kind in ("latest", "best_val")] == [
        2.0,
        3.0,
    ]


def test_an_artifact_that_appears_late_and_in_parts(measure, space):
    text = json.dumps({**ANSWER, "diagnostics": {"board": "ä"}}, ensure_ascii=False).encode()
    cut = text.index("ä".encode()) + 1  # within a character

    def produce():
        time.sleep(0.3)
        (space / "iter1.json").write_bytes(text[:cut])
        time.sleep(0.7)
        (space / "iter1.json").write_bytes(text)

    producer = threading.Thread(target=produce)
    producer.start()
    assert measure(artifact(space, timeout_s=20))["diagnostics"]["board"] == "ä"
    producer.join()


def test_an_artifact_that_never_appears(measure, space):
    with pytest.raises(StageFailed, match=r"iter1\.json of line 7 is not there after 0\.2 s: No such file"):
        measure(artifact(space, timeout_s=0.2))
    assert not (space / "out").exists()


def test_an_artifact_that_never_gets_whole(measure, space):
    (space / "iter1.json").write_text(json.dumps(ANSWER)[:-5])
    with pytest.raises(StageFailed, match=r"iter1\.json of line 7 .* after 0\.2 s: not valid JSON: .*column"):
        measure(artifact(space, timeout_s=0.2))


def test_a_whole_artifact_that_is_wrong_is_not_waited_for(measure, space):
    (space / "iter1.json").write_text(json.dumps({**ANSWER, "unit": "fraction"}))
    started = time.monotonic()
    with pytest.raises(
        StageFailed, match=r"artifact .*iter1\.json of line 7: metric result .* does not answer"
    ):
        measure(artifact(space))
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("keys", "name"),
    [({"iter_label": "../x"}, "iter_label"), ({"checkpoint_kind": "third"}, "checkpoint_kind")],
)
def test_keys_that_would_lead_elsewhere(spec_of, keys, name):
    with pytest.raises(InputError, match=name):
        spec_of("far_at_recall", **keys)


def test_what_the_evaluator_is_made_of_is_read(spec_of, command, space):
    evaluator = command("", ["/data/rules.json", "--fast"])
    assert list(MEASURE.reads(spec_of(evaluator))) == [
        Path(evaluator["executable"]),
        Path("/data/rules.json"),
    ]
    assert list(MEASURE.reads(spec_of(artifact(space)))) == [space / "iter1.json"]
    assert list(MEASURE.reads(spec_of("far_at_recall"))) == []


ACTION = Action("evaluation", "measure", "tasks.evaluation.measure:MEASURE")


def test_a_changed_evaluator_has_another_cache_key(spec_of, command):
    keys = {ACTION.digest(spec_of(command(answering({**ANSWER, "value": value})))) for value in (1, 1, 12)}
    assert len(keys) == 2


def test_from_a_spec_file(spec_of, command, space):
    given = spec_of(command(answering(ANSWER), ["two words"])).to_dict()
    assert main([ACTION], ["measure", "-e", str(write_yaml(space / "spec.yaml", given))]) == 0
    assert read_json(space / "out" / "metric_result.json")["value"] == 4.5
