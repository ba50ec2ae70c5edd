import json
import re
from pathlib import Path

import html5lib
import pytest

from tasks.artifacts import write_json
from tasks.automl.files import Dimension, read_sweep
from tasks.automl.report import REPORT, headline, render
from tasks.automl.space import Parameter, Space
from tasks.automl.table import write_study, write_tables
from tasks.automl.trial import Failure, Outcome, Row, SweepMetric
from tasks.automl.winner import Policy, choose
from tasks.errors import InputError

FAR = SweepMetric(name="far_pct", direction="minimise", unit="%")
EVIL = "<script>alert(1)</script>"
SPACE = Space(
    searched=(
        Parameter(name="lr", keys=("train.optim.lr",), type="float", low=1e-6, high=1e-2, log=True),
        Parameter(name="decay$x$", type="float", low=0.0, high=1.0),
        Parameter(name="optim", type="choice", choices=("adamw", EVIL)),
    ),
    pinned={"train.augment": True},
    inert=(("momentum", f"no effect while {EVIL} is adamw"),),
    base={"lr": 1e-4, "decay$x$": 0.1, "optim": "adamw"},
)


def row(number, score=None, **fields):
    outcome = None
    if score is not None:
        facts = {"far_pct": score, "val_loss": 0.5}
        outcome = Outcome(
            score=score, target=score + 0.001, checkpoint=Path(__file__), epoch=3, epochs=5, facts=facts,
            predicted={"PASS": 5, "NO_PASS": 4},
        )  # fmt: skip
    params = {
        "lr": 10.0 ** -(number % 4 + 2),
        "decay$x$": (number * 0.37) % 1,
        "optim": ("adamw", EVIL)[number % 2],
    }
    return Row(
        **{"number": number, "phase": 1, "seed": 1, "specs": {}, "spec_sha256": "x", "seconds": 12.0}
        | {"state": "complete" if outcome else "failed", "source": "base" if number == 0 else "sampler"}
        | {"outcome": outcome, "params": SPACE.base if number == 0 else params}
        | fields
    )


def failed(number, message):
    return row(number, failure=Failure(kind="diverged", signature=message[:9], message=message))


def written(folder, rows, *, ended=True, zero_shot=40.0):
    """A sweep on disk, as the flow leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "sweep_inputs.json", {"metric": "far_pct"})
    all_rows = list(rows)

    def rerun(of, seed):
        again = row(len(all_rows), of.outcome.score + 3, source="rerun", seed=seed, params=of.params)
        all_rows.append(again)
        return again

    if ended:
        check = choose(rows, FAR, rerun, Policy(), zero_shot=zero_shot)
        write_json(folder / "quality_check.json", check.model_dump(mode="json"))
        write_study(folder, all_rows, SPACE, FAR, algorithm="bayesian", warnings=check.reasons)
    write_tables(folder, all_rows, FAR)
    return folder


def page(folder):
    text = render(folder).read_text()
    html5lib.HTMLParser(strict=True).parse(text)
    return text


@pytest.fixture
def sweep(tmp_path):
    scores = [20, 30, 12, 8, 25, 18, 14, 9, 40, 2, 7, 33]
    rows = [row(number, float(score)) for number, score in enumerate(scores)]
    return written(tmp_path / "automl_phase1", [*rows, failed(12, f"loss is nan {EVIL} a|b")])


def test_headline_says_winner_spec_before_and_start(sweep):
    assert headline(read_sweep(sweep)) == (
        "Trial rec_009 wins with FAR 5 % on the validation set. The spec as it was before reached 20 %. "
        "It is better than a model without training (40 %)."
    )


def test_page_stands_alone_and_escapes_what_others_wrote(sweep):
    text = page(sweep)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_importance_is_shown_from_ten_trials_on(sweep, tmp_path):
    assert "share of what made trials good" in page(sweep)
    few = written(tmp_path / "few", [row(number, 10.0 + number) for number in range(4)])
    text = page(few)
    assert "share of what made trials good" not in text
    assert "Not shown: 4 trials gave a score" in text


def test_reruns_tell_how_far_one_spec_scatters(sweep):
    assert "3 runs of rec_009 lie between 2 % and 5 %" in page(sweep)


def test_failures_and_states_stand_with_their_reasons(sweep):
    text = page(sweep)
    assert "Failures" in text
    assert "a|b" in text
    assert "12 complete, 1 failed" in text


def test_sweep_that_still_runs(tmp_path):
    text = page(written(tmp_path / "s", [row(0, 20.0), row(1, state="running")], ended=False))
    assert "No winner is chosen yet: 1 trial ended, the best so far is rec_000 with FAR 20 %" in text
    assert "Not checked yet" in text


def test_sweep_of_failures_alone(tmp_path):
    text = page(
        written(tmp_path / "s", [failed(0, "out of memory"), failed(1, "out of memory")], ended=False)
    )
    assert "There is no winner: none of 2 trials gave a model" in text
    assert "No trial has a score yet" in text


def test_sweep_that_has_just_begun(tmp_path):
    write_json(tmp_path / "sweep_inputs.json", {"metric": "far_pct"})
    assert "No trial has ended yet" in page(tmp_path)


def test_no_gain_is_said(tmp_path):
    text = page(written(tmp_path / "s", [row(n, 10.0 + n) for n in range(3)], zero_shot=5.0))
    assert "NOT better than a model without training (5 %)" in text
    assert "The winner is no better than" in text


def test_no_sweep_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"is no sweep: it has neither sweep_inputs.json nor trials.jsonl"):
        render(tmp_path)


def test_spoilt_trial_is_named_by_its_line(sweep):
    (sweep / "trials.jsonl").write_text('{"number": 0}\n')
    with pytest.raises(InputError, match=r"trials.jsonl: line 1"):
        render(sweep)


def test_deleted_study_leaves_a_page(sweep):
    (sweep / "study.json").unlink()
    assert "Trial rec_009 wins" in page(sweep)


def test_direction_of_an_unfinished_sweep_is_that_of_its_sampler(tmp_path):
    rows = [row(number, 10.0 + number) for number in range(3)]
    rows = [one.model_copy(update={"outcome": one.outcome.model_copy(update={"target": -one.outcome.score})})
            for one in rows]  # fmt: skip
    assert read_sweep(written(tmp_path / "s", rows, ended=False)).metric.direction == "maximise"


def test_equal_files_give_equal_pages(sweep):
    first = render(sweep).read_bytes()
    assert render(sweep).read_bytes() == first
    assert (sweep / REPORT).stat().st_size < 300_000


@pytest.mark.parametrize(
    ("one", "value", "place"),
    [
        (Dimension(name="lr", low=1e-4, high=1e-2, log=True), 1e-3, 0.5),
        (Dimension(name="x", low=0, high=4), 3, 0.75),
        (Dimension(name="x", low=2, high=2), 2, 0.5),
        (Dimension(name="c", type="choice", choices=("a", "b", "c")), "b", 0.5),
        (Dimension(name="c", type="choice", choices=("a", "b")), "z", None),
        (Dimension(name="x", low=0, high=4), None, None),
        (Dimension(name="x", low=0, high=4), "3", None),
    ],
)
def test_position_on_an_axis(one, value, place):
    assert one.position(value) == (None if place is None else pytest.approx(place))


def test_trials_of_the_page_are_those_of_the_table(sweep):
    lines = [json.loads(line) for line in (sweep / "trials.jsonl").read_text().splitlines()]
    text = page(sweep)
    assert all(f"rec_{line['number']:03d}" in text for line in lines)
