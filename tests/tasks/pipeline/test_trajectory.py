from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tasks.pipeline.facts import Stage
from tasks.pipeline.trajectory import HEADER, NONE, PipelineResult, as_markdown, as_text, rows_of

BEFORE, START = HEADER.index("Δ before"), HEADER.index("Δ start")

stages_strategy = st.lists(
    st.builds(
        Stage,
        stage=st.sampled_from(["baseline", "iter1", "phase 1 best"]),
        set=st.sampled_from(["validation", "KPI"]),
        metric=st.sampled_from(["far_pct", "FAR", "val_loss"]),
        value=st.floats(-1e6, 1e6),
        unit=st.sampled_from(["%", ""]),
        threshold=st.none() | st.floats(0, 2),
        rows=st.none() | st.integers(0, 10**6),
        seconds=st.none() | st.floats(0, 1e6),
    ),
    min_size=1,
    max_size=12,
)


def result(stages, **changed):
    given = {
        "status": "complete",
        "delivered": "iter2",
        "checkpoint": Path("/run/iter2/model.pth"),
        "threshold": 0.25,
        "reason": "The loop's best model.",
        "stages": stages,
        "folder": Path("/run"),
    }
    return PipelineResult.model_validate(given | changed)


@given(stages_strategy)
def test_differences_stay_within_one_set_and_one_metric(stages):
    """A row's figures come from the earlier rows of its own set and metric; without one there is none."""
    for number, (stage, row) in enumerate(zip(stages, rows_of(stages)[1:], strict=True)):
        earlier = [one.value for one in stages[:number] if (one.set, one.metric) == (stage.set, stage.metric)]
        expected = [f"{stage.value - one:+.4g}" for one in (earlier[-1:] + earlier[:1])] or [NONE, NONE]
        assert [row[BEFORE], row[START]] == expected


@given(stages_strategy)
def test_what_other_sets_say_changes_no_row(stages):
    """Leaving out every other set and metric leaves the rows of one as they were."""
    first = stages[0]
    kept = [(one.set, one.metric) == (first.set, first.metric) for one in stages]
    alone = rows_of([one for one, keep in zip(stages, kept, strict=True) if keep])
    among = [row for row, keep in zip(rows_of(stages)[1:], kept, strict=True) if keep]
    assert alone[1:] == among


@given(stages_strategy)
def test_terminal_and_markdown_show_the_same_table(stages):
    rows = rows_of(stages)
    text = as_text(stages).splitlines()
    assert [line.split() for line in (text[0], *text[2:])] == [" ".join(row).split() for row in rows]
    assert len(text[1]) == max(map(len, text))
    table = [line for line in as_markdown(result(stages), {}).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if "---" not in line]
    assert cells == [list(row) for row in rows]


def test_row_shows_unit_threshold_rows_and_hours():
    stage = Stage(
        stage="iter1", set="KPI", metric="FAR", value=3.25, unit="%", threshold=0.5, rows=150, seconds=5400
    )
    assert rows_of([stage])[1] == ("iter1", "KPI", "FAR 3.25 %", NONE, NONE, "0.5", "150", "1.50")


def test_markdown_says_what_is_delivered_why_and_with_which_warnings():
    stage = Stage(stage="iter2", set="KPI", metric="FAR", value=3, unit="%")
    whole = result([stage], warnings=["a winner by luck"], reason="Rolled back: it is no better.")
    text = as_markdown(whole, {"loop state": Path("/run/deft_state.json")})
    assert "**complete**: iter2 is delivered. Rolled back: it is no better." in text
    assert "Checkpoint `/run/iter2/model.pth`, threshold 0.25." in text
    assert "\n- a winner by luck\n" in text
    assert "\n- loop state: `/run/deft_state.json`\n" in text


def test_markdown_without_warnings_says_so():
    assert "## Warnings\n\nnone\n" in as_markdown(result([]), {})
