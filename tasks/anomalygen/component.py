"""Defects of mounted components: the part that is missing, and solder where there is too much of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        drawn = _rounded(stroke(one.shape, (start + offset, end + offset), radius, rng, 0.06))
        others = [joint for joint in scene.joints if joint is not one and joint is not other]
        joined = (drawn & one).any() and (drawn & other).any()
        fresh = drawn & ~one & ~other
        if joined and fresh.sum() >= 10 and not any((grown(drawn, 1) & joint).any() for joint in others):
            return _soldered(clean, drawn, one | other, rng)
    return None


def excess_solder(clean: Sequence[Pixels], scene: Scene, rng: np.random.Generator) -> Laid | None:
    """A joint whose solder has swollen to a ball that stands over its pad and termination."""
    usable = _of_like_size(scene.joints)
    for attempt in range(ATTEMPTS if usable else 0):
        joint = usable[rng.integers(len(usable))]
        # What finds no room at its drawn size is tried smaller.
        growth = max(rng.uniform(1.2, 1.8) * 0.94**attempt, 1.15)
        drawn = _ball(joint, scene.body, growth, rng)
        others = [one for one in scene.joints if one is not joint]
        fresh = int((drawn & ~joint).sum())
        clear = not any((grown(drawn, 1) & one).any() for one in others)
        if clear and fresh >= 0.15 * joint.sum() and _off_border(drawn, joint):
            return _soldered(clean, drawn, joint, rng)
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


def _ball(joint: Mask, body: Mask, growth: float, rng: np.random.Generator) -> Mask:
    """An ellipse of solder over a joint, `growth` as wide; over a long one it sits at its outer end."""
    tidy = cv2.morphologyEx(joint.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)).astype(bool)
    core = tidy if tidy.sum() > 0.5 * joint.sum() else joint
    rows, columns = np.nonzero(core)
    sizes, axes = np.linalg.eigh(np.cov(np.stack([columns, rows])))
    minor, major = np.sqrt(np.maximum(sizes, 0.25)) * np.sqrt(3) + 0.5
    centre = centre_of(core)
    half = np.array([major * min(growth, 1.35), minor * growth])
    if major > 1.6 * minor:
        outward = axes[:, 1]
        if body.any() and np.dot(outward, centre - centre_of(body)) < 0:
            outward = -outward
        half[0] = max(major * rng.uniform(0.6, 0.85), half[1])
        centre = (centre + outward * major * rng.uniform(0.15, 0.35)).astype(np.float32)
    centre = (centre + rng.normal(0, 0.05 * minor, 2)).astype(np.float32)
    angle = np.degrees(np.arctan2(axes[1, 1], axes[0, 1])) + rng.normal(0, 4)
    canvas = np.zeros(joint.shape, dtype=np.uint8)
    cv2.ellipse(canvas, (tuple(map(float, centre)), tuple(map(float, 2 * half)), float(angle)), 1, cv2.FILLED)
    return _rounded(canvas.astype(bool))


def _soldered(clean: Sequence[Pixels], drawn: Mask, source: Mask, rng: np.random.Generator) -> Laid:
    """Solder of the drawn outline, shaded in each lighting as the picture's own solder is."""
    slopes, like = _slopes(drawn), _slopes(source)
    to_rows, to_columns = np.nonzero(grown(drawn, 3))
    from_rows, from_columns = np.nonzero(source)
    wanted = slopes[to_rows, to_columns] + rng.normal(0, 0.03, (len(to_rows), 2)).astype(np.float32)
    offered = like[from_rows, from_columns]
    # One joint pixel for each new one, the same in all lightings: the one whose surface leans alike.
    apart = ((wanted[:, None, :] - offered[None, :, :]) ** 2).sum(axis=2)
    nearest = np.argsort(apart, axis=1)[:, : min(5, len(from_rows))]
    cover = coverage(drawn, SOFTNESS)
    pictures = []
    for picture in clean:
        values = picture.astype(np.float32)
        metal = values.copy()
        metal[to_rows, to_columns] = values[from_rows[nearest], from_columns[nearest]].mean(axis=1)
        metal = np.asarray(cv2.GaussianBlur(metal, (0, 0), 0.6), dtype=np.float32)
        grain = values - cv2.GaussianBlur(values, (0, 0), 1.0)
        noise = 1.48 * float(np.median(np.abs(grain)))
        metal += rng.normal(0, noise, metal.shape).astype(np.float32)
        pictures.append(blended(picture, np.clip(metal, 0, 255), cover))
    return pictures, drawn


def _slopes(mask: Mask) -> Floats:
    """How the surface of a drop with this outline leans, [h, w, 2] as x, y: 0 on top, 1 at its rim."""
    inside = np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5), dtype=np.float32)
    smooth = cv2.GaussianBlur(inside, (0, 0), 1.0)
    lean = np.dstack([cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)])
    length = np.maximum(np.linalg.norm(lean, axis=2, keepdims=True), 1e-3)
    steep = np.clip(1 - inside / max(float(inside.max()), 1.0), 0, 1)[:, :, None]
    return np.asarray(-lean / length * steep, dtype=np.float32)


PAINTERS: dict[str, Painter] = {"missing": missing, "bridge": bridge, "excess_solder": excess_solder}
