"""The plan of a sweep: what it is about, and where its files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.automl.settings import SweepSettings
from tasks.automl.space import Check, Space
from tasks.automl.trial import Row, SweepMetric, Trainer
from tasks.keys import merged

RECS = "recs"


@dataclass(frozen=True)
class Plan:
    """What a sweep is about.

    Attributes:
        folder: of the sweep.
        phase: of the pipeline.
        base: the spec that trial 0 runs as it is.
        space: worked out on it.
        metric: what makes one trial better than another.
        epochs: of a whole trial.
        settings: what the person chose.
        trainer: the engine.
        check: validates a whole spec before it is trained.
    """

    folder: Path
    phase: Literal[1, 3]
    base: dict[str, Any]
    space: Space
    metric: SweepMetric
    epochs: int
    settings: SweepSettings
    trainer: Trainer
    check: Check

    def place(self, row: Row) -> Path:
        """The folder of a trial."""
        return self.folder / RECS / row.rec_id

    def spec_of(self, row: Row) -> dict[str, Any]:
        """The whole spec of a trial."""
        return merged(self.base, row.specs)
