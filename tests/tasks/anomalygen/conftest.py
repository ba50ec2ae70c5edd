"""A small rendered workspace with two lightings, weak samples of its KPI set, and generated trees."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks.anomalygen.spec import GenerateSpec, IngestSpec
from tasks.dataset.sample import SampleSizes, write_sample_workspace
from tasks.dataset.table import lighting_of, read_table, row_files
from tasks.dataset.workspace import Workspace
from tasks.spec import load_spec

SIZES = SampleSizes(training=24, validation=16, kpi=16, pool=16, training_defects=0.3, crop=64)


@pytest.fixture(scope="session")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("anomalygen") / "ws"
    return write_sample_workspace(folder, sizes=SIZES, num_epochs=1)


@pytest.fixture(scope="session")
def kpi_pictures(space: Workspace) -> list[Path]:
    """The first lighting of every KPI sample."""
    lighting = lighting_of(space.baseline_spec)
    return [
        files[0] for files in row_files(read_table(space.kpi_csv), space.images_dir, lighting, "input_path")
    ]


@pytest.fixture
def gaps(tmp_path: Path, kpi_pictures: list[Path]) -> Callable[..., Path]:
    """Writes a parquet of weak samples with these labels."""

    def write(labels: Sequence[str], pictures: Sequence[Path] | None = None) -> Path:
        shown = [str(file) for file in (pictures or kpi_pictures)[: len(labels)]]
        pq.write_table(pa.table({"filepath": shown, "label": list(labels)}), tmp_path / "gaps.parquet")
        return tmp_path / "gaps.parquet"

    return write


@pytest.fixture
def generation(space: Workspace, gaps: Callable[..., Path], tmp_path: Path) -> Callable[..., GenerateSpec]:
    """The spec of a generation from the training set's goldens, with changes."""

    def make(
        labels: Sequence[str] = ("MISSING", "bridge"), pictures: Sequence[Path] | None = None, **changes: Any
    ) -> GenerateSpec:
        values: dict[str, Any] = {
            "gaps_parquet": gaps(labels, pictures),
            "clean_csv": space.training_csv,
            "images_dir": space.images_dir,
            "train_yaml": space.baseline_spec,
            "num_SDG": 6,
            "results_dir": tmp_path / "out",
        }
        given = {key: value for key, value in {**values, **changes}.items() if value is not None}
        return load_spec(GenerateSpec, given)

    return make


class Tree:
    """A generated tree made by hand: `board+missing_00000`, ... with one picture a side."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: list[dict[str, object]] = []

    def picture(self, path: str, shade: int) -> Path:
        file = self.root / "sdg" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(shade).integers(0, 50, (16, 16, 3)) + shade
        Image.fromarray(noise.astype(np.uint8)).save(file)
        return file

    def sample(self, name: str, passed: object = 1, ext: str = ".png") -> None:
        number = len(self.rows)
        self.picture(f"reconstructed_image/{name}{ext}", number)
        self.picture(f"original_image/{name}{ext}", 100 + number)
        self.rows.append({"output_filename": f"/x/reconstructed_image/{name}{ext}", "guardrail_pass": passed})

    def write(self, allocation: dict[str, Any] | None = None, **columns: Any) -> Path:
        table = pd.DataFrame(self.rows).assign(**columns)
        table.to_csv(self.root / "sdg/SDG_result.csv", index=False)
        if allocation is not None:
            (self.root / "allocation.json").write_text(json.dumps(allocation))
        return self.root


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Three samples, the last one blocked."""
    made = Tree(tmp_path / "generated")
    made.sample("board+missing_00000")
    made.sample("board+Excess Solder_00001")
    made.sample("board+missing_00002", passed=0)
    return made


ALLOCATION = {"board+missing": 2, "board+Excess Solder": 1}


@pytest.fixture
def ingestion(tmp_path: Path) -> Callable[..., IngestSpec]:
    """The spec of an ingestion into a workspace with these lightings."""

    def make(root: Path, lights: Sequence[str] = ("TopLight", "SideLight"), ext: str = ".jpg", **more: Any):
        train_yaml = tmp_path / "train.yaml"
        section = {"input_map": dict.fromkeys(lights, 0) or None, "image_ext": ext}
        train_yaml.write_text(json.dumps({"dataset": {"classify": section}}))
        values = {
            "sdg_dir": root,
            "workspace": tmp_path / "ws",
            "train_yaml": train_yaml,
            "images_out": tmp_path / "ws/results/run/iter1/dataset/images",
            "name": "iter1",
            "results_dir": tmp_path / "ws/results/run/iter1/mining_filter",
        }
        return load_spec(IngestSpec, {**values, **more})

    return make
