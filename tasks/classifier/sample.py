"""A sample image-folder workspace: rendered shapes on a noisy ground.

The base training set hardly knows small, dark and turned shapes. The KPI set has them, and so has the
pool; a loop that mines the pool for the look-alikes of its weak samples gets better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tasks.artifacts import write_yaml
from tasks.dataset.building import new_folder, save_image

SIDE = 32
FINE = 4
"""Shapes are drawn at this multiple of the size, so that their edges are smooth."""

LABELS = ("circle", "cross", "square", "triangle")
HARD = ("small", "dark", "turned")
"""What makes a shape hard for a model that has seen large, bright, upright ones only."""


@dataclass(frozen=True)
class ShapeSizes:
    """How many images each folder gets, and which share of them is hard."""

    train: int = 240
    validation: int = 160
    kpi: int = 320
    pool: int = 800
    hard_in_base: float = 0.05
    hard_in_production: float = 0.5

    def folders(self) -> dict[str, tuple[int, float]]:
        """Rows and share of hard images by the name of the folder."""
        return {
            "train": (self.train, self.hard_in_base),
            "validation": (self.validation, self.hard_in_base),
            "kpi": (self.kpi, self.hard_in_production),
            "pool": (self.pool, self.hard_in_production),
        }


def write_shapes_workspace(folder: Path, seed: int = 0, sizes: ShapeSizes | None = None) -> Path:
    """Render a workspace into a new folder; the same arguments give the same files.

    Labels take turns, so that every folder has about as many of each.

    Raises:
        InputError: the folder exists and holds something.
    """
    rng = np.random.default_rng(seed)
    with new_folder(folder) as root:
        for name, (rows, hard_share) in (sizes or ShapeSizes()).folders().items():
            for number in range(rows):
                label = LABELS[number % len(LABELS)]
                hard = str(rng.choice(HARD)) if rng.random() < hard_share else "plain"
                file = root / name / label / f"{number:05d}_{hard}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                save_image(file, rendered(label, hard, rng))
        write_yaml(root / "specs" / "baseline_spec.yaml", shapes_spec())
        (root / "results").mkdir()
    return folder.expanduser().absolute()


def shapes_spec() -> dict[str, Any]:
    """A spec of `image_classifier train` for these images; the paths of the data sets are left out.

    Its learning rate is what somebody might write without tuning: a sweep finds a better one.
    """
    return {
        "model": {
            "type": "resnet",
            "config": {
                "embedding_size": 16,
                "hidden_sizes": [16, 32, 64],
                "depths": [1, 1, 1],
                "layer_type": "basic",
            },
        },
        "train": {
            "num_epochs": 10,
            "seed": 1234,
            "optim": {"lr": 0.001, "weight_decay": 0.01},
            "label_smoothing": 0.0,
            "flip_probability": 0.5,
        },
        "dataset": {"image_size": SIDE, "batch_size": 32},
    }


def rendered(label: str, hard: str, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """One image, RGB [SIDE, SIDE, 3]: a shape of `LABELS`, `plain` or hard in one of the ways of `HARD`."""
    ground = rng.uniform(40, 90, 3)
    image = Image.new("RGB", (SIDE * FINE, SIDE * FINE), _colour(ground))
    draw = ImageDraw.Draw(image)
    for _ in range(3):
        _distractor(draw, ground + rng.uniform(-25, 45, 3), rng)
    radius = rng.uniform(3.5, 5.0) if hard == "small" else rng.uniform(8, 11)
    contrast = rng.uniform(14, 30, 3) if hard == "dark" else rng.uniform(90, 150, 3)
    degrees = rng.uniform(25, 65) if hard == "turned" else rng.uniform(-6, 6)
    middle = rng.uniform(radius + 1, SIDE - radius - 1, 2)
    for part in _outline(label):
        draw.polygon(_placed(part, middle, radius, degrees), fill=_colour(ground + contrast))
    small = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
    slope = np.linspace(-1, 1, SIDE)[:, None, None] * rng.uniform(-12, 12)
    return (small + slope + rng.normal(0, 5, small.shape)).clip(0, 255).astype(np.uint8)


def _outline(label: str) -> list[list[tuple[float, float]]]:
    """The polygons of a shape of radius 1."""
    if label == "cross":
        bar = [(-1.0, -0.3), (1.0, -0.3), (1.0, 0.3), (-1.0, 0.3)]
        return [bar, [(y, x) for x, y in bar]]
    # A square stands on its side, a triangle has a corner on top.
    corners, first = {"circle": (40, 0.0), "square": (4, 45.0), "triangle": (3, 90.0)}[label]
    angles = [math.radians(first + 360 * corner / corners) for corner in range(corners)]
    return [[(math.cos(angle), -math.sin(angle)) for angle in angles]]


def _placed(
    part: list[tuple[float, float]], middle: npt.NDArray[np.float64], radius: float, degrees: float
) -> list[tuple[float, float]]:
    sin, cos = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    x0, y0 = middle
    return [
        (FINE * (x0 + radius * (cos * x - sin * y)), FINE * (y0 + radius * (sin * x + cos * y)))
        for x, y in part
    ]


def _distractor(draw: ImageDraw.ImageDraw, colour: npt.NDArray[np.float64], rng: np.random.Generator) -> None:
    """A thin line or a speck, which belongs to no shape."""
    x, y, x1, y1 = rng.uniform(0, SIDE * FINE, 4)
    if rng.random() < 0.5:
        draw.line([x, y, x1, y1], fill=_colour(colour), width=FINE // 2)
    else:
        draw.ellipse([x, y, x + FINE, y + FINE], fill=_colour(colour))


def _colour(values: npt.NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(int(value) for value in values.clip(0, 255))
