"""The profile: what the pipeline has to know about a kind of model, and nothing else of it.

A sweep trains and measures by a profile's trainer, the data loop is a profile's flow, and what goes from one
phase to the next passes through its hand-overs. The pipeline itself knows no model and no file format.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from blocks.runtime import Runtime
from tasks.automl.space import Parameter
from tasks.automl.trial import SweepMetric, Trainer
from tasks.errors import InputError
from tasks.keys import merged, nested, value_at
from tasks.pipeline.facts import LoopOutcome, Registered, TunedModel
from tasks.registry import find_action


@dataclass(frozen=True)
class Data:
    """What a sweep trains on: a table of rows, and the place where their images start."""

    csv: Path
    images_dir: Path

    def rows(self) -> int:
        """How many there are."""
        return len(pd.read_csv(self.csv, usecols=[0]))


class Profile(ABC):
    """One kind of model on one workspace."""

    name: ClassVar[str]
    category: ClassVar[str]
    """Of the action `train`, whose schema is that of the specs."""
    metrics: ClassVar[dict[str, SweepMetric]]
    """What a sweep may optimise, the default first."""
    parameters: ClassVar[tuple[Parameter, ...]]
    """The search space, before the person's own parameters."""
    lr_key: ClassVar[str] = "train.optim.lr"
    fine_tuning: ClassVar[float] = 1 / 6
    """Share of the winning learning rate around which a warm start is searched."""
    loop_flow: ClassVar[str]
    """The data loop, as `module:name`."""

    def __init__(self, root: Path) -> None:
        """Open the workspace; raises `InputError` where it is not usable."""
        self.root = root.expanduser().absolute()

    def fine_tuned(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """A spec with the learning rate for a start from trained weights, four digits of it."""
        rate = value_at(self.full(spec), self.lr_key) * self.fine_tuning
        return merged(spec, nested({self.lr_key: float(f"{rate:.4g}")}))

    @property
    @abstractmethod
    def base_file(self) -> Path:
        """The base spec of the workspace."""

    @abstractmethod
    def base_spec(self) -> dict[str, Any]:
        """The base spec as it is written."""

    @abstractmethod
    def data(self) -> dict[str, Path]:
        """The files or folders that decide what a run is about, by name."""

    @abstractmethod
    def base_data(self, folder: Path) -> Data:
        """The base training rows; a profile that has to list them first does so below `folder`."""

    @abstractmethod
    def combined_data(self, csv: Path) -> Data:
        """The enlarged training rows of a loop."""

    def full(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """The spec with every default; raises `InputError` where the schema does not allow it."""
        values: dict[str, Any] = (
            find_action(self.category, "train").spec({**spec, "results_dir": "results"}).to_dict()
        )
        return values

    def epochs(self, spec: Mapping[str, Any]) -> int:
        """How long a whole training is."""
        return int(self.full(spec)["train"]["num_epochs"])

    @abstractmethod
    def trainer(
        self,
        folder: Path,
        data: Data,
        warm_start: Path | None,
        metric: SweepMetric,
        runtime: Runtime,
        concurrency: int,
    ) -> Trainer:
        """Trains on `data`, from the weights of `warm_start`, and measures on the validation set."""

    @abstractmethod
    def untrained_score(
        self, folder: Path, checkpoint: Path | None, metric: SweepMetric, runtime: Runtime
    ) -> float | None:
        """The metric on the validation set of a checkpoint as it is, or of an untrained model."""

    @abstractmethod
    def metric_step(self, metric: SweepMetric) -> float:
        """The smallest difference that the metric can show on the validation set; 0 where it moves freely."""

    @abstractmethod
    def loop_parameters(self, folder: Path, given: Mapping[str, Any]) -> dict[str, Any]:
        """The whole parameters of the loop's flow for a run in `folder`; raises `InputError` for bad ones."""

    @abstractmethod
    def place_checkpoint(self, folder: Path, model: TunedModel) -> Path:
        """Copy a model to where the loop's baseline has it; raises `InputError` where it is not whole."""

    @abstractmethod
    def preseed(
        self, folder: Path, loop: Mapping[str, Any], model: TunedModel, checkpoint: Path
    ) -> dict[str, Any]:
        """Hand a placed model to the loop as its trained baseline; doing it again changes nothing.

        Gives the parameters with which the loop's flow has to be called because of it.
        """

    @abstractmethod
    def loop_outcome(self, folder: Path, loop: Mapping[str, Any]) -> LoopOutcome:
        """What the loop in `folder` left; raises `InputError` where it has not finished."""

    @abstractmethod
    def register(
        self, folder: Path, loop: Mapping[str, Any], model: TunedModel, runtime: Runtime
    ) -> Registered:
        """Measure the second sweep's model on the KPI set and deliver the better one; repeatable."""

    @property
    @abstractmethod
    def training_set(self) -> Path:
        """The base training rows, for people."""

    @property
    @abstractmethod
    def validation_set(self) -> Path:
        """The rows that rank trials and choose checkpoints."""

    def images(self, loop: Mapping[str, Any]) -> tuple[str, ...]:
        """Keys of the versions file that the phases need, where the runtime starts images."""
        return ()


PROFILES = {
    "aoi_changenet": "flows.aoi_profile:AoiProfile",
    "image_classifier": "flows.classifier_profile:ClassifierProfile",
}


def open_profile(name: str, workspace: Path) -> Profile:
    """The profile of that name on a workspace.

    Raises:
        InputError: no such profile, or the workspace is not usable.
    """
    from importlib import import_module

    if name not in PROFILES:
        raise InputError(f"unknown profile {name!r}; choose one of: {', '.join(PROFILES)}")
    module, attribute = PROFILES[name].split(":")
    profile: Profile = getattr(import_module(module), attribute)(workspace)
    return profile
