"""Sections 8 and 9: the cost model, and what is confirmed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.preflight.closing import parts_of
from tasks.preflight.subject import LoopPhase, Subject, SweepPhase

COUNTS = st.integers(1, 50)


def sweep(trials, concurrency):
    return SweepPhase(
        algorithm="random",
        trials=trials,
        concurrency=concurrency,
        metric="m",
        direction="minimise",
        training_set="t",
        validation_set=Path("/v"),
        results_dir=Path("/r"),
        spec_source="s",
    )


@given(COUNTS, COUNTS, COUNTS, st.integers(1, 4))
def test_trainings_are_counted_as_the_formula_says(n1, iterations, n3, concurrency):
    subject = Subject(
        workspace=Path("/w"),
        mode="full",
        profile="aoi_changenet",
        runtime_name="inline",
        starts_images=False,
        parameters={},
        phase1=sweep(n1, concurrency),
        loop=LoopPhase(settings={"max_iterations": iterations}, baseline="", results_dir=Path("/r")),
        phase3=sweep(n3, concurrency),
    )
    jobs = {part.name: part.jobs for part in parts_of(subject)}
    assert concurrency * jobs["phase 1"] - n1 in range(concurrency)
    assert jobs["phase 2, training"] == iterations
    assert concurrency * jobs["phase 3"] - n3 in range(concurrency)
    assert jobs["phase 2, data"] is None


def test_without_a_known_time_there_are_no_minutes(found):
    finding = found("estimate.cost")
    assert {row[2] for row in finding.rows} == {"not known", ""}
    assert "6 × t_rec1 × rows_combined / rows_base" in {row[1] for row in finding.rows}
    assert ("rows_base", "40", "") in finding.rows


def test_a_known_time_gives_minutes(found):
    finding = found("estimate.cost", per_job_minutes=2.5, phase1={"concurrency": 4})
    rows = {row[0]: row[1:] for row in finding.rows}
    assert rows["phase 1"] == ("6 / 4 × t_rec1 + quality", "about 5")
    assert rows["phase 2, training"][1] == "about 7.5"
    assert rows["phase 2, data"][1] == "not known"
    assert rows["phase 3"][1] == "about 15"
    assert rows["total"][1] == "about 27.5"


@pytest.mark.parametrize(("action", "kind"), [("warn", "only a warning"), ("stop", "hard stop")])
def test_the_hard_stops_are_listed(found, action, kind):
    finding = found(
        "confirmation", loop={"regression_gate": {"enabled": True, "max_worse": 0, "action": action}}
    )
    assert (kind, "loop: an iteration is worse than the best before it") in finding.rows
    assert ("hard stop", "quality check of phase 1: no gain over a model without training") in finding.rows
    assert finding.text.startswith("approve phase 1 (sweep), phase 2 (DEFT loop), phase 3 (sweep);")


def test_a_phase_without_gain_that_only_warns_is_no_stop(found):
    rows = found("confirmation", parameters={"no_gain": "warn"}).rows
    assert ("only a warning", "quality check of phase 1: no gain over a model without training") in rows


def test_nothing_to_approve_blocks(subject_of):
    from tasks.preflight.execution import summarise

    subject = subject_of(mode="loop_only").model_copy(update={"loop": None, "skipped": {"loop": "no"}})
    assert any("nothing to approve" in line for line in summarise(subject).blockers)
