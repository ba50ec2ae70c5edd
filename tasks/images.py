"""Decoding images, and finding those that cannot be decoded."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from tasks.errors import InputError

BROKEN = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


def decoded(path: Path) -> Image.Image:
    """The image at `path` as RGB; 16-bit greys are scaled to 8 bit instead of clipped.

    Raises:
        InputError: no such file, not an image, truncated, or too large to be one.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16"):
                return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
            return image.convert("RGB")
    except BROKEN as error:
        reason = (
            "No such file" if isinstance(error, FileNotFoundError) else str(error) or type(error).__name__
        )
        raise InputError(f"image {path} cannot be read: {reason}") from error


def unreadable(paths: Iterable[Path]) -> list[Path]:
    """Those of `paths` that do not decode, each once, in order."""
    unique = list(dict.fromkeys(paths))
    with ThreadPoolExecutor() as pool:
        return [path for path, good in zip(unique, pool.map(_decodes, unique), strict=True) if not good]


def _decodes(path: Path) -> bool:
    try:
        decoded(path)
    except InputError:
        return False
    return True
