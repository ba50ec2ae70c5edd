"""The ranking of a sweep's trials: which of them may win, and in what order (spec pipeline 10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tasks.automl.judging import is_one_class
from tasks.automl.trial import Row, SweepMetric
from tasks.errors import InputError

Selection = Literal["far_direct", "val_loss_guarded", "topk_by_far"]
"""What ranks: the metric of the sweep; the validation loss, without models that predict one class; or FAR,
among the few of the lowest validation loss."""

CANDIDATES = 3
"""How many of the best may win, when the first ones turn out to be no use; as many keep their checkpoints."""

VAL_LOSS = SweepMetric(name="val_loss", direction="minimise")
FAR = SweepMetric(name="far_pct", direction="minimise", unit="%")


def decided_by(metric: SweepMetric, selection: Selection) -> SweepMetric:
    """The metric that decides under a selection, when `metric` is that of the sweep."""
    return {"far_direct": metric, "val_loss_guarded": VAL_LOSS, "topk_by_far": FAR}[selection]


def figure(row: Row, metric: SweepMetric, name: str) -> float | None:
    """A figure of a trial by name: its score if that is the sweep's metric, else one of its facts."""
    if row.outcome is None:
        return None
    return row.outcome.score if name == metric.name else row.outcome.facts.get(name)


def ranked(
    rows: Sequence[Row], metric: SweepMetric, selection: Selection = "far_direct", top_k: int = 3
) -> list[Row]:
    """The trials that may win, best first; of equal ones the lower target, then the earlier.

    Pruned, failed and collapsed ones cannot win, and reruns are no trials of their own. Where the validation
    loss decides, neither can a model that predicts one class. `topk_by_far` gives `top_k` at most.

    Raises:
        InputError: a trial lacks the figure that the selection needs.
    """
    first = metric if selection == "far_direct" else VAL_LOSS
    may_win = [
        row for row in rows if row.source != "rerun" and not refusal(row, decided_by(metric, selection))
    ]
    order = sorted(may_win, key=lambda row: _rank(row, metric, first))
    if selection == "topk_by_far":
        return sorted(order[:top_k], key=lambda row: _rank(row, metric, FAR))
    return order


def refusal(row: Row, decider: SweepMetric) -> str:
    """Why a trial cannot win, whatever its figure; empty if it can."""
    if row.outcome is None:
        return f"{row.state}: {row.failure.message}" if row.failure else row.state
    if row.outcome.collapse:
        return f"collapsed: {row.outcome.collapse}"
    if row.state != "complete":
        return row.state
    if decider.name == VAL_LOSS.name and is_one_class(row.outcome.predicted):
        return "predicts one class, and its loss does not show it"
    return ""


def _rank(row: Row, metric: SweepMetric, by: SweepMetric) -> tuple[float, float, int]:
    value = figure(row, metric, by.name)
    if value is None or row.outcome is None:
        raise InputError(
            f"trial {row.rec_id} has no {by.name}, by which the winner is chosen; set selection far_direct"
        )
    return by.key(value), row.outcome.target if by.name == metric.name else 0.0, row.number
