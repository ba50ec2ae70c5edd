"""What the phases of a pipeline hand to each other, whatever kind of model they are about."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel


class Stage(BaseModel):
    """A measured stage of a pipeline: a row of its trajectory.

    Attributes:
        stage: what people call it.
        set: which rows it was measured on; figures of two sets are never subtracted.
        metric: name of the figure.
        value: the figure.
        unit: of it.
        smaller_is_better: its direction.
        threshold: of the scores, where there is one.
        rows: training rows behind it.
        seconds: of computing.
        checkpoint: the model.
    """

    stage: str
    set: Literal["validation", "KPI"]
    metric: str
    value: float
    unit: str = ""
    smaller_is_better: bool = True
    threshold: float | None = None
    rows: int | None = None
    seconds: float | None = None
    checkpoint: Path | None = None


class TunedModel(BaseModel):
    """A trained model that is handed on.

    Attributes:
        spec: the whole spec that it was trained with.
        checkpoint: its weights.
        epoch: zero-based epoch of the checkpoint.
        step: optimiser steps behind it.
        facts: other figures of the validation set.
        source: where it comes from, such as `automl_phase1` or `external`.
    """

    spec: dict[str, Any]
    checkpoint: Path
    epoch: int = 0
    step: int = 0
    facts: dict[str, float | None] = {}
    source: str


class SweepResult(BaseModel):
    """What a sweep hands on.

    Attributes:
        folder: of the sweep.
        model: the winner.
        best_rec: the file `best_rec.json`.
        stage: the winner as a row of the trajectory.
        untrained: the same of the starting checkpoint, or of a model that has learnt nothing.
        gained: whether the winner is better than that; none where there is nothing to compare.
        warnings: what a person should know.
    """

    folder: Path
    model: TunedModel
    best_rec: Path
    stage: Stage
    untrained: Stage | None = None
    gained: bool | None = None
    warnings: list[str] = []


class LoopOutcome(BaseModel):
    """What a finished data loop hands on.

    Attributes:
        best: label of its best phase.
        checkpoint: of that phase.
        last: label of the last iteration; none when the baseline was good enough.
        combined_csv: the enlarged training set of that iteration.
        met: whether the metric contract passes.
        stages: every measured phase.
    """

    best: str
    checkpoint: Path
    last: str | None
    combined_csv: Path | None
    met: bool
    stages: list[Stage]


class Registered(BaseModel):
    """The model of the second sweep on the KPI set, and what is delivered in the end.

    Attributes:
        stage: the second sweep's model on the KPI set.
        delivered: label of the phase whose model is delivered: `final_automl`, or one of the loop.
        checkpoint: of the delivered model.
        threshold: of the delivered model.
        links: files of the hand-over by name.
    """

    stage: Stage
    delivered: str
    checkpoint: Path
    threshold: float | None
    links: dict[str, Path] = {}
