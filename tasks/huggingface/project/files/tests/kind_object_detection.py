"""Made-up rows for object detection, and what the model has to be given."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from made_up import ROWS, SIZES, boxes, pictures

CHANGES = {"label_names": ["one", "two"]}


def made_up(seed: int) -> Dataset:
    """Pictures of two sizes with two boxes or four."""
    found = [boxes(number) for number in range(ROWS)]
    objects = [{"bbox": some, "category_id": [place % 2 for place in range(len(some))]} for some in found]
    return Dataset.from_dict({"image": pictures(seed), "objects": objects})


def check_row(row: dict[str, Any], batch: dict[str, Any]) -> None:
    """A picture in float32; boxes as centre, width and height in fractions of it, and as many classes."""
    assert set(row) == {"pixel_values", "labels"}
    assert row["pixel_values"].dtype == torch.float32
    assert row["pixel_values"].ndim == 3
    found, classes = row["labels"]["boxes"], row["labels"]["class_labels"]
    assert found.shape == (len(classes), 4)
    assert found.dtype == torch.float32
    assert classes.dtype == torch.int64
    assert ((found >= 0) & (found <= 1)).all()


def check_batch(batch: dict[str, Any], rows: list[dict[str, Any]], processor: Any) -> None:
    """Pictures padded to the largest; labels stay a list, of the boxes that were made.

    Boxes are fractions of the picture where the model is given a mask of it, else of the padded frame.
    """
    sizes = [row["pixel_values"].shape[1:] for row in rows]
    frame = tuple(max(size[side] for size in sizes) for side in (0, 1))
    assert batch["pixel_values"].shape == (len(rows), 3, *frame)
    if "pixel_mask" in batch:
        assert batch["pixel_mask"].sum(dim=(1, 2)).tolist() == [height * width for height, width in sizes]
    assert isinstance(batch["labels"], list)
    for number, (size, labels) in enumerate(zip(sizes, batch["labels"], strict=True)):
        x, y, width, height = torch.tensor(boxes(number)).T
        expected = torch.stack([x + width / 2, y + height / 2, width, height], dim=1)
        expected /= torch.tensor([*SIZES[number], *SIZES[number]])
        if "pixel_mask" not in batch:
            expected *= torch.tensor([size[1] / frame[1], size[0] / frame[0]] * 2)
        torch.testing.assert_close(labels["boxes"], expected, atol=1e-3, rtol=0)
