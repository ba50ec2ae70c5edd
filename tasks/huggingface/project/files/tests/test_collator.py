"""Rows that differ in size become one batch, which says what the rows say."""

from __future__ import annotations

from typing import Any

import kind


def test_rows_of_different_sizes_become_one_batch(
    collate: Any, processor: Any, splits: tuple[Any, Any]
) -> None:
    rows = [splits[1][0], splits[1][1]]  # as they were made: those to train on are changed at random
    kind.check_batch(collate(rows), rows, processor)
