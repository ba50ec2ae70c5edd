"""What a picture of a component shows: board, body, and the metal of its joints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tasks.anomalygen.surface import Floats, Mask, Pixels, background_of, grown, pieces, shrunk

BOARD_BIN = 12
"""Grey levels that one bin of the border's colour histogram is wide."""
CLUSTERS = 4
"""Groups of colours that the part's pixels are sorted into; one of them is the body."""


@dataclass(frozen=True)
class Scene:
    """Masks [h, w] of one picture.

    Attributes:
        board: bare board, with nothing on it.
        body: the component's body; empty when none was found.
        joints: solder, pads and leads, one mask for each connected piece, largest first.
    """

    board: Mask
    body: Mask
    joints: tuple[Mask, ...]


def scene_of(clean: Sequence[Pixels], regions: Pixels | None = None) -> Scene | None:
    """The parts of a picture, from all its lightings; None when it shows no component.

    `regions` is a CAD mask with a colour per class. Its commonest border colour is background; of the
    other classes the one with the largest connected piece is the body, all others are pads. A mask with
    one class only gives its pieces as pads, and the body is looked for in the picture.
    """
    colours = np.concatenate(list(clean), axis=2)
    board = _board(colours)
    if board is None:
        return None
    body, metal = _body_and_metal(clean, board)
    if _at_border(body) > _at_border(board):
        return None  # a body that fills the picture was taken for the board
    if regions is not None:
        body_drawn, metal = _from_regions(regions)
        body = body_drawn if body_drawn.any() else body & ~metal
        board &= ~grown(body | metal, 1)
    joints = _large(metal, max(10, board.size // 350))
    return Scene(board, body, tuple(joints)) if joints or body.any() else None


def _at_border(mask: Mask) -> int:
    return int(mask[0].sum() + mask[-1].sum() + mask[:, 0].sum() + mask[:, -1].sum())


def _large(mask: Mask, least: int) -> list[Mask]:
    """The connected pieces of at least that many pixels, largest first."""
    labels, areas = pieces(mask)
    order = np.argsort(-areas, kind="stable")
    return [labels == index + 1 for index in order if areas[index] >= least]


def _board(colours: Pixels) -> Mask | None:
    """Pixels of the colour that dominates the border, [h, w]; `colours` holds all lightings' channels."""
    smooth = np.dstack([cv2.GaussianBlur(colours[:, :, k], (0, 0), 1.0) for k in range(colours.shape[2])])
    wide = max(3, min(colours.shape[:2]) // 10)
    border = np.ones(colours.shape[:2], dtype=bool)
    border[wide:-wide, wide:-wide] = False
    outer = smooth[border].astype(np.float32)
    bins, counts = np.unique(outer // BOARD_BIN, axis=0, return_counts=True)
    # Noise and weave scatter a board over several bins: what counts is the neighbourhood of a bin.
    candidates = (bins[np.argsort(-counts, kind="stable")[:12]] + 0.5) * BOARD_BIN
    centre = max(candidates, key=lambda one: int((np.abs(outer - one).max(axis=1) < 1.5 * BOARD_BIN).sum()))
    # Two steps of mean shift take the centre of the bin to that of the cloud of colours.
    for _ in range(2):
        near = np.abs(outer - centre).max(axis=1) < 1.5 * BOARD_BIN
        centre = np.median(outer[near], axis=0)
    apart = np.abs(smooth.astype(np.float32) - centre).max(axis=2)
    spread = float(np.median(np.abs(outer[near] - centre).max(axis=1)))
    board = apart < min(max(9.0, 3.5 * spread), 15.0)
    board = cv2.medianBlur(board.astype(np.uint8), 3).astype(bool)
    return board if 0.1 < board.mean() < 0.97 else None


def _body_and_metal(clean: Sequence[Pixels], board: Mask) -> tuple[Mask, Mask]:
    """The body, and the metal beside it.

    The body has the group of like colours with the largest, most solid connected piece near the middle;
    solder is what is bright in some lighting and unlike board and body.
    """
    colours = np.concatenate(list(clean), axis=2).astype(np.float32)
    bright = np.max(colours, axis=2)
    part = ~board
    empty = np.zeros_like(part)
    if part.sum() < 40:
        return empty, empty
    # An opening takes the bright strokes of a body's print away.
    square = np.ones((5, 5), np.uint8)
    smooth = np.dstack(
        [cv2.morphologyEx(colours[:, :, k], cv2.MORPH_OPEN, square) for k in range(colours.shape[2])]
    )
    ranks = np.argsort(np.argsort(bright[part], kind="stable"), kind="stable")
    first = (ranks * CLUSTERS // len(ranks)).astype(np.int32)[:, None]
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 15, 1.0)
    _, groups, _ = cv2.kmeans(smooth[part], CLUSTERS, first, stop, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    found = np.full(part.shape, -1, dtype=np.int32)
    found[part] = groups[:, 0]
    height, width = part.shape
    down, right = np.mgrid[:height, :width].astype(np.float32)
    central = np.exp(-(((down / height - 0.5) ** 2 + (right / width - 0.5) ** 2) / 0.12))
    best, body = 0.0, empty
    for group in range(CLUSTERS):
        for piece in _large(found == group, 20)[:2]:
            solid = shrunk(piece, 1)
            score = float(central[solid].sum())
            if score > best:
                best, body = score, grown(solid, 1) & piece
    if best < 12:
        body = empty
    body = _filled(body)
    level, _ = cv2.threshold(
        np.clip(bright[part & ~body], 0, 255).astype(np.uint8)[:, None],
        0,
        255,
        cv2.THRESH_BINARY | cv2.THRESH_OTSU,
    )
    light = part & ~grown(body, 1) & (bright > min(level, 0.6 * float(np.percentile(bright, 99))))
    metal = cv2.morphologyEx(light.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    metal = cv2.morphologyEx(metal, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return body, _of_the_part(metal.astype(bool) & ~body, body)


def _of_the_part(metal: Mask, body: Mask) -> Mask:
    """The pieces of metal that lie at the body: vias and print further away do not belong to it."""
    if not body.any():
        return metal
    close = grown(body, max(3, metal.shape[0] // 16))
    labels, _ = pieces(metal)
    return np.isin(labels, np.unique(labels[close & metal])) & metal


def _filled(mask: Mask) -> Mask:
    """`mask` without its holes and notches: a body's print belongs to the body."""
    if not mask.any():
        return mask
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(contours, key=cv2.contourArea)
    canvas = np.zeros(mask.shape, dtype=np.uint8)
    rect = cv2.minAreaRect(largest)
    box = rect[1][0] * rect[1][1]
    # A block lies there as a rectangle; what is far from one keeps its outline.
    if box and cv2.contourArea(largest) / box > 0.7:
        cv2.fillConvexPoly(canvas, np.rint(cv2.boxPoints(rect)).astype(np.int32), 1)
    cv2.drawContours(canvas, [largest], -1, 1, cv2.FILLED)
    return canvas.astype(bool)


def _from_regions(regions: Pixels) -> tuple[Mask, Mask]:
    """Body and pads of a CAD mask."""
    background = background_of(regions)
    classes = [kind for kind in np.unique(regions.reshape(-1, 3), axis=0) if (kind != background).any()]
    masks = [np.all(regions == kind, axis=2) for kind in classes]
    empty = np.zeros(regions.shape[:2], dtype=bool)
    if len(masks) < 2:
        return empty, masks[0] if masks else empty
    body = max(masks, key=lambda mask: int(pieces(mask)[1].max()))
    pads = np.any([mask for mask in masks if mask is not body], axis=0)
    return body, pads


def centre_of(mask: Mask) -> Floats:
    """The centre of gravity (x, y) of a mask that is not empty."""
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()], dtype=np.float32)
