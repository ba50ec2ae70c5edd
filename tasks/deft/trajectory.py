"""How a loop went, in lines for a person: the status after a step, the table at the end."""

from __future__ import annotations

from tasks.deft.state import DeftState
from tasks.evaluation.contract import MetricContract, MetricResult


def status_line(state: DeftState) -> str:
    """One line after a commit: where the loop stands, what the step gave, and what comes next."""
    event = state.events[-1]
    upcoming = state.next_step()
    parts = [event.summary, f"{event.duration_sec} s"]
    if event.stage == "evaluate":
        parts.insert(1, f"target {state.kpi_target}")
    parts.append(f"next: {upcoming.stage if upcoming else 'nothing'}")
    number = event.iter.removeprefix("iter")
    where = f"iter {number}/{state.max_iterations}" if number.isdigit() else event.iter
    return f"[{where} · {event.stage}] " + " · ".join(parts)


def trajectory_rows(state: DeftState, contract: MetricContract) -> list[tuple[str, ...]]:
    """A line of every measured phase, under the `header`."""
    rows: list[tuple[str, ...]] = []
    for label, phase in state.measured().items():
        result = MetricResult.model_validate(phase.metric_result)
        extra = result.diagnostics
        rows.append(
            (
                label,
                str(phase.training_rows),
                f"{result.value:.2f} {result.unit}",
                _figure(extra.get("far_pct_at_recall_99_5"), ".2f", " %"),
                _figure(extra.get("auc"), ".4f"),
                _figure(phase.threshold, ".4g"),
                "yes" if phase.passed else "no",
            )
        )
    return rows


def header(contract: MetricContract) -> tuple[str, ...]:
    """What the columns of the trajectory are."""
    return ("phase", "train rows", contract.display_name, "FAR @ 99.5 % recall", "AUC", "threshold", "met")


def trajectory_table(state: DeftState, contract: MetricContract) -> str:
    """The trajectory for a terminal."""
    rows = [header(contract), *trajectory_rows(state, contract)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _figure(value: object, form: str, unit: str = "") -> str:
    """A figure that another evaluator than ours may not give."""
    return f"{value:{form}}{unit}" if isinstance(value, float | int) else "—"
