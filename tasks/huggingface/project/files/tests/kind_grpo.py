"""Made-up rows for group relative policy optimisation, and what the trainer has to be given."""

from __future__ import annotations

from typing import Any

from datasets import Dataset

ROWS = 4
LONG = "the quick brown fox jumps over the lazy dog"
CHANGES = {
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 4,
    "num_generations": 4,
    "max_completion_length": 16,
    "max_new_tokens": 16,
    "temperature": 1.0,
    # Replies of one group have to earn differently, or there is nothing to learn.
    "reward_functions": ["answer_similarity"],
    "reward_weights": None,
}


def made_up(seed: int) -> Dataset:
    """Short and long prompts in turn that leave the reply open, and an answer to compare it with."""
    prompts = [f"Invent a word {seed}.", f"Go on with this story {seed}: {LONG}"] * (ROWS // 2)
    return Dataset.from_dict({"prompt": prompts, "answer": [LONG] * ROWS})


def check_row(row: dict[str, Any], batch: list[dict[str, Any]]) -> None:
    """The prompt as turns; what else the row has is for the rewards."""
    assert row["prompt"]
    assert all(set(turn) >= {"role", "content"} for turn in row["prompt"])
    assert row["prompt"][-1]["role"] != "assistant"


def check_batch(batch: list[dict[str, Any]], rows: list[dict[str, Any]], processor: Any) -> None:
    """Rows stay a list: the trainer writes the replies."""
    assert batch == rows
    assert len(rows[0]["prompt"][0]["content"]) < len(rows[1]["prompt"][0]["content"])
