"""Defects of mounted components: the part that is missing, and solder where there is too much of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np

from tasks.anomalygen.structure import Scene, centre_of, scene_of
from tasks.anomalygen.surface import (
    Floats,
    Mask,
    Pixels,
    blended,
    coverage,
    grown,
    shrunk,
    stroke,
    textures,
)

ATTEMPTS = 8
SOFTNESS = 0.7
"""Sigma in pixels of the edge of what is painted; lenses are about that soft."""

Laid = tuple[list[Pixels], Mask]


@dataclass(frozen=True)
class Ellipse:
    """A drop of solder seen from above.

    Attributes:
        centre: (x, y).
        half: half axes, in pixels.
        axes: unit vectors of the half axes, one a column, x before y.
    """

    centre: Floats
    half: Floats
    axes: Floats

    def mask(self, shape: tuple[int, ...]) -> Mask:
        """The pixels inside, their outline smoothed as surface tension does."""
        down, right = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
        along = ((np.dstack([right, down]) - self.centre) @ self.axes) / self.half
        return _rounded((along**2).sum(axis=2) <= 1)


Painter = Callable[[Sequence[Pixels], Scene, np.random.Generator], Laid | None]


def paint(
    painter: Painter, clean: Sequence[Pixels], rng: np.random.Generator, regions: Pixels | None
) -> Laid | None:
    """The pictures with one defect of a component, and its mask; None when there is no place for it."""
    scene = scene_of(clean, regions)
    return None if scene is None else painter(clean, scene, rng)


def missing(clean: Sequence[Pixels], scene: Scene, rng: np.random.Generator) -> Laid | None:
    """The body is gone, with its shadow and rim; board lies there, the joints stay where they are."""
    if scene.body.sum() < 0.015 * scene.body.size or not scene.joints:
        return None
    joints = np.any(scene.joints, axis=0)
    around = max(3, scene.body.shape[0] // 16)
    hole = (grown(scene.body, 2) | (grown(scene.body, around) & ~scene.board)) & ~joints
    target = grown(hole, 3)
    new = textures(clean, shrunk(scene.board, 1), target, rng)
    if new is None:
        return None
    cover = np.where(joints, np.float32(0), coverage(hole, SOFTNESS))
    return [blended(one, fill, cover) for one, fill in zip(clean, new, strict=True)], hole


def bridge(clean: Sequence[Pixels], scene: Scene, rng: np.random.Generator) -> Laid | None:
    """A strand of solder from one joint to a neighbour; beside the body where that lies between them."""
    pairs = _neighbours(scene)
    for _ in range(ATTEMPTS if pairs else 0):
        one, other = pairs[rng.integers(len(pairs))]
        start, end = centre_of(one), centre_of(other)
        along = (end - start) / np.hypot(*(end - start))
        normal = np.array([-along[1], along[0]], dtype=np.float32)
        extent = min(_extent(one, normal), _extent(other, normal))
        beside = _share_on(scene.body, start, end) > 0.3
        aside = rng.choice((-1.0, 1.0)) * rng.uniform(0.7, 1.0) if beside else rng.uniform(-0.6, 0.6)
        radius = min(rng.uniform(0.032, 0.07) * min(scene.body.shape), 0.8 * extent)
        offset = (normal * aside * extent).astype(np.float32)
        drop = Ellipse(
            ((start + end) / 2 + offset).astype(np.float32),
            np.array([np.hypot(*(end - start)) / 2 + 1.5 * radius, 1.6 * radius], dtype=np.float32),
            np.stack([along, normal], axis=1).astype(np.float32),
        )
        neck = stroke(one.shape, (start + offset, end + offset), radius, rng, 0.06)
        drawn = drop.mask(one.shape) | _rounded(neck)
        others = [joint for joint in scene.joints if joint is not one and joint is not other]
        joined = (drawn & one).any() and (drawn & other).any()
        fresh = drawn & ~one & ~other
        if joined and fresh.sum() >= 10 and not any((grown(drawn, 1) & joint).any() for joint in others):
            source = one if one.sum() >= other.sum() else other
            return _soldered(clean, drawn, _outline(source), drop)
    return None


def excess_solder(clean: Sequence[Pixels], scene: Scene, rng: np.random.Generator) -> Laid | None:
    """A joint whose solder has swollen to a ball that stands over its pad and termination."""
    usable = _of_like_size(scene.joints)
    for attempt in range(ATTEMPTS if usable else 0):
        joint = usable[rng.integers(len(usable))]
        # What finds no room at its drawn size is tried smaller.
        growth = max(rng.uniform(1.2, 1.8) * 0.94**attempt, 1.15)
        outline = _outline(joint)
        ball = _ball(outline, growth, rng)
        drawn = ball.mask(joint.shape)
        others = [one for one in scene.joints if one is not joint]
        fresh = int((drawn & ~joint).sum())
        clear = not any((grown(drawn, 1) & one).any() for one in others)
        if clear and fresh >= 0.15 * joint.sum() and _off_border(drawn, joint):
            return _soldered(clean, drawn, outline, ball)
    return None


def _off_border(drawn: Mask, joint: Mask) -> bool:
    """Whether most of what was drawn and most of the joint lies inside the picture."""
    rim = np.ones_like(drawn)
    rim[1:-1, 1:-1] = False
    return bool((drawn & rim).sum() < 0.1 * drawn.sum() and (joint & rim).sum() < 0.1 * joint.sum())


def _of_like_size(joints: Sequence[Mask]) -> list[Mask]:
    """The joints without the specks that are not joints: at least 0.4 of the median area."""
    if not joints:
        return []
    areas = [int(joint.sum()) for joint in joints]
    return [joint for joint, area in zip(joints, areas, strict=True) if area >= 0.4 * np.median(areas)]


def _neighbours(scene: Scene) -> list[tuple[Mask, Mask]]:
    """Pairs of joints that lie next to each other: no third one between, not across half the picture.

    Of joints at unequal distances only those within 1.5 of the nearest pair's distance count.
    """
    joints = _of_like_size(scene.joints)
    found = []
    for one, other in combinations(joints, 2):
        start, end = centre_of(one), centre_of(other)
        between = any(
            _share_on(joint, start, end) > 0 for joint in joints if joint is not one and joint is not other
        )
        if not between:
            found.append((float(np.hypot(*(end - start))), one, other))
    found = [pair for pair in found if pair[0] < 0.65 * min(scene.body.shape)]
    nearest = min((pair[0] for pair in found), default=0.0)
    return [(one, other) for distance, one, other in found if distance <= 1.5 * nearest]


def _share_on(mask: Mask, start: Floats, end: Floats) -> float:
    """The share of the line between two points (x, y) that lies on `mask`."""
    place = np.linspace(0, 1, 24)[:, None]
    x, y = np.rint(start + (end - start) * place).astype(np.intp).T
    return float(mask[y, x].mean())


def _extent(mask: Mask, direction: Floats) -> float:
    """Half the size of a mask along a unit vector, from its second moment as of a rectangle."""
    rows, columns = np.nonzero(mask)
    return float(np.sqrt(3) * np.std(columns * direction[0] + rows * direction[1]) + 0.5)


def _rounded(mask: Mask) -> Mask:
    """`mask` with its outline smoothed, as surface tension does."""
    return np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.2) > 0.45)


def _outline(joint: Mask) -> Ellipse:
    """The ellipse of a joint's second moments; leads and specks at its side do not count."""
    tidy = cv2.morphologyEx(joint.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)).astype(bool)
    core = tidy if tidy.sum() > 0.5 * joint.sum() else joint
    rows, columns = np.nonzero(core)
    sizes, axes = np.linalg.eigh(np.cov(np.stack([columns, rows])))
    minor, major = np.sqrt(np.maximum(sizes, 0.25)) * np.sqrt(3) + 0.5
    half = np.array([major, minor], dtype=np.float32)
    return Ellipse(centre_of(core), half, axes[:, ::-1].astype(np.float32))


def _ball(outline: Ellipse, growth: float, rng: np.random.Generator) -> Ellipse:
    """A ball of solder over a joint, `growth` as wide; over a long one it sits anywhere along it."""
    (major, minor), centre = outline.half, outline.centre
    half = np.array([major * min(growth, 1.35), minor * growth], dtype=np.float32)
    if major > 1.6 * minor:
        half[0] = max(major * rng.uniform(0.6, 0.85), half[1])
        centre = centre + outline.axes[:, 0] * major * rng.uniform(-0.35, 0.35)
    turn = np.radians(rng.normal(0, 4))
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ outline.axes
    moved = centre + rng.normal(0, 0.05 * minor, 2)
    return Ellipse(moved.astype(np.float32), half, turned.astype(np.float32))


def _soldered(clean: Sequence[Pixels], drawn: Mask, source: Ellipse, target: Ellipse) -> Laid:
    """Solder of the drawn outline: the picture's own joint, stretched to it, under each lighting.

    A drop shows the same rings of light as a larger one: what lies at one place between centre and rim
    of the one is what lies there in the other.
    """
    # From a pixel of the new drop to the one of the joint: p -> centre + A / target.half * source.half * A'.
    stretch = source.axes @ np.diag(source.half / target.half) @ target.axes.T
    shift = source.centre - stretch @ target.centre
    affine = np.column_stack([stretch, shift]).astype(np.float32)
    size = (drawn.shape[1], drawn.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cover = coverage(drawn, SOFTNESS)
    pictures = []
    for picture in clean:
        values = picture.astype(np.float32)
        metal = cv2.warpAffine(values, affine, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        pictures.append(blended(picture, np.asarray(metal, dtype=np.float32), cover))
    return pictures, drawn


PAINTERS: dict[str, Painter] = {"missing": missing, "bridge": bridge, "excess_solder": excess_solder}
