"""What is new, where a night starts, which model is the best, and what is kept: without a flow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.artifacts import sha256_of
from tasks.deft.nights import (
    HISTORY,
    LATEST_BEST,
    Best,
    Content,
    Figure,
    Night,
    choose,
    content_of,
    measured_by,
    nothing_new,
    point_at,
    read_best,
    read_history,
    remember,
    starting_model,
    what_is_new,
)
from tasks.errors import InputError
from tasks.evaluation.contract import MetricContract
from tasks.preflight.folders import FolderSets
from tasks.preflight.sets import BASE_SPEC, KPI, POOL, TRAINING, VALIDATION

SETS = {TRAINING: "t", VALIDATION: "v", KPI: "k", POOL: "p", BASE_SPEC: "s"}
PARAMETERS = {"runtime": "inline", "loop.max_iterations": 1}
FAR = "FAR < 10% at Recall=100%"

figures = st.builds(
    Figure,
    metric=st.just("FAR"),
    value=st.floats(0, 100),
    smaller_is_better=st.just(True),
    feasible=st.booleans(),
)


def content(rows=96, parameters=PARAMETERS, **sets):
    names = {"pool": POOL, "kpi": KPI, "training": TRAINING, "spec": BASE_SPEC}
    changed = {names[name]: value for name, value in sets.items()}
    return Content(sets={**SETS, **changed}, pool_rows=rows, parameters=parameters)


@pytest.fixture
def night(tmp_path):
    return Night(
        date="2026-11-20T02:00:00+00:00",
        why=["it is the first"],
        start="no model of an earlier night",
        content=content(),
        run_folder=tmp_path / "run_20261120_020000",
        delivered="iter1",
        figure=Figure(metric="FAR", value=12.5, unit="%"),
        replaced=True,
        decided="delivered: FAR 12.5 %",
    )


@pytest.fixture
def best(tmp_path):
    checkpoint = tmp_path / "best.pth"
    checkpoint.write_bytes(b"weights")
    return Best(
        checkpoint=checkpoint,
        sha256=sha256_of(checkpoint),
        figure=Figure(metric="FAR", value=12.5, unit="%"),
        measured_by="x",
        base_spec="s",
        date="2026-11-20T02:00:00+00:00",
        run_folder=tmp_path / "run_20261120_020000",
    )


# --- what is new ------------------------------------------------------------------------------------


def test_nothing_is_new_on_equal_content(night):
    assert what_is_new(content(), night) == []
    assert nothing_new(night) == (
        "nothing new: the pool has the 96 rows of night run_20261120_020000 of 2026-11-20"
    )


@pytest.mark.parametrize(
    ("tonight", "said"),
    [
        (content(97, pool="q"), "the pool has 97 rows, 1 more than in the night of 2026-11-20"),
        (content(90, pool="q"), "the pool has 90 rows, 6 fewer than in the night of 2026-11-20"),
        (
            content(pool="q"),
            "the pool has 96 rows as in the night of 2026-11-20, with other content",
        ),
        (content(kpi="l"), "KPI set changed since the night of 2026-11-20"),
        (content(training="u"), "training set changed since the night of 2026-11-20"),
        (content(spec="r"), "base spec changed since the night of 2026-11-20"),
        (
            content(parameters={**PARAMETERS, "loop.max_iterations": 2}),
            "parameter loop.max_iterations 1 -> 2",
        ),
        (content(parameters={**PARAMETERS, "loop.new": 3}), "parameter loop.new None -> 3"),
        (content(parameters={"runtime": "inline"}), "parameter loop.max_iterations 1 -> None"),
    ],
)
def test_each_change_is_a_reason(night, tonight, said):
    assert what_is_new(tonight, night) == [said]


def test_first_night_has_a_reason():
    assert what_is_new(content(), None) == ["it is the first night of this workspace that completes"]


def test_content_covers_tables_images_and_named_files(tmp_path):
    for name in ("train", "validation", "kpi", "pool"):
        for label in ("good", "bad"):
            (tmp_path / name / label).mkdir(parents=True)
            (tmp_path / name / label / "1.png").write_bytes(f"{name} {label}".encode())
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "baseline_spec.yaml").write_text("a: 1\n")
    (tmp_path / "space.yaml").write_text("lr: {}\n")

    def now():
        files = {"phase1.search_space": tmp_path / "space.yaml"}
        return content_of(FolderSets(tmp_path), {"loop": {"topn": 5}}, files)

    first = now()
    assert first.pool_rows == 2
    assert first.parameters == {"loop.topn": 5}
    assert set(first.sets) == {*SETS, "phase1.search_space"}
    assert now() == first
    (tmp_path / "pool" / "bad" / "1.png").write_bytes(b"another image")
    (tmp_path / "space.yaml").write_text("lr: {low: 1}\n")
    changed = {name for name, value in now().sets.items() if value != first.sets[name]}
    assert changed == {POOL, "phase1.search_space"}
    (tmp_path / "specs" / "baseline_spec.yaml").write_text("a: 2\n")
    assert first.with_spec(tmp_path / "specs" / "baseline_spec.yaml").sets[BASE_SPEC] == now().sets[BASE_SPEC]


# --- where it starts --------------------------------------------------------------------------------


def test_night_goes_on_from_the_best_model(best):
    start, said = starting_model(best, content(), None, sweeps=False)
    assert start == best.checkpoint
    assert said == "the best model so far, FAR 12.5 %, of the night of 2026-11-20"


def test_night_begins_anew_where_it_must(best, night):
    def reason(*given, sweeps=False):
        start, said = starting_model(*given, sweeps=sweeps)
        assert start is None
        return said

    assert reason(None, content(), None) == "no model of an earlier night"
    assert "the base spec is not that of the best model" in reason(best, content(spec="r"), None)
    assert "other base data" in reason(best, content(training="u"), night, sweeps=True)
    assert "other base data" in reason(best, content(), None, sweeps=True)
    assert starting_model(best, content(training="u"), night, sweeps=False)[0] == best.checkpoint
    assert starting_model(best, content(), night, sweeps=True)[0] == best.checkpoint
    best.checkpoint.write_bytes(b"other weights, longer")
    assert "gone or altered" in reason(best, content(), None)
    best.checkpoint.unlink()
    assert "gone or altered" in reason(best, content(), None)


# --- which model is the best ------------------------------------------------------------------------


@given(st.lists(figures, min_size=1, max_size=6))
def test_delivered_model_never_gets_worse_on_one_set(nights):
    base = {"checkpoint": "m", "sha256": "", "measured_by": "x", "base_spec": "s", "date": "d"}
    best, seen = None, []
    for figure in nights:
        best, _ = choose(Best(**base, figure=figure, run_folder="r"), best)
        seen.append(figure)
        assert not any(one.better_than(best.figure) for one in seen)


@given(figures, figures)
def test_better_is_strict_and_puts_constraints_first(one, other):
    assert not (one.better_than(other) and other.better_than(one))
    assert not one.better_than(one)
    if one.feasible != other.feasible:
        assert one.better_than(other) == one.feasible


def test_larger_may_be_better():
    low, high = (Figure(metric="Recall", value=value, smaller_is_better=False) for value in (1, 2))
    assert high.better_than(low)
    assert not low.better_than(high)


@pytest.mark.parametrize(
    ("value", "by", "replaced", "said"),
    [
        (12.4, "x", True, "delivered: FAR 12.4 %, better than the FAR 12.5 % of 2026-11-20"),
        (12.5, "x", False, "kept: tonight's FAR 12.5 % is no better than the FAR 12.5 % of 2026-11-20"),
        (13.0, "x", False, "kept: tonight's FAR 13 % is worse than the FAR 12.5 % of 2026-11-20"),
        (13.0, "y", True, "KPI set or metric changed, so it is not compared with the FAR 12.5 %"),
    ],
)
def test_decision_in_words(best, value, by, replaced, said):
    figure = best.figure.model_copy(update={"value": value})
    tonight = best.model_copy(update={"figure": figure, "measured_by": by})
    chosen, decided = choose(tonight, best)
    assert (chosen is tonight) is replaced
    assert said in decided


def test_first_model_is_delivered(best):
    assert choose(best, None) == (best, "delivered: FAR 12.5 %")


def test_figures_compare_on_one_kpi_set_by_one_metric_whatever_its_target():
    base = measured_by(content(), MetricContract.of(FAR))
    assert measured_by(content(97, pool="q"), MetricContract.of("FAR < 5% at Recall=100%")) == base
    assert measured_by(content(kpi="l"), MetricContract.of(FAR)) != base
    assert measured_by(content(), MetricContract.of("FAR < 10% at Recall=99%")) != base


# --- what is kept -----------------------------------------------------------------------------------


def test_history_and_pointer_are_read_as_they_were_written(tmp_path, night, best):
    results = tmp_path / "results"
    assert (read_history(results), read_best(results)) == ([], None)
    remember(results, night)
    remember(results, night.model_copy(update={"replaced": False}))
    point_at(results, best)
    assert [one.replaced for one in read_history(results)] == [True, False]
    assert read_history(results)[0] == night
    assert read_best(results) == best


def test_damaged_files_are_named_with_the_line(tmp_path, night):
    results = tmp_path / "results"
    with remember(results, night).open("a") as file:
        file.write("{}\n")
    with pytest.raises(InputError, match=rf"{HISTORY} line 2: .*mend or remove the line"):
        read_history(results)
    (results / LATEST_BEST).write_text('{"checkpoint": 3}')
    with pytest.raises(InputError, match=rf"{LATEST_BEST}: .*remove it to begin anew"):
        read_best(results)
    (results / LATEST_BEST).write_text('{"checkpoint"')
    with pytest.raises(InputError, match="is not valid JSON"):
        read_best(results)
