"""A tiny workspace of rendered shapes, and a model trained on it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.classifier.sample import ShapeSizes, write_shapes_workspace
from tasks.classifier.workspace import (
    RowLists,
    inference_values,
    read_baseline,
    training_values,
    write_row_lists,
)
from tasks.registry import find_action

torch.set_num_threads(1)

SIZES = ShapeSizes(train=48, validation=24, kpi=32, pool=40)


class Shapes:
    """A workspace with its row lists, and its actions with small values."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lists: RowLists = write_row_lists(root, root / "results" / "lists")

    @property
    def spec(self) -> dict[str, Any]:
        return {**read_baseline(self.root), "native": {"threads": 1}}

    def training(self, results: Path, **more: Any) -> dict[str, Any]:
        """Values of a training of two epochs; `more` overrides keys of `train`."""
        values = training_values(
            self.spec,
            self.root,
            training_csv=self.lists.train,
            validation_csv=self.lists.validation,
            results_dir=results,
            num_epochs=2,
        )
        values["train"] |= more
        return values

    def train(self, results: Path, **more: Any) -> dict[str, Path]:
        return run("train", self.training(results, **more))

    def score(self, checkpoint: Path, results: Path, rows: Path | None = None) -> dict[str, Path]:
        values = inference_values(
            self.spec,
            self.root,
            rows_csv=rows or self.lists.kpi,
            checkpoint=checkpoint,
            results_dir=results,
        )
        return run("inference", values)


def run(name: str, values: dict[str, Any]) -> dict[str, Path]:
    action = find_action("image_classifier", name)
    return action.run(action.spec(values))


@pytest.fixture(scope="session", name="tiny_shapes")
def _tiny_shapes(tmp_path_factory):
    return write_shapes_workspace(tmp_path_factory.mktemp("shapes") / "ws", seed=1, sizes=SIZES)


@pytest.fixture
def shapes(tiny_shapes, tmp_path) -> Shapes:
    """A copy to write into."""
    return Shapes(shutil.copytree(tiny_shapes, tmp_path / "ws"))


@pytest.fixture(scope="session")
def trained(tiny_shapes, tmp_path_factory) -> tuple[Shapes, dict[str, Path]]:
    """A workspace and the outputs of a training on it; not to be written into."""
    root = shutil.copytree(tiny_shapes, tmp_path_factory.mktemp("trained") / "ws")
    workspace = Shapes(root)
    return workspace, workspace.train(root / "results" / "base")
