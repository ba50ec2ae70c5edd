import pytest
from pydantic import ValidationError

from tasks.automl.settings import SweepSettings
from tasks.pipeline.settings import PipelineSettings


def settings(**changed):
    given = {
        "workspace": "/ws",
        "runtime": "inline",
        "profile": "aoi_changenet",
        "mode": "full",
        "metric": None,
        "phase1": SweepSettings(trials=8),
        "phase3": SweepSettings(trials=6),
        "loop": {"max_iterations": 3, "num_sdg": 20},
        "skip_phase1": False,
        "skip_phase3": False,
        "phase3_when": "always",
        "baseline_checkpoint": None,
        "no_gain": "pause",
        "per_job_minutes": None,
    }
    return PipelineSettings.model_validate(given | changed)


@pytest.mark.parametrize(
    ("chosen", "sweeps_first"),
    [
        ({}, True),
        ({"mode": "automl_only"}, True),
        ({"mode": "loop_only"}, False),
        ({"skip_phase1": True}, False),
    ],
)
def test_which_modes_sweep_first(chosen, sweeps_first):
    assert settings(**chosen).sweeps_first is sweeps_first


def test_only_a_phase_of_the_mode_counts_as_skipped():
    both = {"skip_phase1": True, "skip_phase3": True}
    assert settings().skipped == {}
    assert settings(**both).skipped == {"phase1": "skip_phase1", "phase3": "skip_phase3"}
    assert settings(mode="loop_only", **both).skipped == {}
    assert settings(mode="automl_only", skip_phase3=True).skipped == {}


def test_corrections_change_what_they_name_and_nothing_else():
    asked = settings()
    corrections = {"max_iterations": 1, "phase1_trials": 5, "phase3_trials": 4, "per_job_minutes": 2.5}
    expected = settings(
        phase1=SweepSettings(trials=5),
        phase3=SweepSettings(trials=4),
        loop={"max_iterations": 1, "num_sdg": 20},
        per_job_minutes=2.5,
    )
    assert asked.corrected(corrections) == expected
    assert asked == settings()


def test_settings_survive_their_file():
    chosen = settings(
        phase1=SweepSettings(only=("lr", "color")), skip_phase1=True, baseline_checkpoint="/m.pth"
    )
    assert PipelineSettings.model_validate(chosen.model_dump(mode="json")) == chosen


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"baseline_checkpoint": "/m.pth"}, "give skip_phase1 with it"),
        ({"baseline_checkpoint": "/m.pth", "mode": "automl_only"}, "give skip_phase1 with it"),
        ({"mode": "automl_only", "skip_phase1": True}, "leaves nothing to run"),
        ({"mode": "everything"}, "mode"),
        ({"per_job_minutes": 0}, "per_job_minutes"),
        ({"phase2": {}}, "phase2"),
    ],
)
def test_what_cannot_be_run_is_refused(chosen, said):
    with pytest.raises(ValidationError, match=said):
        settings(**chosen)


@pytest.mark.parametrize("chosen", [{"skip_phase1": True}, {"mode": "loop_only"}])
def test_baseline_checkpoint_takes_the_place_of_phase_1(chosen):
    assert not settings(baseline_checkpoint="/m.pth", **chosen).sweeps_first
