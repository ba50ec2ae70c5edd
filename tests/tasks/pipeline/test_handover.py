"""The hand-over of the tuned spec. A killed process is one whose writes stop after any one of them."""

import itertools

import pytest
import yaml

from tasks import artifacts
from tasks.artifacts import read_json
from tasks.automl.best_rec import BestRec, BestTrial
from tasks.errors import InputError
from tasks.pipeline.handover import (
    APPROVED,
    JOURNAL,
    ORIGINAL,
    TUNED,
    Journal,
    keep_base_spec,
    place_spec,
)

BASE = """\
# by hand
task: classify
model: {backbone: {type: c_radio}}
train:
  num_epochs: 30
  optim: {lr: 0.002, weight_decay: 0.01}
  classify: {cls_weight: [1.0, 1.0]}
dataset: {classify: {batch_size: 32, fpratio_sampling: 1.0}}
"""
SPECS = {
    "train": {"optim": {"lr": 0.0007, "weight_decay": 0.01}},
    "dataset": {"classify": {"fpratio_sampling": 0.4}},
}
CHANGES = [
    {"key": "train.optim.lr", "before": 0.002, "after": 0.0007},
    {"key": "dataset.classify.fpratio_sampling", "before": 1.0, "after": 0.4},
]


def best(specs=None):
    return BestRec(
        schema_version=1,
        experiment_id="run/automl_phase1",
        metric_name="far_pct",
        direction="minimize",
        best=BestTrial(
            rec_id="rec_001",
            score=3.5,
            specs=SPECS if specs is None else specs,
            observed_budget={"num_epochs": 5},
            checkpoint_uri="/run/model.pth",
        ),
        all_recs=[],
    )


@pytest.fixture(name="base")
def _base(tmp_path):
    """A base spec that was approved for the run in `tmp_path / "run"`."""
    file = tmp_path / "specs" / "baseline_spec.yaml"
    file.parent.mkdir()
    file.write_text(BASE)
    keep_base_spec(tmp_path / "run", file)
    return file


@pytest.fixture(name="run")
def _run(tmp_path):
    return tmp_path / "run"


def content(folder):
    return {file.name: file.read_text() for file in folder.iterdir() if file.is_file()}


def leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_only_tuned_keys_change_and_the_budget_is_no_such_key(run, base):
    facts = place_spec(run, base, best())
    before, after = dict(leaves(yaml.safe_load(BASE))), dict(leaves(yaml.safe_load(base.read_text())))
    assert {key for key in before | after if before.get(key) != after.get(key)} == {
        change["key"] for change in CHANGES
    }
    assert after["train.num_epochs"] == 30
    assert facts["changes"] == CHANGES


def test_original_is_kept_to_the_letter_and_tuned_spec_lies_beside_it(run, base):
    place_spec(run, base, best())
    assert base.with_name(ORIGINAL).read_text() == BASE
    assert base.with_name(TUNED).read_text() == base.read_text()


def test_original_of_an_earlier_run_is_never_overwritten(run, base, tmp_path):
    place_spec(run, base, best())
    second = tmp_path / "second"
    keep_base_spec(second, base)
    place_spec(second, base, best({"train": {"optim": {"lr": 0.0001}}}))
    assert base.with_name(ORIGINAL).read_text() == BASE
    tuned_twice = yaml.safe_load(base.read_text())
    assert tuned_twice["train"]["optim"]["lr"] == 0.0001
    assert tuned_twice["dataset"]["classify"]["fpratio_sampling"] == 0.4


def test_approved_spec_is_kept_once(run, base):
    base.write_text(BASE.replace("30", "99"))
    assert keep_base_spec(run, base).read_text() == BASE


def test_again_changes_nothing(run, base):
    first = place_spec(run, base, best())
    before = content(base.parent)
    assert place_spec(run, base, best()) == first
    assert content(base.parent) == before


@pytest.mark.parametrize("written", range(4))
def test_killed_after_any_write_and_done_again_is_the_same(run, base, written, monkeypatch):
    count = itertools.count()

    def killed(*_):
        if next(count) == written:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(artifacts.os, "fsync", killed)
        if written < 3:
            with pytest.raises(KeyboardInterrupt):
                place_spec(run, base, best())
        else:
            place_spec(run, base, best())
    expected = {
        "tuned": str(base.with_name(TUNED)),
        "original": str(base.with_name(ORIGINAL)),
        "changes": CHANGES,
    }
    assert place_spec(run, base, best()) == expected
    assert base.with_name(ORIGINAL).read_text() == BASE
    assert base.with_name(TUNED).read_text() == base.read_text()
    assert not list(base.parent.glob(".*"))


@pytest.mark.parametrize("tuned_before", [False, True])
def test_spec_that_was_edited_by_hand_is_refused_and_left_alone(run, base, tuned_before):
    if tuned_before:
        place_spec(run, base, best())
    base.write_text(base.read_text().replace("32", "64"))
    before = content(base.parent)
    with pytest.raises(InputError, match="was changed since the approval; restore it"):
        place_spec(run, base, best())
    assert content(base.parent) == before


def test_comment_is_no_edit(run, base):
    base.write_text(BASE + "# a remark\n")
    place_spec(run, base, best())
    assert base.with_name(ORIGINAL).read_text() == BASE


def test_base_spec_as_winner_changes_nothing(run, base):
    assert place_spec(run, base, best({}))["changes"] == []
    assert yaml.safe_load(base.read_text()) == yaml.safe_load(BASE)


def test_tuned_key_below_a_plain_value_is_refused_before_the_first_write(run, base):
    before = content(base.parent)
    with pytest.raises(InputError, match="plain value at task"):
        place_spec(run, base, best({"task": {"name": "classify"}}))
    assert content(base.parent) == before


def test_missing_base_spec_is_named(tmp_path):
    with pytest.raises(InputError, match=r"base spec .*No such file"):
        keep_base_spec(tmp_path / "run", tmp_path / "none.yaml")
    assert not (tmp_path / "run" / APPROVED).exists()


def test_journal_remembers_steps_with_their_facts(tmp_path):
    Journal(tmp_path).done("spec", changes=[])
    Journal(tmp_path).done("checkpoint", placed="/run/model.pth")
    assert Journal(tmp_path).steps == {"spec": {"changes": []}, "checkpoint": {"placed": "/run/model.pth"}}
    assert read_json(tmp_path / JOURNAL) == Journal(tmp_path).steps


def test_broken_journal_is_named(tmp_path):
    (tmp_path / JOURNAL).write_text("{")
    with pytest.raises(InputError, match=JOURNAL):
        Journal(tmp_path)
