"""Made-up rows for depth estimation, and what the model has to be given."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from datasets import Dataset
from made_up import pictures
from PIL import Image

CHANGES = {"label_names": None, "depth_scale": 0.001}


def made_up(seed: int) -> Dataset:
    """Pictures of two sizes with distances of 1 to 5 m in millimetres, and an edge without any."""
    images, depths = pictures(seed), []
    for image in images:
        depth = np.linspace(1000, 5000, image.height)[:, None] * np.ones((1, image.width))
        depth[:3] = 0
        depths.append(Image.fromarray(depth.astype(np.int32)))
    return Dataset.from_dict({"image": images, "depth_map": depths})


def check_row(row: dict[str, Any], batch: dict[str, Any]) -> None:
    """A picture and its distances, both in float32; no distance is negative, and some are known."""
    assert set(row) == {"pixel_values", "labels"}
    assert row["pixel_values"].dtype == row["labels"].dtype == torch.float32
    assert row["pixel_values"].ndim == 3
    assert row["labels"].ndim == 2
    assert row["labels"].min() >= 0
    assert row["labels"].max() > 0


def check_batch(batch: dict[str, Any], rows: list[dict[str, Any]], processor: Any) -> None:
    """Tensors of one size."""
    assert set(batch) == {"pixel_values", "labels"}
    assert batch["pixel_values"].shape == (len(rows), *rows[0]["pixel_values"].shape)
    assert batch["labels"].shape == (len(rows), *rows[0]["labels"].shape)
