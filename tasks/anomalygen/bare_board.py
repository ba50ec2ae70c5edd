"""Defects of bare boards: copper where none belongs, and copper that is not there.

Every defect takes pixels of one material (`copper` or `substrate`) and gives them to the other, so that
each comes with its twin: open and short, mousebite and spur, pin hole and spurious copper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from tasks.anomalygen.surface import (
    Floats,
    Mask,
    Pixels,
    background_of,
    blended,
    coverage,
    depth,
    discs,
    edge_blur,
    grown,
    piece_at,
    pieces,
    shrunk,
    stroke,
    textures,
)

ARTWORK_TONES = (64, 191)
"""A picture with hardly a grey value between these is a plot of the artwork, not a photograph."""
LEAST_CONTRAST = 25.0
"""Grey levels between copper and substrate; below, nothing says which is which."""
ATTEMPTS = 24

Place = Callable[[Mask, float, np.random.Generator], Mask | None]


@dataclass(frozen=True)
class Recipe:
    """How a defect is made: the material it takes, where it goes, and its area.

    Attributes:
        takes_copper: whether copper becomes substrate (else substrate becomes copper).
        place: gives the pixels that change, from the material taken, the wanted area and a generator.
        area: median area in pixels, as DeepPCB's defects have it; `spread` the sigma of its logarithm.
    """

    takes_copper: bool
    place: Place
    area: float
    spread: float


def copper_of(picture: Pixels, regions: Pixels | None = None) -> Mask | None:
    """Where copper is, [h, w]; None when the picture does not tell.

    A CAD mask says it: whatever is not its background (the colour that most of its corners and border
    have) is copper. Else Otsu's threshold parts the picture; copper is the bright side of a photograph
    and the dark side of plotted artwork (nearly binary and grey, as DeepPCB's pictures are).
    """
    if regions is not None:
        mask = np.any(regions != background_of(regions), axis=2)
        return mask if mask.any() else None
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    low, high = ARTWORK_TONES
    if float(((grey > low) & (grey < high)).mean()) < 0.03 and float(np.ptp(picture, axis=2).mean()) < 6:
        return np.asarray(grey < 128)
    level, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    copper = np.asarray(grey > level)
    if copper.all() or not copper.any() or grey[copper].mean() - grey[~copper].mean() < LEAST_CONTRAST:
        return None
    tidy = cv2.medianBlur(copper.astype(np.uint8), 3)
    return tidy.astype(bool)


def paint(
    recipe: Recipe, clean: Sequence[Pixels], rng: np.random.Generator, regions: Pixels | None
) -> tuple[list[Pixels], Mask] | None:
    """The pictures with one defect of a bare board, and its mask; None when there is no place for it."""
    copper = copper_of(clean[0], regions)
    if copper is None:
        return None
    taken = copper if recipe.takes_copper else ~copper
    for attempt in range(ATTEMPTS):
        # Where the drawn size finds no room, a smaller one may.
        area = recipe.area * float(np.exp(np.clip(rng.normal(), -1.7, 1.7) * recipe.spread))
        area *= 0.9**attempt
        change = recipe.place(taken, max(area, 8.0), rng)
        if change is not None:
            return _laid(clean, taken, change, rng)
    return None


def _laid(
    clean: Sequence[Pixels], taken: Mask, change: Mask, rng: np.random.Generator
) -> tuple[list[Pixels], Mask] | None:
    """Gives the changed pixels the other material; its own soft border is filled in where they meet."""
    other = ~taken
    cover_of = change | (grown(change, 2) & other)
    target = grown(cover_of, 4)
    new = _continued(clean, other, target, rng)
    if new is None:
        return None
    pictures = []
    allowed = grown(change, 3)
    for picture, texture in zip(clean, new, strict=True):
        sigma = edge_blur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32), taken)
        cover = np.where(allowed, coverage(cover_of, sigma), np.float32(0))
        pictures.append(blended(picture, texture, cover))
    return pictures, change


def _continued(
    clean: Sequence[Pixels], material: Mask, target: Mask, rng: np.random.Generator
) -> list[Floats] | None:
    """The texture of the material over `target`; artwork that shows none of it has its plain tone."""
    for margin in (2, 1):
        found = textures(clean, shrunk(material, margin), target, rng)
        if found is not None:
            return found
    if not material.any() and min(float(picture.mean()) for picture in clean) > ARTWORK_TONES[1]:
        return [np.zeros(picture.shape, dtype=np.float32) for picture in clean]
    if not material.any() and max(float(picture.mean()) for picture in clean) < ARTWORK_TONES[0]:
        return [np.full(picture.shape, 254, dtype=np.float32) for picture in clean]
    return None


def _point(among: Mask, rng: np.random.Generator) -> tuple[int, int] | None:
    """A random pixel (row, column) of `among`."""
    places = np.argwhere(among)
    if not len(places):
        return None
    row, column = places[rng.integers(len(places))]
    return int(row), int(column)


def _inner(shape: tuple[int, int], margin: int) -> Mask:
    """The picture without a border of `margin` pixels."""
    inner = np.zeros(shape, dtype=bool)
    inner[margin : shape[0] - margin, margin : shape[1] - margin] = True
    return inner


def _chord(taken: Mask, row: int, column: int, turn: float) -> tuple[Floats, Floats] | None:
    """The shortest line through a pixel from one edge of its material to the other; None when it leaves
    the picture. Tries 12 directions, the first at `turn` radians; the ends (x, y) lie on the far sides.
    """
    height, width = taken.shape
    reach = np.arange(1, max(height, width), dtype=np.float32)
    best: tuple[float, Floats, Floats] | None = None
    for angle in turn + np.arange(12) * np.pi / 12:
        step = np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)
        ends = []
        for sign in (1, -1):
            x, y = column + sign * reach * step[0], row + sign * reach * step[1]
            to_x, to_y = np.rint(x).astype(np.intp), np.rint(y).astype(np.intp)
            inside = (to_x >= 0) & (to_x < width) & (to_y >= 0) & (to_y < height)
            count = int(inside.sum()) if inside.all() else int(np.argmin(inside))
            out = np.flatnonzero(~taken[to_y[:count], to_x[:count]])
            if not len(out):
                break
            ends.append(np.array([x[out[0]], y[out[0]]], dtype=np.float32))
        if len(ends) == 2 and (best is None or np.hypot(*(ends[1] - ends[0])) < best[0]):
            best = (float(np.hypot(*(ends[1] - ends[0]))), ends[0], ends[1])
    return None if best is None else (best[1], best[2])


def severed(taken: Mask, area: float, rng: np.random.Generator, widest: float) -> Mask | None:
    """A cut right across the material where it is at most `widest` of the picture wide.

    What is left on the two sides of the cut is not connected near it.
    """
    span = min(taken.shape)
    thick = depth(taken)
    ridge = (thick >= cv2.dilate(thick, np.ones((3, 3), np.uint8)) - 0.5) & (thick >= 1.5)
    spot = _point(ridge & (thick <= widest * span / 2 + 1) & _inner(taken.shape, 7), rng)
    chord = None if spot is None else _chord(taken, *spot, rng.uniform(0, np.pi / 12))
    if spot is None or chord is None:
        return None
    width = float(np.hypot(*(chord[1] - chord[0])))
    if not 3 <= width <= widest * span:
        return None
    radius = float(np.clip(area / width / 2, 1.1, 0.11 * span))
    slant = (chord[1] - chord[0])[::-1] * np.array([-1, 1], dtype=np.float32) * rng.uniform(-0.35, 0.35)
    overshoot = (chord[1] - chord[0]) / width
    start = (chord[0] - overshoot - slant / 2).astype(np.float32)
    end = (chord[1] + overshoot + slant / 2).astype(np.float32)
    drawn = stroke(taken.shape, (start, end), radius, rng, 0.12) & taken
    change = piece_at(drawn, *spot)
    if change.sum() < 4 or (change & ~_inner(taken.shape, 2)).any():
        return None
    return _parts_two(taken, change, int(width / 2) + 6)


def _parts_two(taken: Mask, change: Mask, reach: int) -> Mask | None:
    """`change`, with the crumbs it leaves, when it has two sides that do not meet within `reach` of it."""
    labels, areas = pieces(taken & ~change & grown(change, reach))
    touching = np.unique(labels[grown(change, 1) & (labels > 0)])
    large = [label for label in touching if areas[label - 1] >= 14]
    crumbs = np.isin(labels, [label for label in touching if areas[label - 1] < 14])
    return change | crumbs if len(large) == 2 else None


def at_edge(taken: Mask, area: float, rng: np.random.Generator, slimness: tuple[float, float]) -> Mask | None:
    """A bite out of the material's edge: rounded or flat, in one place, not through to another edge.

    `slimness` is the range of its depth over its width.
    """
    other = ~taken
    edge = taken & grown(other, 1) & _inner(taken.shape, 5)
    spot = _point(edge, rng)
    if spot is None:
        return None
    row, column = spot
    smooth = cv2.GaussianBlur(taken.astype(np.float32), (0, 0), 2.0)
    inward = np.array(
        [
            smooth[row, column + 2] - smooth[row, column - 2],
            smooth[row + 2, column] - smooth[row - 2, column],
        ],
        dtype=np.float32,
    )
    if np.hypot(*inward) < 0.1:
        return None
    inward /= np.hypot(*inward)
    angle = rng.uniform(-0.6, 0.6)
    turned = np.array(
        [
            inward[0] * np.cos(angle) - inward[1] * np.sin(angle),
            inward[0] * np.sin(angle) + inward[1] * np.cos(angle),
        ],
        dtype=np.float32,
    )
    slim = float(np.exp(rng.uniform(*np.log(slimness))))
    width = np.sqrt(area / slim / 0.9)
    start = np.array([column, row], dtype=np.float32)
    if slim < 0.8:
        # Flat: discs side by side along the edge, sunk so far that `width * slim` of them shows.
        across = np.array([-inward[1], inward[0]], dtype=np.float32)
        radius = max(width * slim, 1.6)
        half = max(width / 2 - radius * 0.6, 0)
        drawn = stroke(taken.shape, (start - across * half, start + across * half), radius, rng, 0.05)
    else:
        tip = start + turned * max(width * slim - width / 2, 0.5)
        drawn = stroke(taken.shape, (start - inward, tip), max(width / 2, 1.3), rng, 0.15)
    change = piece_at(drawn & taken, row, column)
    return change if _bites(taken, change) else None


def _bites(taken: Mask, change: Mask) -> bool:
    """Whether the change keeps the material in one piece and meets the other material in one run only."""
    if change.sum() < 8 or (change & ~_inner(taken.shape, 2)).any():
        return False
    _, runs = pieces(grown(change, 2) & ~taken)
    around = grown(change, 4) & taken
    _, before = pieces(around)
    _, after = pieces(around & ~change)
    return len(runs) == 1 and len(before) == len(after)


def island(taken: Mask, area: float, rng: np.random.Generator) -> Mask | None:
    """A spot inside the material that touches no edge: round, long or bent."""
    slim = float(np.exp(rng.uniform(0, np.log(6))))
    radius = max(np.sqrt(area / slim) / 2, 1.2)
    room = depth(taken)
    spot = _point((room > radius + 2.5) & _inner(taken.shape, int(radius) + 3), rng)
    if spot is None:
        return None
    angle = rng.uniform(0, np.pi)
    half = radius * (slim - 1) * np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)
    middle = np.array([spot[1], spot[0]], dtype=np.float32)
    ends = ((middle - half).astype(np.float32), (middle + half).astype(np.float32))
    drawn = stroke(taken.shape, ends, radius, rng, 0.35)
    if slim < 1.6:
        lump = rng.normal(0, radius * 0.6, (2, 2)).astype(np.float32) + middle
        drawn |= discs(taken.shape, lump, (radius * rng.uniform(0.5, 0.8, 2)).astype(np.float32))
    touches = (grown(drawn, 2) & ~taken).any() or (drawn & ~_inner(taken.shape, 2)).any()
    return None if touches or drawn.sum() < 6 or len(pieces(drawn)[1]) != 1 else drawn


RECIPES: dict[str, Recipe] = {
    "open": Recipe(True, partial(severed, widest=0.5), 110, 0.80),
    "short": Recipe(False, partial(severed, widest=0.55), 128, 0.65),
    "mousebite": Recipe(True, partial(at_edge, slimness=(0.4, 2.6)), 76, 0.68),
    "spur": Recipe(False, partial(at_edge, slimness=(0.3, 2.2)), 72, 0.56),
    "copper": Recipe(False, island, 225, 0.60),
    "pin_hole": Recipe(True, island, 145, 0.63),
}
