"""Made-up rows for a model that reads pictures and writes text, and what the model has to be given."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from made_up import ROWS, pictures
from PIL.Image import Image

IGNORED = -100
LONG = "the quick brown fox jumps over the lazy dog"
CHANGES: dict[str, Any] = {}


def made_up(seed: int) -> Dataset:
    """Pictures of two sizes with a short and a long question and answer in turn."""
    questions, answers = ["what ?", f"what of {LONG} ?"] * (ROWS // 2), ["red", LONG] * (ROWS // 2)
    return Dataset.from_dict({"image": pictures(seed), "question": questions, "answer": answers})


def check_row(row: dict[str, Any], batch: dict[str, Any]) -> None:
    """A picture and text; of the batch's tokens the reply is learned, question and picture are not."""
    assert row.get("images") or any(isinstance(value, Image) for value in row.values())
    assert (batch["labels"] != IGNORED).any()
    assert (batch["labels"] == IGNORED).any()


def check_batch(batch: dict[str, Any], rows: list[dict[str, Any]], processor: Any) -> None:
    """Tensors, with pixels; the shorter row is padded; the reply is learned, nothing else."""
    assert set(batch) >= {"input_ids", "attention_mask", "labels", "pixel_values"}
    assert all(isinstance(values, torch.Tensor) for values in batch.values())
    assert rows[0]["image"].size != rows[1]["image"].size
    assert batch["labels"].shape == batch["attention_mask"].shape == batch["input_ids"].shape
    assert len(batch["input_ids"]) == len(rows)
    lengths = batch["attention_mask"].sum(1)
    assert lengths[0] < lengths[1] == batch["input_ids"].shape[1]
    assert (batch["labels"][batch["attention_mask"] == 0] == IGNORED).all()
    for row, labels in zip(rows, batch["labels"], strict=True):
        learned = processor.decode(labels[labels != IGNORED], skip_special_tokens=True)
        assert row["answer"] in learned
        assert "?" not in learned, "the question is learned"
