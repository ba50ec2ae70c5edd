"""The rows that the model reads: their keys, shapes and types."""

from __future__ import annotations

from typing import Any

import kind
import pytest

import task


@pytest.mark.parametrize("split", [0, 1], ids=["train", "eval"])
def test_a_made_up_row_becomes_what_the_model_reads(
    config: dict[str, Any], processor: Any, splits: tuple[Any, Any], split: int
) -> None:
    collate = task.collator(config, processor)
    assert len(splits[split]) > 0
    for number in range(len(splits[split])):
        row = splits[split][number]
        kind.check_row(row, collate([row]))


@pytest.mark.parametrize("split", ["train", "eval"])
def test_a_prepared_row_becomes_what_the_model_reads(prepared_config: dict[str, Any], split: str) -> None:
    processor = task.load_processor(prepared_config, prepared_config["model_id"])
    found = task.dataset(prepared_config, processor, split)
    rows = [found[number] for number in range(len(found))]
    batch = task.collator(prepared_config, processor)(rows)
    for row in rows:
        kind.check_row(row, batch)
