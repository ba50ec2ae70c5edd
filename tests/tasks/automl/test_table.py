import csv
import json
from pathlib import Path

from tasks.automl.space import Parameter, Space
from tasks.automl.table import TRIALS_CSV, TRIALS_JSONL, importances, write_study, write_tables
from tasks.automl.trial import Failure, Outcome, Row, SweepMetric

FAR = SweepMetric(name="far_pct", direction="minimise", unit="%")
SPACE = Space(
    searched=(
        Parameter(name="lr", keys=("train.optim.lr",), type="float", low=1e-6, high=1e-2, log=True),
        Parameter(name="decay", type="float", low=0.0, high=1.0),
    ),
    pinned={"train.augment": True},
    inert=(("momentum", "no effect while train.optim.optim is adamw"),),
    base={"lr": 1e-4, "decay": 0.1},
)


def row(number, score=None, **fields):
    outcome = None
    if score is not None:
        facts = {"far_pct": score, "auc": 0.9, "val_loss": None}
        outcome = Outcome(
            score=score, target=score, checkpoint=Path("/a/m.pth"), epoch=3, epochs=5, facts=facts
        )
    values = {"params": {"lr": 10.0 ** -(number % 5 + 2), "decay": (number * 0.37) % 1}, "source": "sampler"}
    state = "complete" if outcome else "failed"
    return Row(
        **{"number": number, "phase": 1, "seed": 1, "specs": {}, "spec_sha256": "x", "state": state}
        | {"outcome": outcome}
        | values
        | fields
    )


def lines_of(folder):
    with (folder / TRIALS_CSV).open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_one_line_a_trial(tmp_path):
    failure = Failure(kind="diverged", signature="s", message='the loss is nan; "lr", 3')
    collapsed = row(3, 99.0, state="collapsed")
    collapsed.outcome.collapse = "two distinct scores"
    rows = [
        row(0, 12.5, source="base"),
        row(1, failure=failure),
        row(2, state="pruned", pruned_at=4),
        collapsed,
        row(4, 3.0),
    ]
    write_tables(tmp_path, rows, FAR)
    lines = lines_of(tmp_path)
    assert [line["rec"] for line in lines] == [f"rec_{number:03d}" for number in range(5)]
    assert [line["state"] for line in lines] == ["complete", "failed", "pruned", "collapsed", "complete"]
    assert [line["far_pct"] for line in lines] == ["12.5", "", "", "99.0", "3.0"]
    assert [line["reason"] for line in lines] == ["", failure.message, "", "two distinct scores", ""]
    assert [line["epoch"] for line in lines] == ["3", "", "4", "3", "3"]
    assert [float(line["lr"]) for line in lines] == [one.params["lr"] for one in rows]
    assert lines[0]["auc"] == "0.9"
    assert lines[1]["auc"] == lines[0]["val_loss"] == ""


def test_the_rows_read_back_from_their_lines(tmp_path):
    rows = [row(0, 12.5, curve={0: 40.0, 1: 12.5}), row(1), row(2, state="running")]
    write_tables(tmp_path, rows, FAR)
    lines = (tmp_path / TRIALS_JSONL).read_text().splitlines()
    assert [Row.model_validate_json(line) for line in lines] == rows


def test_importance_finds_what_decides():
    rows = [row(number, score=abs(number % 5 - 2) * 10.0) for number in range(25)]
    found = importances(rows, SPACE)
    assert set(found) == {"lr", "decay"}
    assert found["lr"] > 0.5
    assert abs(sum(found.values()) - 1) < 0.01


def test_importance_means_nothing_below_ten_trials():
    rows = [row(number, score=float(number)) for number in range(9)]
    assert importances(rows, SPACE) == {}
    assert importances([*rows, row(9), row(10, 1.0, source="rerun")], SPACE) == {}
    assert importances([*rows, row(9, 1.0, params={"lr": 5.0, "decay": 0.1})], SPACE) == {}
    assert importances([*rows, row(9, 1.0)], SPACE) != {}


def test_importance_of_trials_that_are_all_alike():
    assert all(share >= 0 for share in importances([row(n, 4.0) for n in range(12)], SPACE).values())


def test_importance_of_one_dimension_is_not_worked_out():
    one = Space(SPACE.searched[:1], {}, (), {"lr": 1e-4})
    assert importances([row(number, float(number)) for number in range(12)], one) == {}


def test_the_study_says_what_was_searched_and_what_was_left_out(tmp_path):
    rows = [row(0, 12.5, seconds=1.5), row(1, seconds=2.0), row(2, state="pruned"), row(3, 3.0)]
    study = json.loads(write_study(tmp_path, rows, SPACE, FAR, algorithm="asha", warnings=["a"]).read_text())
    assert study["metric"] == {"name": "far_pct", "direction": "minimise", "unit": "%"}
    assert [one["name"] for one in study["searched"]] == ["lr", "decay"]
    assert study["searched"][0]["log"] is True
    assert study["pinned"] == {"train.augment": True}
    assert study["inert"] == {"momentum": "no effect while train.optim.optim is adamw"}
    assert study["base"] == SPACE.base
    assert study["trials"] == {"complete": 2, "failed": 1, "pruned": 1}
    assert (study["importance"], study["seconds"]) == ({}, 3.5)
    assert (study["algorithm"], study["warnings"]) == ("asha", ["a"])
