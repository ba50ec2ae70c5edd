"""What painting needs of pictures: their materials' texture, shapes, soft edges."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

FEATHER = 3
"""Most pixels that a soft edge reaches beyond the mask of a defect."""


def grown(mask: Mask, pixels: int) -> Mask:
    """`mask` and everything within `pixels` of it (round)."""
    if pixels < 1:
        return mask
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    return cv2.dilate(mask.astype(np.uint8), disc).astype(bool)


def shrunk(mask: Mask, pixels: int) -> Mask:
    """The part of `mask` that lies deeper than `pixels`; beyond the picture counts as inside."""
    return ~grown(~mask, pixels)


def pieces(mask: Mask) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Connected components (8 neighbours): labels [h, w] with 0 outside, and their areas from label 1 on."""
    _, labels, figures, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return labels.astype(np.int32), figures[1:, cv2.CC_STAT_AREA].astype(np.int32)


def piece_at(mask: Mask, row: int, column: int) -> Mask:
    """The connected component of `mask` at a pixel; empty when the pixel is outside."""
    labels, _ = pieces(mask)
    piece: Mask = (labels == labels[row, column]) & mask
    return piece


def depth(mask: Mask) -> Floats:
    """For each pixel of `mask` how far it is from the nearest pixel outside; 0 outside."""
    return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5), dtype=np.float32)


def discs(shape: tuple[int, int], centres: Floats, radii: Floats) -> Mask:
    """The union of discs; centres [n, 2] as x, y and radii [n] in pixels, both with fractions."""
    canvas = np.zeros(shape, dtype=np.uint8)
    for (x, y), radius in zip(np.rint(centres * 16), np.rint(radii * 16), strict=True):
        cv2.circle(canvas, (int(x), int(y)), max(int(radius), 8), 1, cv2.FILLED, cv2.LINE_8, 4)
    return canvas.astype(bool)


def stroke(
    shape: tuple[int, int], ends: tuple[Floats, Floats], radius: float, rng: np.random.Generator, bend: float
) -> Mask:
    """A band from one end (x, y) to the other, bent by up to `bend` of its length, ragged and tapered.

    Its half width runs from 0.75 to 1.25 of `radius`, with more at random.
    """
    start, end = ends
    along = end - start
    length = float(np.hypot(*along))
    count = max(4, int(length / max(radius, 1.0) * 2) + 2)
    place = np.linspace(0, 1, count, dtype=np.float32)[:, None]
    normal = np.array([-along[1], along[0]], dtype=np.float32)
    arc = 4 * place * (1 - place) * np.float32(rng.uniform(-bend, bend))
    wobble = rng.normal(0, 0.12 * radius, (count, 2)).astype(np.float32)
    taper = np.linspace(1 - (lean := rng.uniform(-0.25, 0.25)), 1 + lean, count) * rng.uniform(
        0.8, 1.2, count
    )
    return discs(shape, start + place * along + arc * normal + wobble, (radius * taper).astype(np.float32))


def background_of(regions: Pixels) -> Pixels:
    """The background colour [3] of a CAD mask: the commonest along its border."""
    border = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    colours, counts = np.unique(border, axis=0, return_counts=True)
    commonest: Pixels = colours[np.argmax(counts)]
    return commonest


def edge_blur(picture: Floats, mask: Mask) -> float:
    """The Gaussian sigma, in pixels, with which the edge of `mask` is soft in a grey picture; 0 is sharp.

    A step that is blurred with sigma has Phi(0.5 / sigma) of its height half a pixel from the edge.
    """
    inner, outer = mask & ~shrunk(mask, 1), grown(mask, 1) & ~mask
    deep, far = shrunk(mask, 2), ~grown(mask, 2)
    if not (inner.any() and outer.any() and deep.any() and far.any()):
        return 0.0
    step = abs(float(picture[deep].mean() - picture[far].mean()))
    contrast = abs(float(picture[inner].mean() - picture[outer].mean())) / max(step, 1.0)
    return min(0.5 / NormalDist().inv_cdf(0.5 + min(max(contrast, 0.3), 0.999) / 2), 1.3)


def coverage(change: Mask, sigma: float) -> Floats:
    """How much of each pixel `change` covers, 0 to 1, its edge soft by `sigma`; 0 beyond `FEATHER`."""
    cover = change.astype(np.float32)
    if sigma >= 0.25:
        cover = np.asarray(cv2.GaussianBlur(cover, (0, 0), sigma), dtype=np.float32)
    return np.where(grown(change, FEATHER - 1) & (cover > 0.01), cover, np.float32(0))


def smooth_inside(picture: Floats, inside: Mask, sigma: float) -> Floats:
    """The local mean [h, w, 3] of the pixels of `inside`, everywhere; far from them their overall mean."""
    weight = inside.astype(np.float32)
    total = cv2.GaussianBlur(picture * weight[:, :, None], (0, 0), sigma)
    near = np.asarray(cv2.GaussianBlur(weight, (0, 0), sigma), dtype=np.float32)[:, :, None]
    overall = picture[inside].mean(axis=0)
    return np.asarray((total + overall * 1e-3) / (near + 1e-3), dtype=np.float32)


def textures(
    clean: Sequence[Pixels], material: Mask, target: Mask, rng: np.random.Generator
) -> list[Floats] | None:
    """Each lighting's picture with the material continued over `target`; None when there is none to copy.

    Its tone is the local mean of the material nearby, its grain is copied from displaced patches of the
    material, from the same places in every lighting.
    """
    if material.sum() < 12:
        return None
    height, width = material.shape
    rows, columns = np.nonzero(target)
    source_rows, source_columns = _sources(material, rows, columns, rng)
    filled = []
    for picture in clean:
        values = picture.astype(np.float32)
        tone = smooth_inside(values, material, max(2.0, 0.08 * min(height, width)))
        result = values.copy()
        grain = values[source_rows, source_columns] - tone[source_rows, source_columns]
        result[rows, columns] = np.clip(tone[rows, columns] + grain, 0, 255)
        filled.append(result)
    return filled


def _sources(
    material: Mask, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], rng: np.random.Generator
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """A pixel of the material for each target pixel: by whole displacements, single pixels for the rest."""
    height, width = material.shape
    pool = np.argwhere(material)
    drawn = pool[rng.integers(len(pool), size=len(rows))]
    found_rows, found_columns = drawn[:, 0], drawn[:, 1]
    open_ = np.ones(len(rows), dtype=bool)
    for _ in range(16):
        down, right = rng.integers(-height // 2, height // 2 + 1), rng.integers(-width // 2, width // 2 + 1)
        from_rows, from_columns = rows + down, columns + right
        inside = (from_rows >= 0) & (from_rows < height) & (from_columns >= 0) & (from_columns < width)
        good = open_ & inside
        good[good] = material[from_rows[good], from_columns[good]]
        found_rows = np.where(good, from_rows, found_rows)
        found_columns = np.where(good, from_columns, found_columns)
        open_ &= ~good
        if not open_.any():
            break
    return found_rows, found_columns


def blended(clean: Pixels, new: Floats, cover: Floats) -> Pixels:
    """`new` laid over `clean` where `cover` says; all other pixels stay bit by bit."""
    values = clean.astype(np.float32)
    mixed = values + (new - values) * cover[:, :, None]
    return np.where(cover[:, :, None] > 0, np.clip(np.rint(mixed), 0, 255), values).astype(np.uint8)
