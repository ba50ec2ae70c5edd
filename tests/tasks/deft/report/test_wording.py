import pytest

from tasks.deft.report import wording
from tasks.deft.report.files import LoopFiles
from tasks.deft.report.tables import defect_types, score_ranges
from tasks.deft.stages import LOOP_STOP


def bound(operator, unit):
    name = "rate_pct" if unit == "%" else "rate"
    return {"name": name, "display_name": "Rate", "operator": operator, "target": 10, "unit": unit}


@pytest.mark.parametrize(
    ("operator", "unit", "value", "shown"),
    [
        ("<", "%", 12.5, "2.5pp from target"),
        ("<=", "ms", 30, "20ms from target"),
        (">", "%", 4, "6pp from target"),
        (">=", "ms", 9, "1ms from target"),
        (">=", "ms", 11, "-1ms from target"),
    ],
)
def test_the_gap_follows_the_operator(copy, operator, unit, value, shown):
    contract = {**bound(operator, unit), "evaluator": {"type": "command", "executable": "/opt/measure"}}
    copy.change(metric_contract=contract)
    result = {"name": contract["name"], "value": value, "unit": unit}
    copy.change_phase("iter1", metric_result=result)
    assert wording.gap(LoopFiles.of(copy.folder), "iter1") == shown


def test_the_gap_is_that_of_a_constraint_where_only_that_fails(copy):
    result = LoopFiles.of(copy.folder).state.phase("iter1").metric_result
    copy.change_phase("iter1", metric_result={**result, "value": 0.0, "constraints": {"recall_pct": 98.0}})
    assert wording.gap(LoopFiles.of(copy.folder), "iter1") == "2pp from target of Recall"


def test_a_target_that_no_share_can_reach_is_told(copy):
    contract = LoopFiles.of(copy.folder).state.metric_contract
    copy.change(metric_contract={**contract, "target": 0.0})
    copy.change_phase("final_automl", passed=False)
    assert any(
        "No model can reach FAR < 0 %" in text for text in wording.recommendations(LoopFiles.of(copy.folder))
    )


def test_placed_short_and_rare_defects_are_told(run):
    run.after("iter2", LOOP_STOP)
    advice = " ".join(wording.recommendations(LoopFiles.of(run.folder)))
    assert "iter1: generation placed 3 of 4 defects" in advice
    assert "Fewer than 10 KPI samples of" in advice


def test_nothing_measured_says_so(run):
    run.cut(1)
    assert "Nothing is measured yet" in wording.recommendations(LoopFiles.of(run.folder))[0]


def test_ranges_and_types_count_every_sample_once(run):
    files = LoopFiles.of(run.folder)
    for label in ("baseline", "iter1", "iter2"):
        ranges = score_ranges(files, label)
        assert (sum(row[1] for row in ranges), sum(row[2] for row in ranges)) == (12, 3)
        assert sum(row[1] for row in defect_types(files, label)) == 3
        alarms = sum(int(row[3].split()[0]) for row in ranges if row[3] and "false" in row[3])
        assert f"{alarms}/12" == files.measured[label].diagnostics["far_counts"]


def test_the_hardest_type_comes_first_with_what_it_costs(run):
    rows = defect_types(LoopFiles.of(run.folder), "baseline")
    assert rows[0] == ("missing", 2, "0.35 to 0.95", "yes, all", "5 of 12")
