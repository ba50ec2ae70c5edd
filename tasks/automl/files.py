"""A sweep as it lies on disk, finished or not: what a report needs to know of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks.artifacts import read_json
from tasks.automl.table import TRIALS_JSONL
from tasks.automl.trial import Row, SweepMetric
from tasks.automl.winner import QualityCheck
from tasks.errors import InputError
from tasks.spec import explained

STUDY, QUALITY, INPUTS = "study.json", "quality_check.json", "sweep_inputs.json"
KNOWN_BY = (INPUTS, TRIALS_JSONL)
"""A folder that holds one of these is a sweep."""


class Dimension(BaseModel):
    """A searched parameter as `study.json` holds it, or as the trials show it while there is none yet."""

    name: str
    keys: tuple[str, ...] = ()
    type: str = "float"
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[str | int | float | bool, ...] = ()
    reason: str = ""

    @property
    def places(self) -> tuple[str, ...]:
        """The dotted keys of the spec that get the value."""
        return self.keys or (self.name,)

    @property
    def range(self) -> str:
        """What was searched, for a person."""
        if self.type == "choice":
            return ", ".join(map(str, self.choices))
        if self.low is None or self.high is None:
            return "—"
        return f"{self.low:.4g} to {self.high:.4g}{', logarithmic' if self.log else ''}"

    def position(self, value: object) -> float | None:
        """Where a value stands between the ends, 0 to 1; none where it is no value of this parameter."""
        if self.type == "choice":
            place = self.choices.index(value) if value in self.choices else None
            return None if place is None else place / max(1, len(self.choices) - 1)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        low, high = self.low or 0.0, self.high or 0.0
        if self.log and min(low, high, value) > 0:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return 0.5 if high == low else (value - low) / (high - low)


@dataclass(frozen=True)
class SweepFiles:
    """What lies in the folder of a sweep.

    Attributes:
        folder: of the sweep.
        rows: its trials, in order.
        metric: what the trials were measured by.
        study: content of `study.json`; empty before the sweep has ended.
        quality: the choice of the winner; none before.
    """

    folder: Path
    rows: list[Row]
    metric: SweepMetric
    study: dict[str, Any] = field(default_factory=dict)
    quality: QualityCheck | None = None

    @property
    def dimensions(self) -> list[Dimension]:
        """The searched parameters."""
        if "searched" in self.study:
            return [Dimension.model_validate(one) for one in self.study["searched"]]
        names = dict.fromkeys(name for row in self.rows for name in row.params)
        return [_seen(name, [row.params.get(name) for row in self.rows]) for name in names]

    @property
    def trials(self) -> list[Row]:
        """The trials without the reruns of a winner that was doubted."""
        return [row for row in self.rows if row.source != "rerun"]

    @property
    def winner(self) -> Row | None:
        """The trial whose values won."""
        chosen = self.quality.chosen_rec if self.quality else None
        return next((row for row in self.rows if row.rec_id == chosen), None)

    @property
    def importance(self) -> dict[str, float]:
        """Share of each parameter in what made good trials good; empty where too few trials say so."""
        return dict(self.study.get("importance", {}))


def read_sweep(folder: Path) -> SweepFiles:
    """Read what there is of a sweep.

    Raises:
        InputError: the folder is no sweep, or a file of it cannot be read; it is named.
    """
    if not any((folder / name).is_file() for name in KNOWN_BY):
        raise InputError(f"{folder} is no sweep: it has neither {' nor '.join(KNOWN_BY)}")
    study, inputs = _mapping(folder / STUDY), _mapping(folder / INPUTS)
    rows = _rows(folder / TRIALS_JSONL)
    try:
        quality = (
            QualityCheck.model_validate(read_json(folder / QUALITY)) if (folder / QUALITY).is_file() else None
        )
        metric = (
            SweepMetric.model_validate(study["metric"])
            if "metric" in study
            else _metric_of(str(inputs.get("metric", "score")), rows, quality)
        )
    except ValidationError as error:
        raise InputError(f"{folder}: {explained(error)}; {QUALITY} or {STUDY} was changed") from error
    return SweepFiles(folder, rows, metric, study, quality)


def _mapping(file: Path) -> dict[str, Any]:
    """The content of a JSON file; empty where there is none."""
    content = read_json(file) if file.is_file() else {}
    if not isinstance(content, dict):
        raise InputError(f"{file} holds no mapping; restore it")
    return content


def _rows(file: Path) -> list[Row]:
    if not file.is_file():
        return []
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(Row.model_validate_json(line))
        except ValidationError as error:
            raise InputError(f"{file}: line {number}: {explained(error)}") from error
    return rows


def _metric_of(name: str, rows: Sequence[Row], quality: QualityCheck | None) -> SweepMetric:
    """The metric of a sweep that has not written `study.json` yet.

    What the sampler minimises lies near the score where that is minimised, and near its negative otherwise.
    """
    if quality and quality.metric.name == name:
        return quality.metric
    outcomes = [row.outcome for row in rows if row.outcome]
    near = sum(abs(one.target - one.score) for one in outcomes)
    far = sum(abs(one.target + one.score) for one in outcomes)
    unit = "%" if name.endswith("_pct") else ""
    return SweepMetric(name=name, direction="minimise" if near <= far else "maximise", unit=unit)


def _seen(name: str, values: Sequence[Any]) -> Dimension:
    """A parameter known by the values of the trials alone."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values) and numbers:
        return Dimension(name=name, low=min(numbers), high=max(numbers))
    choices = tuple(dict.fromkeys(value for value in values if isinstance(value, str | int | float | bool)))
    return Dimension(name=name, type="choice", choices=choices)
