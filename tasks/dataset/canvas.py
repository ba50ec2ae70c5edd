"""A stack of scenes drawn at once: colour, height and gloss per pixel, photographed under a lighting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

LIGHTS = ("SolderLight", "SideLight", "TopLight")
"""Coloured rings (slope shows as hue: flat red, steep blue), low from one side, and from above."""

CROP = 64.0
"""Width of the drawn area in scene units, whatever the number of pixels."""

FONT = {
    "0": ("111", "101", "101", "101", "111"),
    "1": ("010", "110", "010", "010", "111"),
    "2": ("111", "001", "111", "100", "111"),
    "3": ("111", "001", "111", "001", "111"),
    "4": ("101", "101", "111", "001", "001"),
    "5": ("111", "100", "111", "001", "111"),
    "6": ("111", "100", "111", "101", "111"),
    "7": ("111", "001", "010", "010", "010"),
    "8": ("111", "101", "111", "101", "111"),
    "9": ("111", "101", "111", "001", "111"),
}


def columns(values: Sequence[object]) -> Floats:
    """One number per scene, shaped to spread over its pixels: [n, 1, 1]."""
    return np.asarray(values, dtype=np.float32)[:, None, None]


class Frame:
    """Coordinates in scene units, [n, size, size]; the centre is 0, x to the right, y down."""

    def __init__(self, x: Floats, y: Floats) -> None:
        self.x = x
        self.y = y

    @classmethod
    def of_pixels(cls, size: int) -> Frame:
        """The pixel centres of a square image, [1, size, size]."""
        line = (((np.arange(size) + 0.5) / size - 0.5) * CROP).astype(np.float32)
        return cls(line[None, None, :], line[None, :, None])

    def moved(self, x: Floats, y: Floats, degrees: Floats) -> Frame:
        """The frame of something that lies at (x, y), turned by an angle."""
        angle = np.deg2rad(degrees, dtype=np.float32)
        cos, sin = np.cos(angle), np.sin(angle)
        right, down = self.x - x, self.y - y
        return Frame(right * cos + down * sin, down * cos - right * sin)

    def box(
        self, x: Floats | float, y: Floats | float, half_x: Floats | float, half_y: Floats | float
    ) -> Floats:
        """How much of each pixel a box covers, 0 to 1, edges one pixel soft."""
        across = np.clip(half_x - np.abs(self.x - x) + 0.5, 0, 1)
        return np.asarray(across * np.clip(half_y - np.abs(self.y - y) + 0.5, 0, 1), dtype=np.float32)

    def dome(
        self, x: Floats | float, y: Floats | float, half_x: Floats | float, half_y: Floats | float
    ) -> Floats:
        """The height of an ellipsoid's paraboloid cap: 1 at its middle, 0 outside."""
        return np.maximum(1 - ((self.x - x) / half_x) ** 2 - ((self.y - y) / half_y) ** 2, 0)

    def text(self, texts: Sequence[str], cell: float, x: float = 0.0, y: float = 0.0) -> Floats:
        """How much of each pixel the strokes of one line of digits per scene cover."""
        longest = max(1, *map(len, texts))
        bitmaps = np.zeros((len(texts), 7, 4 * longest + 1), dtype=np.float32)
        for bitmap, text in zip(bitmaps, texts, strict=True):
            for place, digit in enumerate(text.center(longest)):
                if digit in FONT:
                    bitmap[1:6, 4 * place + 1 : 4 * place + 4] = [
                        [int(dot) for dot in row] for row in FONT[digit]
                    ]
        height, width = bitmaps.shape[1:]
        across = np.clip((self.x - x) / cell + (width - 1) / 2, 0, width - 1.001)
        down = np.clip((self.y - y) / cell + (height - 1) / 2, 0, height - 1.001)
        left, top = across.astype(np.int32), down.astype(np.int32)
        right_part, low_part = across - left, down - top
        scene = np.arange(len(texts))[:, None, None]
        upper = bitmaps[scene, top, left] * (1 - right_part) + bitmaps[scene, top, left + 1] * right_part
        lower = (
            bitmaps[scene, top + 1, left] * (1 - right_part) + bitmaps[scene, top + 1, left + 1] * right_part
        )
        return np.asarray(upper * (1 - low_part) + lower * low_part, dtype=np.float32)


class Canvas:
    """`n` scenes of `size` x `size` pixels.

    Colour is [3, n, size, size] in 0..1; height (scene units) and gloss (0..1) are [n, size, size].
    """

    def __init__(self, n: int, size: int, colour: Floats) -> None:
        self.colour = np.broadcast_to(colour, (3, n, size, size)).astype(np.float32)
        self.height = np.zeros((n, size, size), dtype=np.float32)
        self.gloss = np.full((n, size, size), 0.08, dtype=np.float32)

    def paint(
        self,
        cover: Floats,
        colour: tuple[float, float, float],
        gloss: float,
        height: Floats | float | None = None,
    ) -> None:
        """Lay a material where `cover` says, 0 to 1; `height` replaces the height there."""
        self.colour += cover * (np.array(colour, dtype=np.float32)[:, None, None, None] - self.colour)
        self.gloss += cover * (gloss - self.gloss)
        if height is not None:
            self.height += cover * (height - self.height)

    def solder(self, dome: Floats, height: Floats | float) -> None:
        """Let solder stand where `dome` is above 0, with its rounded surface."""
        self.paint(np.minimum(dome * 6, 1), (0.66, 0.67, 0.69), 1.0, np.maximum(dome * height, self.height))

    def photograph(self, light: str) -> Floats:
        """The scenes under one lighting, [3, n, size, size] in 0..1, before the camera's faults.

        `SolderLight` is the colour highlight of AOI machines: shiny metal throws back the ring that its
        slope faces.
        """
        scale = self.height.shape[-1] / CROP
        down, right = np.gradient(self.height * scale, axis=(1, 2))
        upright = 1 / np.sqrt(1 + right**2 + down**2)
        if light == "SolderLight":
            flat = np.clip((upright - 0.86) / 0.1, 0, 1)
            steep = np.clip((0.74 - upright) / 0.16, 0, 1)
            rings = np.stack([flat, 1 - flat - steep, steep * 1.1])
            lit = self.colour * (0.30 + 0.25 * upright) + self.gloss * rings * 0.62
            return np.asarray(lit, dtype=np.float32)
        if light == "SideLight":
            facing = np.clip((0.62 * right + 0.25 * down + 0.74) * upright, 0, None)
            shadow = np.clip(np.roll(self.height, (1, 4), axis=(1, 2)) - self.height - 1.5, 0, 4) / 4
            glint = self.gloss * np.clip(facing - 0.72, 0, None) ** 2 * 7
            return np.asarray(
                (self.colour * (0.18 + 0.72 * facing) + glint) * (1 - 0.55 * shadow), dtype=np.float32
            )
        glint = self.gloss * np.clip(upright - 0.8, 0, None) * 1.9
        return np.asarray(self.colour * (0.25 + 0.65 * upright) + glint, dtype=np.float32)
