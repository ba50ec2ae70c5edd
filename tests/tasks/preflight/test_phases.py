"""Sections 5 and 7: the sweeps, each by itself and against each other."""

import shutil

import pytest

from tasks.preflight.subject import SpaceRow

KPI = "kpi/testing_set.csv"


def test_the_rows_of_a_sweep(found):
    rows = dict(found("phase1.config", phase1={"more": {"engine": "native"}, "seed": 3}).rows)
    assert rows["trials"] == "6"
    assert rows["metric"] == "far_pct at recall 100 %, minimise"
    assert rows["engine"] == "native"
    assert rows["seed"] == "3"


def test_the_space_shows_ranges_pins_and_what_has_no_effect(found):
    rows = found("phase1.space").rows
    assert rows[0] == ("train.optim.lr", "searched", "1e-6 … 1e-4", "log", "fine-tuning")
    assert rows[2][1::3] == ("inert", "no effect with adamw")


def test_nothing_to_search_blocks(found):
    space = (SpaceRow(parameter="train.num_epochs", role="pinned"),)
    assert found("phase1.space", phase1={"space": space}).outcome == "block"


def test_architecture_keys_with_a_warm_start_warn(found):
    space = (SpaceRow(parameter="model.backbone.type", role="searched"),)
    assert found("phase1.space", phase1={"space": space}).outcome == "ok"
    finding = found("phase3.space", phase3={"space": space})
    assert finding.outcome == "warn"
    assert "model.backbone.type" in finding.text


@pytest.mark.parametrize("copied", [False, True])
def test_a_sweep_that_would_see_the_kpi_set_blocks(found, workspace, copied):
    file = workspace / KPI
    if copied:
        file = workspace / "other.csv"
        shutil.copy(workspace / KPI, file)
    finding = found("phase1.validation", phase1={"validation_set": file})
    assert finding.outcome == "block"
    assert "is the KPI set" in finding.text


def test_a_validation_set_that_is_not_there_blocks(found, workspace):
    finding = found("phase1.validation", phase1={"validation_set": workspace / "no.csv"})
    assert finding.outcome == "block"


def test_a_validation_set_that_was_not_checked_for_leakage_warns(found, workspace):
    file = workspace / "train/base/training_set.csv"
    finding = found("phase1.validation", phase1={"validation_set": file})
    assert finding.outcome == "warn"
    assert "not the validation set that was checked" in finding.text


@pytest.mark.parametrize(
    ("phase3", "said"),
    [
        ({"metric": "val_loss"}, "metric val_loss"),
        ({"direction": "maximise"}, "maximise"),
    ],
)
def test_another_metric_in_the_last_phase_blocks(found, phase3, said):
    finding = found("phase3.consistency", phase3=phase3)
    assert finding.outcome == "block"
    assert said in finding.text


def test_another_validation_set_in_the_last_phase_blocks(found, workspace):
    finding = found(
        "phase3.consistency", phase3={"validation_set": workspace / "train/base/training_set.csv"}
    )
    assert finding.outcome == "block"
    assert "validation set" in finding.text


def test_a_validation_set_that_is_gone_blocks_the_last_phase(found, workspace):
    assert found("phase3.consistency", phase3={"validation_set": workspace / "no.csv"}).outcome == "block"


def test_an_equal_copy_of_the_validation_set_is_the_same_set(found, workspace):
    copy = workspace / "copy.csv"
    shutil.copy(workspace / "train/base/validation_set.csv", copy)
    assert found("phase3.consistency", phase3={"validation_set": copy}).outcome == "ok"


def test_a_cold_start_blocks(found):
    assert found("phase3.warm_start", phase3={"warm_start": None}).outcome == "block"
