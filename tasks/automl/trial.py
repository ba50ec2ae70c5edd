"""The trial: one configuration that is trained and measured once, and everything known about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, FiniteFloat

from tasks.errors import DeftError

Source = Literal["base", "sampler", "llm", "fallback", "user", "rerun"]
State = Literal["queued", "running", "complete", "pruned", "collapsed", "failed"]
FailureKind = Literal["infrastructure", "invalid_spec", "out_of_memory", "diverged"]


class SweepMetric(BaseModel):
    """What a sweep minimises or maximises. The direction has to be said; no name gives it away."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    direction: Literal["minimise", "maximise"]
    unit: str = ""

    def key(self, value: float) -> float:
        """A number that is smaller the better the value is."""
        return value if self.direction == "minimise" else -value

    def better(self, a: float, b: float) -> bool:
        """Whether `a` is strictly better than `b`."""
        return self.key(a) < self.key(b)


class Outcome(BaseModel):
    """What one training reached on the validation set.

    Attributes:
        score: the metric, of the checkpoint that is kept.
        target: what the sampler minimises: the metric with ties broken (see `tasks.automl.judging`).
        checkpoint: that checkpoint.
        epoch: its zero-based epoch.
        step: optimiser steps behind it.
        epochs: that the trial trained.
        threshold: of the scores at which the metric was taken.
        facts: other figures of the same scores, for tables (auc, val_loss, ...).
        predicted: rows by predicted class at the model's own margin.
        collapse: why the model is no use, empty when it is.
        warnings: what a person should know.
    """

    score: FiniteFloat
    target: FiniteFloat
    checkpoint: Path
    epoch: int = 0
    step: int = 0
    epochs: int
    threshold: FiniteFloat | None = None
    facts: dict[str, FiniteFloat | None] = {}
    predicted: dict[str, int] = {}
    collapse: str = ""
    warnings: list[str] = []


class Failure(BaseModel):
    """Why a trial gave no outcome; equal signatures are one cause."""

    kind: FailureKind
    signature: str
    message: str


class Row(BaseModel):
    """A trial as the journal and the tables hold it.

    Attributes:
        number: 0 is the base spec.
        seed: of its training.
        params: value of each dimension by name.
        specs: what it changes in the base spec, nested.
        spec_sha256: digest of its whole spec.
        adjustments: what was changed after a failure, such as the batch size after memory ran out.
        curve: the metric after each validated epoch.
        attempts: how often its training was begun.
        pruned_at: epoch after which it was stopped.
    """

    number: int
    phase: Literal[1, 3]
    source: Source
    seed: int
    params: dict[str, Any]
    specs: dict[str, Any]
    spec_sha256: str
    state: State = "queued"
    adjustments: list[str] = []
    curve: dict[int, float] = {}
    attempts: int = 0
    outcome: Outcome | None = None
    failure: Failure | None = None
    pruned_at: int | None = None
    started_at: str | None = None
    seconds: float = 0.0
    note: str = ""

    @property
    def rec_id(self) -> str:
        """Its name on disk."""
        return f"rec_{self.number:03d}"

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state not in ("queued", "running")


class Stopped(DeftError):
    """A training ended before its last epoch because it was asked to."""


Report = Callable[[int, float], bool]
"""Takes a zero-based epoch and the metric after it; gives whether the training should stop."""


class Trainer(Protocol):
    """Trains and measures one spec: the sweep's only view of an engine."""

    def __call__(self, spec: dict[str, Any], folder: Path, report: Report) -> Outcome:
        """Train in `folder` and measure on the validation set.

        Raises:
            Stopped: `report` asked for it.
            DeftError: the training failed.
        """
        ...
