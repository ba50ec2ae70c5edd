"""Made-up rows for direct preference optimisation, and what the model has to be given."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset

ROWS = 4
IGNORED = -100
LONG = "the quick brown fox jumps over the lazy dog"
CHANGES = {"max_length": 512}


def made_up(seed: int) -> Dataset:
    """Short and long prompts in turn, each with a reply that was chosen and one that was not."""
    prompts = [f"{seed} ?", f"{seed}: {LONG} ?"] * (ROWS // 2)
    columns = {"prompt": prompts, "chosen": ["yes", LONG] * (ROWS // 2), "rejected": ["no"] * ROWS}
    return Dataset.from_dict(columns)


def check_row(row: dict[str, Any], batch: dict[str, Any]) -> None:
    """Turns that end with the prompt, and two replies that differ; replies are learned, the prompt is not."""
    assert set(row) == {"prompt", "chosen", "rejected"}
    for turns in row.values():
        assert all(set(turn) >= {"role", "content"} for turn in turns)
    assert row["prompt"]
    assert row["chosen"] != row["rejected"]
    assert (batch["labels"] != IGNORED).any()
    assert (batch["labels"] == IGNORED).any()


def check_batch(batch: dict[str, Any], rows: list[dict[str, Any]], processor: Any) -> None:
    """Tensors: first all that were chosen, then all that were rejected; replies alone are learned."""
    assert all(isinstance(values, torch.Tensor) for values in batch.values())
    assert batch["labels"].shape == batch["attention_mask"].shape == batch["input_ids"].shape
    assert len(batch["input_ids"]) == 2 * len(rows)
    assert len(batch["attention_mask"].sum(1).unique()) > 1
    assert (batch["labels"][batch["attention_mask"] == 0] == IGNORED).all()
    replies = [row[side][-1]["content"] for side in ("chosen", "rejected") for row in rows]
    for reply, labels in zip(replies, batch["labels"], strict=True):
        learned = processor.decode(labels[labels != IGNORED], skip_special_tokens=True)
        assert reply in learned
        assert "?" not in learned, "the prompt is learned"
