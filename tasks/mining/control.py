"""Pool images drawn at random: as a control of mining, or for the PASS samples among what was mined."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.artifacts import write_parquet
from tasks.dataset.table import is_pass
from tasks.embedding.tables import read_parquet, texts
from tasks.errors import InputError
from tasks.mining.paths import identity

logger = logging.getLogger("deft")

COLUMNS = ("filepath", "label")


def draw_control(pool: Path, count: int, seed: int, used: Iterable[str], output: Path) -> int:
    """Write `count` random pool rows that were not used before, and give how many there were.

    The output has `filepath` (and `label`) and goes to the ledger as candidates do. The draw depends on
    the seed and on the pool's paths alone, not on their order.

    Raises:
        InputError: the count is negative, or the pool is not what it must be.
    """
    if count < 0:
        raise InputError(f"count {count} is negative")
    table = read_parquet(pool, "pool", COLUMNS)
    rows = _drawn(_free_rows(table, used, pool), count, seed)
    write_parquet(output, table.take(pa.array(rows, pa.int64())))
    return len(rows)


def with_random_pass(candidates: Path, pool: Path, seed: int, used: Iterable[str], output: Path) -> int:
    """Write the candidates with every PASS one replaced by a random PASS image of the pool.

    Order and number stay, so that a budget cuts as before. The look-alikes of hard PASS samples are also
    those of the faintest defects: trained as PASS, they pull down the defect on which FAR at full recall
    hangs. With fewer PASS images left in the pool than asked for, the last PASS candidates go.

    Returns:
        How many PASS images were drawn.

    Raises:
        InputError: candidates or pool are not what they must be.
    """
    table = read_parquet(pool, "pool", COLUMNS)
    found = read_parquet(candidates, "candidates", COLUMNS, may_be_empty=True)
    pool_passes = is_pass(map(str, table["label"].to_pylist()))
    swapped = is_pass(map(str, found["label"].to_pylist()))
    free = {path: row for path, row in _free_rows(table, used, pool).items() if pool_passes[row]}
    drawn = iter(_drawn(free, int(swapped.sum()), seed))
    rows = []
    for candidate, swap in zip(found.select(COLUMNS).to_pylist(), swapped, strict=True):
        if not swap:
            rows.append(candidate)
        elif (row := next(drawn, None)) is not None:
            rows.append({name: table[name][row].as_py() for name in COLUMNS})
    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    write_parquet(output, pa.Table.from_pylist(rows, schema=schema))
    return len(rows) - int((~swapped).sum())


def _free_rows(table: pa.Table, used: Iterable[str], pool: Path) -> dict[str, int]:
    """The rows of the images that were not used, by identity, in the order of their names."""
    had = set(map(identity, used))
    row_of: dict[str, int] = {}
    for row, path in enumerate(texts(table, "filepath", f"pool {pool}")):
        row_of.setdefault(identity(path), row)
    return {path: row_of[path] for path in sorted(row_of) if path not in had}


def _drawn(free: dict[str, int], count: int, seed: int) -> list[int]:
    if len(free) < count:
        logger.warning("the pool has only %d images left for a draw of %d", len(free), count)
    rows = list(free.values())
    return [rows[number] for number in np.random.default_rng(seed).permutation(len(rows))[:count]]
