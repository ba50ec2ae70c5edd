"""`best_rec.json`, schema version 1: what a sweep hands on (spec automl 4, pipeline 3).

The winner's hyper-parameters travel as a nested mapping. How long a trial trained and where its files lay
do not: that is the business of whoever trains next.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, FiniteFloat, JsonValue, ValidationError, field_validator

from tasks.artifacts import read_json, write_json
from tasks.automl.ranking import figure
from tasks.automl.trial import Row, SweepMetric
from tasks.automl.winner import QualityCheck
from tasks.errors import DeftError, InputError
from tasks.keys import flat, merged, nested, value_at
from tasks.spec import SpecModel, explained

logger = logging.getLogger("deft")

BUDGET = ("num_epochs", "max_epochs", "epochs", "num_steps")
"""How long a trial trained: observed, and never merged into a spec."""
INTERVALS = ("checkpoint_interval", "validation_interval", "checkpoint_interval_unit")
PATHS = ("_path", "_dir", "_file", "_csv", "checkpoint")
"""How the names of keys end that hold places on the machine of the sweep."""


class BestTrial(SpecModel):
    """The winner; `specs` holds what was tuned and nothing else."""

    rec_id: str = Field(min_length=1)
    score: FiniteFloat
    specs: dict[str, JsonValue]
    observed_budget: dict[str, JsonValue] = Field({})
    checkpoint_uri: str = Field(min_length=1)
    checkpoint_epoch: int | None = Field(None, ge=0)
    checkpoint_step: int | None = Field(None, ge=0)

    @field_validator("specs")
    @classmethod
    def _only_tuned(cls, specs: dict[str, Any]) -> dict[str, Any]:
        clean, budget, dropped = stripped(specs)
        if clean != specs:
            odd = sorted({*budget, *dropped}) or ["a dotted name"]
            raise ValueError(f"not nested and tuned alone: {', '.join(odd)}")
        return specs


class RecScore(SpecModel):
    """A trial by its score; null where it gave no model that could win."""

    rec_id: str
    score: FiniteFloat | None
    job_id: str | None = None


class BestRec(SpecModel):
    """The file."""

    schema_version: Literal[1]
    experiment_id: str = Field(min_length=1)
    metric_name: str = Field(min_length=1)
    direction: Literal["maximize", "minimize"]
    best: BestTrial
    all_recs: list[RecScore]


def best_rec_of(
    rows: Sequence[Row], chosen: QualityCheck, experiment_id: str, metric: SweepMetric
) -> BestRec:
    """What a sweep hands on.

    Args:
        rows: every trial of the sweep.
        chosen: its winner.
        experiment_id: name of the sweep.
        metric: of the sweep; the file holds the one that decided.

    Raises:
        InputError: a trial changed one key in two ways.
    """
    row = next(row for row in rows if row.rec_id == chosen.chosen_rec)
    specs, budget, _ = stripped(row.specs)
    outcome = chosen.outcome
    return BestRec(
        schema_version=1,
        experiment_id=experiment_id,
        metric_name=chosen.metric.name,
        direction="minimize" if chosen.metric.direction == "minimise" else "maximize",
        best=BestTrial(
            rec_id=row.rec_id,
            score=chosen.score,
            specs=specs,
            observed_budget={**budget, "num_epochs": outcome.epochs},
            checkpoint_uri=str(outcome.checkpoint),
            checkpoint_epoch=outcome.epoch,
            checkpoint_step=outcome.step,
        ),
        all_recs=[
            RecScore(
                rec_id=one.rec_id,
                score=figure(one, metric, chosen.metric.name) if one.state == "complete" else None,
                job_id=f"{experiment_id}/{one.rec_id}",
            )
            for one in rows
        ],
    )


def write(file: Path, best: BestRec) -> Path:
    """Write the file, without fields that nobody set."""
    return write_json(file, best.model_dump(mode="json", exclude_unset=True))


def read(file: Path) -> BestRec:
    """Read the file, also one that another program wrote; what had to be adapted is logged.

    Raises:
        InputError: no such file, or as `adapted`.
    """
    try:
        best, warnings = adapted(read_json(file))
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    for text in warnings:
        logger.warning("%s: %s", file, text)
    return best


def adapted(content: Any) -> tuple[BestRec, list[str]]:
    """The content of a file as the model, and what was done to it: dotted names, budget and paths in specs.

    Raises:
        InputError: not this schema (every fault is named), or a key that stands there twice.
    """
    best = content.get("best") if isinstance(content, Mapping) else None
    specs = best.get("specs") if isinstance(best, Mapping) else None
    warnings: list[str] = []
    if isinstance(best, Mapping) and isinstance(specs, Mapping):
        clean, budget, dropped = stripped(specs)
        observed = {**budget, **(best.get("observed_budget") or {})}
        content = {**content, "best": {**best, "specs": clean, "observed_budget": observed}}
        if _has_dotted_names(specs):
            warnings.append("dotted names in best.specs are read as nested ones")
        if budget:
            warnings.append(f"best.specs held {', '.join(budget)}; that is budget and is not merged")
        if dropped:
            warnings.append(f"best.specs held {', '.join(dropped)}; left out")
    try:
        return BestRec.model_validate(content), warnings
    except ValidationError as error:
        raise InputError(explained(error)) from error


def stripped(specs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """What was tuned, as nested names; the budget by name; and the keys that were left out.

    Raises:
        InputError: one key stands there twice, as a dotted and as a nested name, or inside another.
    """
    kept: dict[str, Any] = {}
    budget: dict[str, Any] = {}
    dropped = []
    seen: set[str] = set()
    for key, value in _leaves(specs):
        if key in seen:
            raise InputError(f"best.specs gives {key} twice, as a dotted and as a nested name; keep one")
        seen.add(key)
        name = key.rpartition(".")[2]
        if name in BUDGET:
            if budget.setdefault(name, value) != value:
                raise InputError(f"best.specs gives {name} as {budget[name]} and as {value}; keep one")
        elif name in INTERVALS or name.startswith("resume_") or _is_place(name, value):
            dropped.append(key)
        else:
            kept[key] = value
    try:
        return nested(kept), budget, dropped
    except DeftError as error:
        raise InputError(f"best.specs: {str(error).removeprefix('search space: ')}") from error


def merged_baseline(base: Mapping[str, Any], best: BestRec) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The spec of the loop: the base spec with the tuned keys written over it, and what that changed.

    Returns:
        The spec, and a row `{key, before, after}` for each key whose value is another one.

    Raises:
        InputError: a tuned key lies below a value of the base spec, or is an element that its list lacks.
    """
    tuned = flat(best.best.specs)
    for key in tuned:
        parents = key.split(".")[:-1]
        for depth in range(1, len(parents) + 1):
            place = ".".join(parents[:depth])
            if not isinstance(value_at(base, place), Mapping | None):
                raise InputError(f"tuned key {key}: the base spec has a plain value at {place}")
    changed = [
        {"key": key, "before": before, "after": after}
        for key, after in tuned.items()
        if (before := value_at(base, key)) != after
    ]
    return merged(base, best.best.specs), changed


def _is_place(name: str, value: Any) -> bool:
    return name.endswith(PATHS) and not isinstance(value, int | float)  # drop_path: 0.1 is a rate


def _has_dotted_names(tree: Mapping[str, Any]) -> bool:
    return any(
        "." in name or (isinstance(value, Mapping) and _has_dotted_names(value))
        for name, value in tree.items()
    )


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
