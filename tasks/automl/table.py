"""The sweep's tables: every trial with its values, for people and for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.artifacts import write_csv, write_json, write_text
from tasks.automl.settings import SweepSettings
from tasks.automl.space import Space
from tasks.automl.trial import Row, SweepMetric

TRIALS_CSV = "trials.csv"
TRIALS_JSONL = "trials.jsonl"
ENOUGH = 10
"""Trials from which on the importance of a parameter means something."""


def write_tables(folder: Path, rows: Sequence[Row], metric: SweepMetric) -> None:
    """Write `trials.csv` and `trials.jsonl`, one line a trial."""
    write_text(folder / TRIALS_JSONL, "".join(row.model_dump_json() + "\n" for row in rows))
    lines = [_line(row, metric) for row in rows]
    columns = list(dict.fromkeys(name for line in lines for name in line))
    write_csv(folder / TRIALS_CSV, columns, lines)


def _line(row: Row, metric: SweepMetric) -> dict[str, Any]:
    outcome = row.outcome
    return {
        "rec": row.rec_id,
        "source": row.source,
        "state": row.state,
        metric.name: outcome.score if outcome else None,
        "epoch": outcome.epoch if outcome else row.pruned_at,
        "threshold": outcome.threshold if outcome else None,
        **(outcome.facts if outcome else {}),
        "seed": row.seed,
        **row.params,
        "attempts": row.attempts,
        "seconds": round(row.seconds, 1),
        "reason": row.failure.message if row.failure else (outcome.collapse if outcome else ""),
        "checkpoint": outcome.checkpoint if outcome else None,
    }


def importances(rows: Sequence[Row], space: Space) -> dict[str, float]:
    """Share of each parameter in what made good trials good (PED-ANOVA); empty below ten trials."""
    # These bring scikit-learn with them, where it is installed.
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator

    done = [row for row in rows if row.outcome and row.source != "rerun" and space.holds(row.params)]
    if len(done) < ENOUGH or len(space.searched) < 2:
        return {}
    study = optuna.create_study(direction="minimize")
    study.add_trials(
        optuna.trial.create_trial(
            value=row.outcome.target, params=row.params, distributions=space.distributions
        )
        for row in done
        if row.outcome
    )
    found = optuna.importance.get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return {name: round(float(share), 4) for name, share in found.items()}


def write_study(folder: Path, rows: Sequence[Row], space: Space, metric: SweepMetric, **facts: Any) -> Path:
    """Write `study.json`: what was searched, what was left out and why, how it ended."""
    states = [row.state for row in rows]
    return write_json(
        folder / "study.json",
        {
            **facts,
            "metric": metric.model_dump(),
            "searched": [one.model_dump(mode="json", exclude_defaults=True) for one in space.searched],
            "pinned": space.pinned,
            "inert": dict(space.inert),
            "base": space.base,
            "trials": {state: states.count(state) for state in sorted(set(states))},
            "importance": importances(rows, space),
            "seconds": round(sum(row.seconds for row in rows), 1),
        },
    )


def line_of(row: Row, metric: SweepMetric) -> str:
    """One line on a trial for the log."""
    values = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in row.params.items()
    )
    if row.outcome:
        said = f"{metric.name} {row.outcome.score:.4g}{metric.unit and ' ' + metric.unit}"
        said += f" ({row.outcome.collapse})" if row.outcome.collapse else ""
    elif row.state == "pruned":
        said = f"stopped after epoch {(row.pruned_at or 0) + 1}"
    else:
        said = f"failed: {row.failure.message if row.failure else ''}"
    return f"[phase {row.phase} · {row.rec_id} · {row.source}] {said} · {values} · {row.seconds:.0f} s"


def remaining(first: Row, settings: SweepSettings) -> str:
    """How long the sweep may still take, by its first trial; stopped trials make it less, reruns more."""
    rounds = -(-(settings.trials - 1) // settings.concurrency)
    minutes = first.seconds / 60
    more = settings.trials - 1
    return f"a trial takes {minutes:.1f} min: {more} more take up to {rounds * minutes:.0f} min"
