"""The control arm: as many pool images as were mined, drawn at random."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.artifacts import write_parquet
from tasks.embedding.tables import read_parquet, texts
from tasks.errors import InputError
from tasks.mining.ledger import mined_so_far
from tasks.mining.paths import identity

logger = logging.getLogger("deft")


def draw_control(pool: Path, count: int, seed: int, history: Path, output: Path) -> int:
    """Write `count` random pool rows that the ledger does not hold, and give how many there were.

    The output has `filepath` (and `label`) and goes to the ledger as candidates do. The draw depends on
    the seed and on the pool's paths alone, not on their order.

    Raises:
        InputError: the count is negative, or the pool is not what it must be.
    """
    if count < 0:
        raise InputError(f"count {count} is negative")
    table = read_parquet(pool, "pool", ("filepath", "label"))
    had = mined_so_far(history)
    row_of: dict[str, int] = {}
    for row, path in enumerate(texts(table, "filepath", f"pool {pool}")):
        row_of.setdefault(identity(path), row)
    free = sorted(path for path in row_of if path not in had)
    if len(free) < count:
        logger.warning("the pool has only %d images left for a control of %d", len(free), count)
    order = np.random.default_rng(seed).permutation(len(free))[:count]
    rows = [row_of[free[number]] for number in order]
    write_parquet(output, table.take(pa.array(rows, pa.int64())))
    return len(rows)
