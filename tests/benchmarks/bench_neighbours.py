"""Exact cosine top 5 against the bare float32 matrix product that it cannot do without.

    python tests/benchmarks/bench_neighbours.py [sources] [targets] [dim]

Clustered vectors, as embeddings are. Prints the seconds of both (best of three) and their ratio.
"""

import sys
import time
from collections.abc import Callable

import numpy as np

from tasks.embedding.tables import ROW_GROUP
from tasks.mining.neighbours import nearest


def clustered(rows: int, dim: int, seed: int) -> np.ndarray:
    centres = np.random.default_rng(0).standard_normal((200, dim), np.float32)
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((rows, dim), np.float32)
    vectors *= 0.7
    vectors += centres[random.integers(0, len(centres), rows)]
    return vectors


def best_of_three(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def main() -> None:
    given = [int(word) for word in sys.argv[1:4]]
    sources, targets, dim = [*given, *(100_000, 1_000, 768)[len(given) :]]
    source, target = clustered(sources, dim, 1), clustered(targets, dim, 2)
    blocks = [source[first : first + ROW_GROUP] for first in range(0, sources, ROW_GROUP)]
    product = best_of_three(lambda: source @ target.T)
    ours = best_of_three(lambda: nearest(blocks, target, 5, "cosine"))
    print(f"{sources} sources, {targets} targets, {dim} numbers each, top 5 by cosine")
    print(f"matrix product alone {product:.2f} s; exact neighbours {ours:.2f} s; ratio {ours / product:.2f}")


if __name__ == "__main__":
    main()
