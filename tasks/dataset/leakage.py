"""Leakage: rows of two data sets that show one image, however they are written.

Four keys, from the cheapest to the most thorough; a hit of any of them is a leak (spec deft-loop 4.3):

upstream   the strings of the columns that both tables share; misses other spellings and other labels
canonical  the real path of the image without lighting and extension; the label does not count
content    the SHA-256 of any lighting's file: copies under another name
look       a thumbnail and the fine detail of the image: copies that were encoded again
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageFilter

from tasks.artifacts import sha256_of
from tasks.dataset.table import Lighting, row_files
from tasks.errors import InputError, listed

UPSTREAM_COLUMNS = ("input_path", "golden_path", "label", "object_name", "boardname")
THUMBNAIL = 16
SAME_LOOK = 1.0
"""Root mean square difference, in grey levels of 255, up to which two thumbnails show one image."""
SAME_DETAIL = 0.6
"""Correlation of fine detail from which two images of one look are one photograph: noise does not repeat."""
FLAT = 2.0
"""Standard deviation in grey levels below which a thumbnail says nothing: flat images all look alike."""


@dataclass(frozen=True)
class ImageSet:
    """The rows of a data set and where their images lie; `name` is for messages."""

    name: str
    table: pd.DataFrame
    root: Path
    lighting: Lighting

    def input_files(self) -> list[list[Path]]:
        """Per row the test image of each lighting."""
        return row_files(self.table, self.root, self.lighting, "input_path")


@dataclass(frozen=True)
class Overlap:
    """A row of the left set that shows the image of a row of the right one (positions from 0)."""

    left_row: int
    right_row: int
    keys: tuple[str, ...]


def overlaps(left: ImageSet, right: ImageSet, leakage_hash: bool = True) -> list[Overlap]:
    """The rows of `left` that are in `right` too, with every key that caught them.

    Each left row is paired with the first right row of each key. `leakage_hash` switches the keys
    that open the images (content and look); image files that do not exist have neither.

    Raises:
        InputError: an image cannot be decoded.
    """
    pairs = {
        "upstream": _equal(*_upstream_keys(left.table, right.table)),
        "canonical": _equal(*([[key] for key in canonical_keys(one)] for one in (left, right))),
    }
    if leakage_hash:
        pairs["content"] = _equal(_content_keys(left), _content_keys(right))
        pairs["look"] = _same_picture(left, right)
    caught: dict[tuple[int, int], list[str]] = {}
    for key, found in pairs.items():
        for pair in found:
            caught.setdefault(pair, []).append(key)
    return [Overlap(*pair, tuple(keys)) for pair, keys in sorted(caught.items())]


def check_disjoint(left: ImageSet, right: ImageSet, leakage_hash: bool = True) -> None:
    """Check that no image is in both sets.

    Raises:
        InputError: some are; says how many and names up to 20 rows of both sides (the header is row 1).
    """
    found = overlaps(left, right, leakage_hash)
    if found:
        rows = len({overlap.left_row for overlap in found})
        raise InputError(
            f"leakage: {rows} rows of the {left.name} show images of the {right.name}: "
            f"{listed([described(overlap, left, right) for overlap in found])}; "
            "remove them from one of the two"
        )


def described(overlap: Overlap, left: ImageSet, right: ImageSet) -> str:
    """One line for a person: both rows, the image, and the keys that caught it."""
    row = left.table.iloc[overlap.left_row]
    return (
        f"{left.name} row {overlap.left_row + 2} ({row['input_path']}/{row['object_name']}) = "
        f"{right.name} row {overlap.right_row + 2} by {'+'.join(overlap.keys)}"
    )


def canonical_keys(rows: ImageSet) -> list[str]:
    """Per row the real path of its image, without lighting suffix and extension.

    Other spellings of a path (prefix, slashes, `..`, links) and other lightings of the same sample give
    the same key. Absolute, so that sets with different image roots compare.
    """
    return [canonical_key(files[0], rows.lighting) for files in rows.input_files()]


def canonical_key(file: Path, lighting: Lighting) -> str:
    """The key of one image file."""
    real = Path(str(file).replace("\\", "/")).resolve()
    suffix = re.compile(rf"_({'|'.join(['[A-Za-z]+Light', *map(re.escape, lighting.names)])})$")
    return str(real.with_name(suffix.sub("", real.stem)))


def _upstream_keys(left: pd.DataFrame, right: pd.DataFrame) -> tuple[list[list[Hashable]], ...]:
    shared = [name for name in UPSTREAM_COLUMNS if name in left.columns and name in right.columns]
    return tuple(
        [[row] for row in zip(*(one[name] for name in shared), strict=True)] for one in (left, right)
    )


def _content_keys(rows: ImageSet) -> list[list[str]]:
    return [[sha256_of(file) for file in files if file.is_file()] for files in rows.input_files()]


def _equal(left: Sequence[Iterable[Hashable]], right: Sequence[Iterable[Hashable]]) -> list[tuple[int, int]]:
    first: dict[Hashable, int] = {}
    for number, keys in enumerate(right):
        for key in keys:
            first.setdefault(key, number)
    pairs = ((number, first[key]) for number, keys in enumerate(left) for key in keys if key in first)
    return list(dict.fromkeys(pairs))


def _same_picture(left: ImageSet, right: ImageSet) -> list[tuple[int, int]]:
    left_files, right_files = ([files[0] for files in one.input_files()] for one in (left, right))
    alike = same_look(_thumbnails(left_files), _thumbnails(right_files))
    return [pair for pair in alike if same_detail(left_files[pair[0]], right_files[pair[1]])]


def _thumbnails(files: Sequence[Path]) -> npt.NDArray[np.float32]:
    looks = np.zeros((len(files), THUMBNAIL * THUMBNAIL), dtype=np.float32)
    for look, file in zip(looks, files, strict=True):
        if file.is_file():
            look[:] = thumbnail(file)
    return looks


def same_detail(left: Path, right: Path) -> bool:
    """Whether what a 3 x 3 blur takes away from two images is the same, noise included."""
    details = []
    for file in (left, right):
        with Image.open(file) as image:
            grey = image.convert("L")
        blurred = np.asarray(grey.filter(ImageFilter.BoxBlur(1)), dtype=np.float32)
        details.append(np.asarray(grey, dtype=np.float32) - blurred)
    if details[0].shape != details[1].shape:
        return False
    one, other = (detail.ravel() - detail.mean() for detail in details)
    return bool(one @ other >= SAME_DETAIL * np.sqrt((one @ one) * (other @ other)))


def thumbnail(file: Path) -> npt.NDArray[np.float32]:
    """The thumbnail of an image file; decoded once per process and time stamp.

    Raises:
        InputError: the file is not an image.
    """
    status = file.stat()
    return _thumbnail(str(file), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=200_000)
def _thumbnail(file: str, size: int, mtime_ns: int) -> npt.NDArray[np.float32]:
    try:
        with Image.open(file) as image:
            return thumbnail_of(image)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"image {file} cannot be read: {' '.join(str(error).split())}; replace the file"
        ) from error


def thumbnail_of(image: Image.Image) -> npt.NDArray[np.float32]:
    """The image in grey, box-averaged to 16 x 16, flattened to 256 grey levels."""
    small = image.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).ravel()


def same_look(
    left: npt.NDArray[np.float32], right: npt.NDArray[np.float32], block: int = 1024
) -> list[tuple[int, int]]:
    """Pairs of rows whose thumbnails (n x 256, grey levels) differ by `SAME_LOOK` at most.

    Each left row is paired with the most alike right row. Flat thumbnails are left out.
    """
    candidates = np.flatnonzero(right.std(axis=1) >= FLAT)
    if not len(candidates):
        return []
    others = right[candidates] - 128
    pairs = []
    for start in range(0, len(left), block):
        part = left[start : start + block] - 128
        squares = (part**2).sum(1)[:, None] + (others**2).sum(1) - 2 * part @ others.T
        nearest = squares.argmin(axis=1)
        alike = squares[np.arange(len(part)), nearest] <= SAME_LOOK**2 * part.shape[1]
        hits = np.flatnonzero(alike & (part.std(axis=1) >= FLAT))
        pairs += [(start + int(row), int(candidates[nearest[row]])) for row in hits]
    return pairs
