from pathlib import Path

from tasks.deft.state import DeftState, Event, Phase
from tasks.deft.trajectory import status_line, trajectory_table
from tasks.evaluation.contract import MetricContract

CONTRACT = MetricContract.parse("FAR < 10% at Recall=100%")


def phase(value, passed):
    result = {
        "name": "far_pct",
        "value": value,
        "unit": "%",
        "threshold": 0.25,
        "constraints": {"recall_pct": 100.0},
        "diagnostics": {"far_pct_at_recall_99_5": value / 2, "auc": 0.99},
    }
    return Phase(metric_result=result, threshold=0.25, training_rows=600, passed=passed)


def state(*events, **phases):
    return DeftState(
        started_at="",
        kpi_target="FAR < 10% at Recall=100%",
        metric_contract={},
        results_dir=Path("/run"),
        max_iterations=2,
        execution_policy={},
        config={},
        iterations=phases,
        events=[
            Event(seq=1, ts="", iter=label, stage=stage, status="ok", summary="done", duration_sec=3)
            for label, stage in events
        ],
    )


def test_status_line_says_where_the_loop_stands_and_what_comes_next():
    line = status_line(state(("iter1", "evaluate"), iter1=phase(12.0, False)))
    assert line == "[iter 1/2 · evaluate] done · target FAR < 10% at Recall=100% · 3 s · next: rca"


def test_status_line_after_the_end_has_nothing_next():
    assert status_line(state(("baseline", "loop_stop"))).endswith("next: nothing")


def test_table_has_one_line_a_measured_phase():
    table = trajectory_table(
        state(baseline=phase(40.0, False), iter1=phase(5.0, True), iter2=Phase()), CONTRACT
    )
    lines = table.splitlines()
    assert [line.split()[0] for line in lines] == ["phase", "-" * len(lines[0]), "baseline", "iter1"]
    assert "40.00 %" in lines[2]
    assert "20.00 %" in lines[2]
    assert lines[3].rstrip().endswith("yes")
