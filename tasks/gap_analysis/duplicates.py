"""How many samples stand in a table more than once, without a hash table of every text in it.

Hashing a million names costs more than the whole sweep. So rows are first told apart by a 64-bit
fingerprint, computed for a block of texts at a time; only rows that share one are compared as text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Words = npt.NDArray[np.uint64]

WORD = 8
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd: spreads neighbouring numbers
FOLD = np.uint64(29)


def count_duplicates(table: pa.Table, columns: Sequence[str]) -> int:
    """How many rows repeat an earlier row in these columns, which are strings without nulls."""
    fingerprints = np.zeros(table.num_rows, np.uint64)
    for column in columns:
        parts = [_fingerprints(chunk) for chunk in table[column].chunks]
        fingerprints = _mixed(fingerprints ^ np.concatenate([np.empty(0, np.uint64), *parts]))
    ascending = np.sort(fingerprints)
    shared = ascending[1:][ascending[1:] == ascending[:-1]]
    if not shared.size:
        return 0
    alike = table.select(list(columns)).take(np.flatnonzero(np.isin(fingerprints, shared)))
    distinct = alike.group_by(list(columns), use_threads=False).aggregate([])
    return int(alike.num_rows - distinct.num_rows)


def _fingerprints(texts: pa.StringArray) -> Words:
    """One number per text from its length and its last 16 bytes; equal texts have equal numbers."""
    _, offsets_buffer, data = texts.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[texts.offset :][: len(texts) + 1].astype(np.int64)
    padded = np.zeros(2 * WORD + offsets[-1], np.uint8)
    padded[2 * WORD :] = np.frombuffer(data or b"", np.uint8)[: offsets[-1]]
    word_at = np.ndarray((padded.size - WORD + 1,), "<u8", padded, strides=(1,))
    lengths = np.diff(offsets)
    numbers = lengths.astype(np.uint64)
    for back in (WORD, 2 * WORD):
        words = word_at[offsets[1:] + 2 * WORD - back]
        foreign = np.clip(back - lengths, 0, WORD)  # bytes at the front that belong to the text before
        own = words >> (8 * np.minimum(foreign, WORD - 1)).astype(np.uint64)
        numbers = _mixed(numbers ^ np.where(foreign < WORD, own, 0))
    return numbers


def _mixed(numbers: Words) -> Words:
    spread = numbers * MULTIPLIER
    return spread ^ (spread >> FOLD)
