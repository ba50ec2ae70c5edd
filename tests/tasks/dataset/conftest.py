"""A small hand-made workspace: 3 sets, one lighting suffix of two, noise images that all differ."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tasks.dataset.specs import baseline_spec
from tasks.dataset.workspace import Workspace, open_workspace

LIGHTS = ("SolderLight", "SideLight")


class Maker:
    """Writes images and CSVs below a workspace folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0

    def image(self, path: str) -> Path:
        """A structured picture that no other call gives."""
        self.count += 1
        rng = np.random.default_rng(self.count)
        pixels = np.kron(
            rng.integers(0, 120, (8, 8, 1)) + rng.integers(0, 60, (8, 8, 3)), np.ones((8, 8, 1))
        ).astype(np.uint8)
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file, quality=95)
        return file

    def sample(self, folder: str, name: str, golden: str = "images/golden") -> None:
        """The test and golden images of one sample, paths from the workspace."""
        for light in LIGHTS:
            self.image(f"{folder}/{name}_{light}.jpg")
            self.image(f"{golden}/{name}_{light}.jpg")

    def csv(self, path: str, rows: Iterable[dict[str, str]]) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(list(rows)).to_csv(file, index=False)
        return file


def row(folder: str, name: str, label: str = "PASS", **more: str) -> dict[str, str]:
    return {"input_path": folder, "golden_path": "golden", "label": label, "object_name": name, **more}


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "ws")


@pytest.fixture
def workspace(maker: Maker) -> Workspace:
    """Boards t, v and k with four samples each: training, validation and KPI set."""
    for board, file in (
        ("t", "train/base/training_set"),
        ("v", "train/base/validation_set"),
        ("k", "kpi/testing_set"),
    ):
        for number in range(4):
            maker.sample(f"images/{board}", f"{board}{number}@1")
        labels = ["PASS", "PASS", "PASS", "missing"]
        maker.csv(f"{file}.csv", [row(board, f"{board}{n}@1", label) for n, label in enumerate(labels)])
    spec = maker.root / "specs/baseline_spec.yaml"
    spec.parent.mkdir()
    spec.write_text(yaml.safe_dump(baseline_spec(LIGHTS), sort_keys=False))
    return open_workspace(maker.root)
