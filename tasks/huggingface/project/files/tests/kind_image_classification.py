"""Made-up rows for image classification, and what the model has to be given."""

from __future__ import annotations

from typing import Any

import torch
from datasets import ClassLabel, Dataset, Features, Image
from made_up import ROWS, pictures

NAMES = ["one", "two"]
CHANGES = {"label_names": NAMES}


def made_up(seed: int) -> Dataset:
    """Pictures of two sizes with labels in turn."""
    features = Features({"image": Image(), "label": ClassLabel(names=NAMES)})
    labels = [number % 2 for number in range(ROWS)]
    return Dataset.from_dict({"image": pictures(seed), "label": labels}, features=features)


def check_row(row: dict[str, Any], batch: dict[str, Any]) -> None:
    """Three colours in float32 and the number of a class."""
    assert set(row) == {"pixel_values", "labels"}
    assert row["pixel_values"].dtype == torch.float32
    assert row["pixel_values"].ndim == 3
    assert row["pixel_values"].shape[0] == 3
    assert isinstance(row["labels"], int)
    assert row["labels"] >= 0


def check_batch(batch: dict[str, Any], rows: list[dict[str, Any]], processor: Any) -> None:
    """Tensors: pictures of one size, and a label for each."""
    assert set(batch) == {"pixel_values", "labels"}
    assert batch["pixel_values"].shape == (len(rows), *rows[0]["pixel_values"].shape)
    assert batch["labels"].dtype == torch.int64
    assert batch["labels"].tolist() == [row["labels"] for row in rows]
