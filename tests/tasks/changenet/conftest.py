"""Small pairs of test and golden images, and a model trained on them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.changenet import work
from tasks.registry import find_action

torch.set_num_threads(1)

SIDE = 32


def write_set(
    root: Path,
    name: str,
    passes: int,
    defects: int,
    *,
    side: int = SIDE,
    lights: Sequence[str] = ("SolderLight",),
    seed: int = 0,
) -> Path:
    """Rows of textured pairs; a defect is a bright blob that only the test image has."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(passes + defects):
        label = "PASS" if number % (passes + defects) < passes else "blob"
        golden = rng.integers(40, 160, (side // 8, side // 8, 3)).repeat(8, 0).repeat(8, 1)
        test = golden + rng.integers(-8, 9, golden.shape)
        if label != "PASS":
            y, x = rng.integers(2, side - 8, 2)
            test[y : y + 6, x : x + 6] = 240
        for folder, pixels in (("test", test), ("golden", golden)):
            for light in lights:
                file = root / "images" / name / folder / f"c{number}_{light}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)
        rows.append([f"{name}/test", f"{name}/golden", label, f"c{number}"])
    rng.shuffle(rows)
    file = root / f"{name}.csv"
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([["input_path", "golden_path", "label", "object_name"], *rows])
    return file


def values_for(root: Path, results: Path, side: int = SIDE) -> dict[str, Any]:
    """A spec for the sets train, validation and kpi below `root`."""
    sets = {"train": "train", "validation": "validation", "test": "kpi", "infer": "kpi"}
    latest = str(results / "train" / "changenet_model_classify_latest.pth")
    return {
        "task": "classify",
        "results_dir": str(results),
        "model": {
            "backbone": {"type": "resnet_micro"},
            "decode_head": {"feature_strides": [4, 8, 16, 32], "decoder_params": {"embed_dim": 8}},
            "classify": {"difference_module": "learnable", "embed_dec": 8, "eval_margin": 0.5},
        },
        "train": {
            "num_epochs": 2,
            "checkpointer": {"enable_topk": True},
            "classify": {"loss": "ce"},
            "optim": {"lr": 0.002},
        },
        "dataset": {
            "classify": {
                **{
                    f"{name}_dataset": {
                        "csv_path": str(root / f"{file}.csv"),
                        "images_dir": str(root / "images"),
                    }
                    for name, file in sets.items()
                },
                "input_map": {"SolderLight": 0},
                "num_input": 1,
                "image_ext": ".png",
                "image_width": side,
                "image_height": side,
                "batch_size": 8,
                "fpratio_sampling": 0.5,
                "augmentation_config": {"augment": True},
            }
        },
        "evaluate": {"checkpoint": latest},
        "inference": {"checkpoint": latest},
        "export": {"checkpoint": latest, "input_height": side, "input_width": side},
        "native": {"backbone_init": "random", "device": "cpu", "threads": 1},
    }


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sets train (37 rows), validation and kpi."""
    root = tmp_path_factory.mktemp("pairs")
    write_set(root, "train", 27, 10, seed=1)
    write_set(root, "validation", 9, 5, seed=2)
    write_set(root, "kpi", 8, 5, seed=3)
    return root


@pytest.fixture
def values(data: Path, tmp_path: Path) -> dict[str, Any]:
    """Spec values that train on `data` and write below the test's own folder."""
    return values_for(data, tmp_path / "results")


@pytest.fixture
def spec_of(values: dict[str, Any]) -> Callable[..., Any]:
    """The validated spec of an action, with `key=value` words over `values`."""

    def make(*words: str, name: str = "train") -> Any:
        return find_action("visual_changenet", name).spec(values, words)

    return make


@pytest.fixture(scope="session")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a finished training of two epochs."""
    results = tmp_path_factory.mktemp("trained")
    work.train(find_action("visual_changenet", "train").spec(values_for(data, results)))
    return results


@pytest.fixture
def trained_spec_of(data: Path, trained: Path, tmp_path: Path) -> Callable[..., Any]:
    """The spec of an action on the trained model, writing below the test's own folder."""

    def make(name: str, *words: str) -> Any:
        given = values_for(data, trained)
        return find_action("visual_changenet", name).spec(
            given, [f"{name}.results_dir={tmp_path / name}", *words]
        )

    return make


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    """`write_set`, for tests with data of their own."""
    return write_set
