"""Made-up pictures for the tests: seeded noise in two sizes, with objects whose places are known."""

from __future__ import annotations

import numpy as np
from PIL import Image

ROWS = 4
SIZES = ((96, 64), (80, 112))  # width, height


def pictures(seed: int) -> list[Image.Image]:
    """Pictures of two sizes in turn."""
    random = np.random.default_rng(seed)
    sizes = [SIZES[number % 2] for number in range(ROWS)]
    return [
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in sizes
    ]


def boxes(number: int) -> list[list[int]]:
    """Two boxes or four, by turns, as x, y, width, height: inside of every picture, and apart."""
    return [[8 + 16 * place, 8 + 8 * place, 16, 16] for place in range(2 + 2 * (number % 2))]
