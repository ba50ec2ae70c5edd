import json
import logging
from pathlib import Path

import pytest
from hypothesis import assume, given, reject
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.automl import best_rec
from tasks.automl.best_rec import BestRec, BestTrial, adapted, best_rec_of, merged_baseline, stripped
from tasks.automl.trial import Outcome, Row, SweepMetric
from tasks.automl.winner import Policy, choose
from tasks.errors import InputError
from tasks.keys import flat, nested

FAR = SweepMetric(name="far_pct", direction="minimise", unit="%")
BASE = {
    "results_dir": "/runs/a",
    "train": {
        "num_epochs": 30,
        "checkpoint_interval": 30,
        "optim": {"lr": 1e-4, "weight_decay": 0.01},
        "classify": {"cls_weight": [1.0, 10.0]},
    },
    "model": {"backbone": {"type": "c_radio_v2"}},
}
TUNED = {"train": {"optim": {"lr": 3e-5}}, "dataset": {"classify": {"fpratio_sampling": 0.9}}}


def row(number, score, specs=None, state="complete", source="sampler"):
    outcome = score is not None and Outcome(
        score=score,
        target=score,
        checkpoint=Path(__file__),  # a file that is there
        epoch=8,
        step=90,
        epochs=10,
    )
    return Row(
        number=number,
        phase=1,
        source=source,
        seed=number,
        params={},
        specs=specs or {},
        spec_sha256="x",
        state=state,
        outcome=outcome or None,
    )


def best_of(rows, metric=FAR):
    chosen = choose(rows, metric, lambda *_: pytest.fail("no rerun"), Policy(reruns=0))
    return best_rec_of(rows, chosen, "demo-p1", metric)


def given_file(**best):
    return {
        "schema_version": 1,
        "experiment_id": "x",
        "metric_name": "far_pct",
        "direction": "minimize",
        "best": {"rec_id": "3", "score": 4.5, "specs": {}, "checkpoint_uri": "s3://b/m.pth", **best},
        "all_recs": [{"rec_id": "3", "score": 4.5}, {"rec_id": "4", "score": None, "job_id": "j"}],
    }


def test_the_file_of_a_sweep(tmp_path):
    specs = {**TUNED, "train": {**TUNED["train"], "num_epochs": 10, "validation_interval": 1}}
    rows = [row(0, 40.0), row(1, 30.0, specs), row(2, 99.0, state="collapsed"), row(3, None, state="failed")]
    best = best_of(rows)
    content = json.loads(best_rec.write(tmp_path / "best_rec.json", best).read_text())
    assert content == {
        "schema_version": 1,
        "experiment_id": "demo-p1",
        "metric_name": "far_pct",
        "direction": "minimize",
        "best": {
            "rec_id": "rec_001",
            "score": 30.0,
            "specs": TUNED,
            "observed_budget": {"num_epochs": 10},
            "checkpoint_uri": __file__,
            "checkpoint_epoch": 8,
            "checkpoint_step": 90,
        },
        "all_recs": [
            {"rec_id": "rec_000", "score": 40.0, "job_id": "demo-p1/rec_000"},
            {"rec_id": "rec_001", "score": 30.0, "job_id": "demo-p1/rec_001"},
            {"rec_id": "rec_002", "score": None, "job_id": "demo-p1/rec_002"},
            {"rec_id": "rec_003", "score": None, "job_id": "demo-p1/rec_003"},
        ],
    }
    assert best_rec.read(tmp_path / "best_rec.json") == best


def test_what_is_maximised_says_so():
    best = best_of([row(0, 0.8), row(1, 0.9)], SweepMetric(name="f1", direction="maximise"))
    assert (best.direction, best.best.rec_id) == ("maximize", "rec_001")


def test_score_is_the_median_where_the_winner_was_trained_again():
    rows = [row(0, 40.0), row(1, 5.0, TUNED)]
    again = iter([row(2, 9.0, source="rerun"), row(3, 8.0, source="rerun")])
    best = best_rec_of(rows, choose(rows, FAR, lambda *_: next(again), Policy()), "x", FAR)
    assert (best.best.rec_id, best.best.score, best.all_recs[1].score) == ("rec_001", 8.0, 5.0)
    assert best.best.specs == TUNED


def test_only_tuned_keys_of_the_baseline_change():
    spec, changed = merged_baseline(BASE, best_of([row(0, 40.0), row(1, 30.0, TUNED)]))
    assert changed == [
        {"key": "train.optim.lr", "before": 1e-4, "after": 3e-5},
        {"key": "dataset.classify.fpratio_sampling", "before": None, "after": 0.9},
    ]
    before, after = flat(BASE), flat(spec)
    assert {key for key in after if after[key] != before.get(key)} == set(flat(TUNED))
    assert spec["train"]["num_epochs"] == 30
    assert BASE["train"]["optim"]["lr"] == 1e-4


def test_the_base_spec_as_winner_changes_nothing():
    spec, changed = merged_baseline(BASE, best_of([row(0, 10.0), row(1, 30.0, TUNED)]))
    assert (spec, changed) == (BASE, [])


def test_an_element_of_a_list():
    best = best_of([row(0, 30.0, {"train": {"classify": {"cls_weight[1]": 20.0}}})])
    spec, changed = merged_baseline(BASE, best)
    assert spec["train"]["classify"]["cls_weight"] == [1.0, 20.0]
    assert changed == [{"key": "train.classify.cls_weight[1]", "before": 10.0, "after": 20.0}]


def test_a_key_below_a_plain_value_is_refused():
    best, _ = adapted(given_file(specs={"results_dir.lr": 1}))
    with pytest.raises(InputError, match="plain value at results_dir"):
        merged_baseline(BASE, best)


def test_a_foreign_file_is_adapted_and_it_is_said(tmp_path, caplog):
    content = given_file(
        specs={
            "train.num_epochs": 10,
            "train.optim.lr": 3e-5,
            "train": {"optim": {"weight_decay": 0.3}, "checkpoint_interval": 10},
            "train.validation_interval": 10,
            "train.pretrained_model_path": "/m/a.pth",
            "train.resume_training_checkpoint_path": None,
            "dataset.classify.train_dataset.csv_path": "/d/a.csv",
            "model.backbone.drop_path": 0.1,
            "results_dir": "/r",
        }
    )
    file = tmp_path / "best_rec.json"
    file.write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING, "deft"):
        best = best_rec.read(file)
    assert best.best.specs == {
        "train": {"optim": {"lr": 3e-5, "weight_decay": 0.3}},
        "model": {"backbone": {"drop_path": 0.1}},
    }
    assert best.best.observed_budget == {"num_epochs": 10}
    dotted, budget, dropped = caplog.messages
    assert "dotted names" in dotted
    assert "num_epochs" in budget
    for name in (
        "train.checkpoint_interval",
        "train.validation_interval",
        "train.pretrained_model_path",
        "train.resume_training_checkpoint_path",
        "dataset.classify.train_dataset.csv_path",
        "results_dir",
    ):
        assert name in dropped
    assert adapted(best.model_dump(exclude_unset=True)) == (best, [])


@pytest.mark.parametrize("name", ["num_epochs", "max_epochs", "epochs", "num_steps"])
def test_budget_is_observed_and_never_merged(name):
    best, _ = adapted(given_file(specs={f"train.{name}": 7}))
    assert (best.best.specs, best.best.observed_budget) == ({}, {name: 7})


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ({"a.b": 1, "a": {"b": 2}}, "a.b twice"),
        ({"a.b": 1, "a": 2}, "a holds other keys"),
        ({"a": 2, "a.b": 1}, "a.b lies inside another key"),
        ({"num_epochs": 1, "train.num_epochs": 2}, "num_epochs as 1 and as 2"),
    ],
)
def test_a_collision_is_an_error(specs, message):
    with pytest.raises(InputError, match=f"best.specs.*{message}"):
        adapted(given_file(specs=specs))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"direction": "minimise"}, "direction"),
        ({"metric_name": ""}, "metric_name"),
        ({"status": "ok"}, "unknown key status"),
        ({"all_recs": [{"rec_id": "1", "score": 1.0, "status": "ok"}]}, "unknown key all_recs.0.status"),
        ({"all_recs": [{"rec_id": "1"}]}, "all_recs.0.score: required"),
        ({"best": None}, "best"),
        ({"best": {**given_file()["best"], "checkpoint_uri": ""}}, "best.checkpoint_uri"),
        ({"best": {**given_file()["best"], "checkpoint_epoch": -1}}, "best.checkpoint_epoch"),
        ({"best": {**given_file()["best"], "specs": [1]}}, "best.specs"),
    ],
)
def test_what_the_schema_does_not_allow(tmp_path, change, message):
    file = tmp_path / "best_rec.json"
    file.write_text(json.dumps({**given_file(), **change}))
    with pytest.raises(InputError, match=f"{file}: .*{message}"):
        best_rec.read(file)


def test_a_file_that_is_no_mapping(tmp_path):
    file = tmp_path / "best_rec.json"
    file.write_text("[1]")
    with pytest.raises(InputError, match=r"best_rec\.json"):
        best_rec.read(file)


@pytest.mark.parametrize("specs", [{"a.b": 1}, {"train": {"num_epochs": 3}}, {"train": {"results_dir": "x"}}])
def test_the_model_itself_refuses_specs_that_are_not_tuned_alone(specs):
    with pytest.raises(ValidationError, match="not nested and tuned alone"):
        BestTrial(rec_id="1", score=1.0, specs=specs, checkpoint_uri="x")


def test_the_schema_knows_no_other_keys():
    assert set(BestRec.model_fields) == set(given_file())


NAMES = st.sampled_from(["lr", "optim", "train", "k", "num_epochs", "csv_path"])


@given(st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map(".".join), st.integers(0, 1), max_size=5))
def test_dotted_and_nested_names_read_alike(specs):
    assume(len({value for key, value in specs.items() if key.endswith("num_epochs")}) < 2)
    try:
        tree = nested(specs)
    except InputError:
        reject()
    assert stripped(tree)[0] == stripped(specs)[0]
