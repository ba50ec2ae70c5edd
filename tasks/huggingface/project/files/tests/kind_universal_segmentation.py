"""Made-up rows for instance and panoptic segmentation, and what the model has to be given."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from made_up import ROWS, boxes, pictures

CHANGES = {"label_names": ["one", "two"]}


def made_up(seed: int) -> Dataset:
    """Pictures of two sizes with the outlines of two objects or four."""
    objects = []
    for number in range(ROWS):
        found = boxes(number)
        outlines = [[[x, y, x + w, y, x + w, y + h, x, y + h]] for x, y, w, h in found]
        classes = [place % 2 for place in range(len(found))]
        objects.append({"bbox": found, "category_id": classes, "segmentation": outlines})
    return Dataset.from_dict({"image": pictures(seed), "objects": objects})


def check_row(row: dict[str, Any], batch: dict[str, Any]) -> None:
    """A picture in float32; a mask of zeros and ones for each object, and its class."""
    assert set(row) == {"pixel_values", "mask_labels", "class_labels"}
    assert row["pixel_values"].dtype == row["mask_labels"].dtype == torch.float32
    assert row["class_labels"].dtype == torch.int64
    assert row["mask_labels"].shape == (len(row["class_labels"]), *row["pixel_values"].shape[1:])
    assert ((row["mask_labels"] == 0) | (row["mask_labels"] == 1)).all()


def check_batch(batch: dict[str, Any], rows: list[dict[str, Any]], processor: Any) -> None:
    """Pictures padded to the largest, with a mask of what is picture; masks and classes stay lists."""
    sizes = [row["pixel_values"].shape[1:] for row in rows]
    frame = tuple(max(size[side] for size in sizes) for side in (0, 1))
    assert batch["pixel_values"].shape == (len(rows), 3, *frame)
    assert batch["pixel_mask"].sum(dim=(1, 2)).tolist() == [height * width for height, width in sizes]
    assert [tuple(masks.shape) for masks in batch["mask_labels"]] == [(2, *frame), (4, *frame)]
    assert [len(classes) for classes in batch["class_labels"]] == [2, 4]
