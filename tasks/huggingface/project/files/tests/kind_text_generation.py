"""Made-up rows for text generation, and what the model has to be given."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset

ROWS = 4
IGNORED = -100
LONG = "the quick brown fox jumps over the lazy dog"
CHANGES = {"max_length": 512}


def made_up(seed: int) -> Dataset:
    """Short and long prompts and completions in turn."""
    prompts = [f"{seed} ?", f"{seed}: {LONG} ?"] * (ROWS // 2)
    return Dataset.from_dict({"prompt": prompts, "completion": ["yes", LONG] * (ROWS // 2)})


def check_row(row: dict[str, Any], batch: dict[str, Any]) -> None:
    """Text to make tokens of; the reply is learned and the prompt is not, a bare `text` as a whole."""
    assert row.get("text") or row.get("messages") or (row.get("prompt") and row.get("completion"))
    assert (batch["labels"] != IGNORED).any()
    if row.get("text") is None:
        assert (batch["labels"] == IGNORED).any()


def check_batch(batch: dict[str, Any], rows: list[dict[str, Any]], processor: Any) -> None:
    """Tensors of one shape; the shorter row is padded; the reply is learned, nothing else."""
    assert set(batch) >= {"input_ids", "attention_mask", "labels"}
    assert all(isinstance(values, torch.Tensor) for values in batch.values())
    assert batch["labels"].shape == batch["attention_mask"].shape == batch["input_ids"].shape
    assert len(batch["input_ids"]) == len(rows)
    lengths = batch["attention_mask"].sum(1)
    assert lengths[0] < lengths[1] == batch["input_ids"].shape[1]
    assert (batch["labels"][batch["attention_mask"] == 0] == IGNORED).all()
    for row, labels in zip(rows, batch["labels"], strict=True):
        learned = processor.decode(labels[labels != IGNORED], skip_special_tokens=True)
        assert row["completion"] in learned
        assert "?" not in learned, "the prompt is learned"
