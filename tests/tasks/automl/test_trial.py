import pytest
from pydantic import ValidationError

from tasks.automl.trial import Outcome, Row, SweepMetric


def test_a_metric_has_to_say_its_direction():
    with pytest.raises(ValidationError, match="direction"):
        SweepMetric.model_validate({"name": "far_pct"})


@pytest.mark.parametrize(
    ("name", "direction", "better", "worse"),
    [
        ("val_loss", "minimise", 0.1, 0.2),
        ("far_pct", "minimise", 3.0, 40.0),
        ("far_at_100_recall", "minimise", 0.0, 100.0),
        ("error_rate", "minimise", 0.1, 0.2),
        ("latency_ms", "minimise", 5.0, 9.0),
        ("cost", "minimise", 5.0, 9.0),
        ("auc", "maximise", 0.9, 0.8),
        ("loss_of_nothing", "maximise", 0.9, 0.8),
    ],
)
def test_direction_decides_and_never_the_name(name, direction, better, worse):
    metric = SweepMetric(name=name, direction=direction)
    assert metric.better(better, worse)
    assert not metric.better(worse, better)
    assert not metric.better(better, better)
    assert min((better, worse), key=metric.key) == better


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_is_a_number(score):
    with pytest.raises(ValidationError, match="finite"):
        Outcome(score=score, target=1.0, checkpoint="a.pth", epochs=1)


def test_a_row_survives_its_journal(tmp_path):
    outcome = Outcome(score=3.0, target=3.1, checkpoint=tmp_path / "a.pth", epochs=2, facts={"auc": 0.9})
    row = Row(
        number=7,
        phase=1,
        source="sampler",
        seed=1,
        params={"lr": 1e-4},
        specs={"train": {"optim": {"lr": 1e-4}}},
        spec_sha256="x",
        state="complete",
        curve={0: 9.0, 1: 3.0},
        outcome=outcome,
    )
    assert Row.model_validate_json(row.model_dump_json()) == row
    assert Row.model_validate(row.model_dump(mode="json")) == row
    assert (row.rec_id, row.ended) == ("rec_007", True)


def test_only_what_waits_or_runs_has_not_ended():
    def ended(state):
        return Row(
            number=0, phase=1, source="base", seed=1, params={}, specs={}, spec_sha256="x", state=state
        ).ended

    assert [ended(state) for state in ("queued", "running")] == [False, False]
    assert all(ended(state) for state in ("complete", "pruned", "collapsed", "failed"))
