"""Painting a defect into clean pictures of one scene, and judging what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from tasks.anomalygen import bare_board, component
from tasks.anomalygen.defects import DEFECTS, painter_of
from tasks.anomalygen.surface import FEATHER, Mask, Pixels, grown
from tasks.errors import InputError

Painter = Callable[[Sequence[Pixels], np.random.Generator, Pixels | None], tuple[list[Pixels], Mask] | None]

PAINTERS: dict[str, Painter] = {
    **{name: partial(component.paint, painter) for name, painter in component.PAINTERS.items()},
    **{name: partial(bare_board.paint, recipe) for name, recipe in bare_board.RECIPES.items()},
}
"""What paints each of `DEFECTS`."""

LEAST_VISIBLE = 6.0
"""Mean change in grey levels, in the lighting and channel that show most, that a defect must make."""
LARGEST = 0.6
"""Share of the picture that a defect may cover."""
BLACK = 8
"""A picture without any value above this is black."""
SMALLEST = 24
"""Width and height that a picture needs at least."""


@dataclass(frozen=True)
class Painted:
    """A scene with a defect.

    Attributes:
        images: one picture a lighting, [height, width, 3].
        mask: where the defect is, [height, width], the same in every lighting; the pictures differ from
            the clean ones within `FEATHER` pixels of it at most.
    """

    images: tuple[Pixels, ...]
    mask: npt.NDArray[np.bool_]


def paint(
    label: str, clean: Sequence[Pixels], rng: np.random.Generator, regions: Pixels | None = None
) -> Painted | None:
    """Paint a defect into the pictures of one scene; None when they offer no place for it.

    The same state of `rng` gives the same bytes.

    Args:
        label: the defect, in any spelling that `painter_of` knows.
        clean: the same scene under each lighting, RGB.
        rng: decides on place, size and shape.
        regions: a CAD mask of the scene, RGB with a colour per class. On a bare board what is not its
            background is copper; on a component its class with the largest piece is the body, the others
            are pads. Without one, the picture itself is parted.

    Raises:
        InputError: nothing paints this label, or the pictures are not of one size, at least 24 x 24.
    """
    name = painter_of(label)
    if name is None:
        raise InputError(f"the defect {label!r} cannot be painted; these can: {', '.join(DEFECTS)}")
    shapes = {picture.shape for picture in (*clean, *([] if regions is None else [regions]))}
    if not clean or len(shapes) != 1 or (shape := shapes.pop())[2:] != (3,) or min(shape[:2]) < SMALLEST:
        raise InputError(
            f"the pictures (and CAD mask) of a scene must be RGB, of one size, {SMALLEST} pixels or more;"
            f" these have the shapes {sorted(picture.shape for picture in clean)}"
        )
    laid = PAINTERS[name](clean, rng, regions)
    if laid is None:
        return None
    pictures, mask = laid
    return Painted(tuple(pictures), mask)


def problem(clean: Sequence[Pixels], painted: Painted) -> str | None:
    """Why a clean scene and its painted twin are no usable pair; None when they are."""
    same = len(clean) == len(painted.images) and all(
        before.shape == after.shape and before.shape[:2] == painted.mask.shape
        for before, after in zip(clean, painted.images, strict=False)
    )
    if not same:
        return "the painted pictures are not those of the clean scene: their number or size differs"
    share = float(painted.mask.mean())
    changes = np.stack(
        [np.abs(after.astype(np.int16) - before) for before, after in zip(clean, painted.images, strict=True)]
    )
    visible = float(changes[:, painted.mask].mean(axis=1).max()) if share else 0.0
    reasons = {
        "a painted picture is black": any(int(picture.max()) < BLACK for picture in painted.images),
        "the mask of the defect is empty": not share,
        f"the defect covers {share:.0%} of the picture, more than {LARGEST:.0%}": share > LARGEST,
        "the pictures differ outside the mask of the defect": bool(
            changes[:, ~grown(painted.mask, FEATHER)].any()
        ),
        f"the defect cannot be seen: it changes {visible:.1f} grey levels, less than {LEAST_VISIBLE:g}": (
            visible < LEAST_VISIBLE
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)
