"""Made-up rows for semantic segmentation, and what the model has to be given."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from made_up import ROWS, boxes, pictures
from PIL import Image, ImageDraw

IGNORED = 255
CHANGES = {"label_names": ["one", "two"]}


def made_up(seed: int) -> Dataset:
    """Pictures of two sizes with masks: class 0, boxes of class 1, and an edge that does not count."""
    images, masks = pictures(seed), []
    for number in range(ROWS):
        mask = Image.new("L", images[number].size)
        draw = ImageDraw.Draw(mask)
        for x, y, width, height in boxes(number):
            draw.rectangle((x, y, x + width - 1, y + height - 1), fill=1)
        draw.rectangle((0, 0, mask.width, 3), fill=IGNORED)
        masks.append(mask)
    return Dataset.from_dict({"image": images, "annotation": masks})


def check_row(row: dict[str, Any], batch: dict[str, Any]) -> None:
    """A picture in float32 and the number of a class for each pixel, of which some count."""
    assert set(row) == {"pixel_values", "labels"}
    assert row["pixel_values"].dtype == torch.float32
    assert row["labels"].dtype == torch.int64
    assert row["labels"].shape == row["pixel_values"].shape[1:]
    assert row["labels"].min() >= 0


def check_batch(batch: dict[str, Any], rows: list[dict[str, Any]], processor: Any) -> None:
    """Tensors of one size; some labels are masked, and some are not."""
    assert set(batch) == {"pixel_values", "labels"}
    assert batch["pixel_values"].shape == (len(rows), *rows[0]["pixel_values"].shape)
    assert batch["labels"].shape == (len(rows), *rows[0]["labels"].shape)
    assert (batch["labels"] == IGNORED).any()
    assert (batch["labels"] != IGNORED).any()
