"""Rendered component crops of printed circuit boards: parts, their defects, and a line's photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.dataset.canvas import Canvas, Floats, Frame, columns
from tasks.dataset.table import PASS

DEFECTS = ("missing", "shift", "bridge", "tombstone", "excess_solder", "insufficient_solder")


@dataclass(frozen=True)
class Kind:
    """A family of parts.

    Attributes:
        terminals: where each terminal's pad lies, in scene units.
        pad: half extents of a pad.
        neighbours: pairs of terminals that solder may bridge; chips have theirs along the body.
        designator: the letter of its object names.
        pins: how many the whole part has; the crop may show some of them.
        body: colour of the body.
    """

    terminals: tuple[tuple[float, float], ...]
    pad: tuple[float, float]
    neighbours: tuple[tuple[int, int], ...]
    designator: str
    pins: int
    body: tuple[float, float, float]


KINDS: dict[str, Kind] = {
    "resistor": Kind(((-15, 0), (15, 0)), (7, 9), (), "R", 2, (0.13, 0.13, 0.15)),
    "capacitor": Kind(((-14, 0), (14, 0)), (7, 10), (), "C", 2, (0.60, 0.46, 0.32)),
    "transistor": Kind(((-9.5, 15), (9.5, 15), (0, -15)), (4.5, 6.5), ((0, 1),), "Q", 3, (0.15, 0.15, 0.16)),
    "ic": Kind(
        ((-21, 11), (-7, 11), (7, 11), (21, 11)),
        (3.8, 9),
        ((0, 1), (1, 2), (2, 3)),
        "U",
        8,
        (0.14, 0.14, 0.15),
    ),
}
CHIPS = ("resistor", "capacitor")

GOLD = (0.78, 0.66, 0.38)
TIN = (0.74, 0.74, 0.72)
LEAD = (0.70, 0.71, 0.72)
SILK = (0.90, 0.90, 0.86)


@dataclass(frozen=True)
class Part:
    """A position in a board's design and what belongs there; the same on every board."""

    kind: str
    scale: float = 1.0
    quarter_turns: int = 0
    marking: str = ""
    board: tuple[float, float, float] = (0.08, 0.30, 0.16)
    traces: tuple[float, float] = (20.0, -26.0)
    via: tuple[float, float] = (24.0, 22.0)
    phase: float = 0.0


@dataclass(frozen=True)
class Capture:
    """One photograph of a part: the defect, and what differs from board to board without being one.

    Attributes:
        terminal: the terminal where a defect sits.
        amount: how strong the defect is; 1 is typical.
        side: direction of a defect that has one, 1 or -1.
        shift: displacement of the whole picture in scene units; `angle` its turn in degrees.
        place: displacement of the part within tolerance; `place_angle` its turn in degrees.
        solder: amount of solder of every joint; 1 is nominal.
        marking: the print on the part when another supplier's was used.
        gain: brightness; `tint` per colour channel; `noise` in grey levels, drawn from `seed`.
    """

    label: str = PASS
    terminal: int = 0
    amount: float = 1.0
    side: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0
    place: tuple[float, float] = (0.0, 0.0)
    place_angle: float = 0.0
    solder: float = 1.0
    marking: str | None = None
    gain: float = 1.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    noise: float = 0.0
    seed: int = 0


def defects_of(kind: str) -> tuple[str, ...]:
    """The defects that this kind of part can have; only two-terminal chips stand up."""
    return tuple(defect for defect in DEFECTS if defect != "tombstone" or kind in CHIPS)


def render(
    parts: Sequence[Part], captures: Sequence[Capture], lights: Sequence[str], size: int
) -> dict[str, npt.NDArray[np.uint8]]:
    """Photograph parts of one kind; gives RGB images [n, size, size, 3] per lighting.

    All lightings of a capture show one scene.
    """
    kind = parts[0].kind
    assert all(part.kind == kind for part in parts), "one kind at a time"
    batch = _Batch(kind, parts, captures)
    design = batch.design(size)
    placed = batch.placed(design)
    canvas = _board(batch, design, size)
    _draw_pads(batch, canvas, design)
    draw_body = {"ic": _draw_ic, "transistor": _draw_transistor}.get(kind, _draw_chip)
    draw_body(batch, canvas, placed)
    _draw_defect_solder(batch, canvas, design)
    return {
        light: _exposed(canvas.photograph(light), captures, number) for number, light in enumerate(lights)
    }


class _Batch:
    """The numbers of a stack of captures as columns, and the two frames they are drawn in."""

    def __init__(self, kind: str, parts: Sequence[Part], captures: Sequence[Capture]) -> None:
        self.kind = kind
        self.parts = parts
        self.captures = captures
        self.amount = columns([one.amount for one in captures])
        self.side = columns([one.side for one in captures])
        self.solder = columns([one.solder for one in captures])
        self.scale = columns([part.scale for part in parts])

    def has(self, defect: str, place: int = 0, places: int = 1) -> Floats:
        """1 where the capture has this defect, at this one of its possible places, else 0."""
        return columns(
            [float(one.label == defect and one.terminal % places == place) for one in self.captures]
        )

    def design(self, size: int) -> Frame:
        """The frame in which the board's design is drawn."""
        turn = columns([90.0 * part.quarter_turns for part in self.parts])
        picture = Frame.of_pixels(size).moved(
            columns([one.shift[0] for one in self.captures]),
            columns([one.shift[1] for one in self.captures]),
            columns([one.angle for one in self.captures]),
        )
        return picture.moved(np.zeros_like(turn), np.zeros_like(turn), turn)

    def placed(self, design: Frame) -> Frame:
        """The frame of the part itself; a shifted part lies well outside its tolerance."""
        off = self.has("shift") * self.amount
        along = 6.5 if self.kind == "ic" else 8.0
        return design.moved(
            columns([one.place[0] for one in self.captures]) + off * self.side * along,
            columns([one.place[1] for one in self.captures]) + off * (2.0 if self.kind == "ic" else 5.0),
            columns([one.place_angle for one in self.captures])
            + off * self.side * (3 if self.kind == "ic" else 13),
        )


def _board(batch: _Batch, design: Frame, size: int) -> Canvas:
    board = np.array([part.board for part in batch.parts], dtype=np.float32).T[:, :, None, None]
    phase = columns([part.phase for part in batch.parts])
    weave = 0.06 * np.sin(design.x * 1.25 + phase) * np.sin(design.y * 1.25)
    blotch = 0.05 * np.sin(design.x * 0.11 + phase * 3) * np.cos(design.y * 0.13 + phase)
    canvas = Canvas(len(batch.parts), size, board * (1 + weave + blotch))
    upright, level = (columns([part.traces[axis] for part in batch.parts]) for axis in (0, 1))
    trace = np.maximum(design.box(upright, 0, 2.2, 40), design.box(0, level, 40, 1.6))
    canvas.colour *= 1 + 0.35 * trace
    canvas.height += 0.5 * trace
    via_x, via_y = (columns([part.via[axis] for part in batch.parts]) for axis in (0, 1))
    canvas.paint(np.minimum(design.dome(via_x, via_y, 4.2, 4.2) * 3, 1), GOLD, 0.5, 0.4)
    canvas.paint(np.minimum(design.dome(via_x, via_y, 2.2, 2.2) * 3, 1), (0.04, 0.04, 0.04), 0.0, 0.0)
    half = _extent(batch.kind)
    outline = design.box(0, 0, half[0] + 1.2, half[1] + 1.2) - design.box(0, 0, half[0], half[1])
    canvas.paint(outline * design.box(0, 0, 40, half[1] * 0.55), SILK, 0.1)
    return canvas


def _extent(kind: str) -> tuple[float, float]:
    if kind == "ic":
        return (30.0, 25.0)
    return (24.5, 12.5) if kind in CHIPS else (19.0, 24.0)


def _draw_pads(batch: _Batch, canvas: Canvas, design: Frame) -> None:
    """Pads with their solder joints; a pad that lacks solder shows its dull finish."""
    kind = KINDS[batch.kind]
    half_x, half_y = kind.pad
    bare_board = batch.has("missing")
    for number, (x, y) in enumerate(kind.terminals):
        cover = design.box(x, y, half_x, half_y)
        canvas.paint(cover, TIN, 0.55, 0.6)
        dry = batch.has("insufficient_solder", number, len(kind.terminals)) * np.minimum(batch.amount, 1)
        stands = batch.has("tombstone") * (columns([float(_lifted(one, number)) for one in batch.captures]))
        canvas.paint(cover * np.maximum(dry, stands), GOLD, 0.25, 0.6)
        wet = np.maximum(batch.solder * (1 - 0.97 * np.maximum(dry, stands)), 0.02)
        outward = 3.0 * np.sign(x) if batch.kind in CHIPS else 0.0
        downward = 0.0 if batch.kind in CHIPS else 2.5 * np.sign(y)
        # Paste without a part melts to a low cushion over the whole pad.
        reach = 0.62 + 0.3 * bare_board
        dome = design.dome(
            x + outward, y + downward, half_x * reach * wet + 0.4, half_y * (reach + 0.15) * wet + 0.4
        )
        canvas.solder(dome, 6.0 * wet * (1 - 0.55 * bare_board))


def _lifted(capture: Capture, terminal: int) -> bool:
    return (capture.side > 0) == (terminal == 0)


def _draw_chip(batch: _Batch, canvas: Canvas, placed: Frame) -> None:
    """A block with metal ends; on a tombstone, the block's end face above one pad."""
    kind = KINDS[batch.kind]
    here = 1 - batch.has("missing")
    stands = batch.has("tombstone")
    centre = stands * batch.side * 15
    long, wide = (14.5, 7.0) if batch.kind == "resistor" else (13.0, 8.0)
    half_x = (long * (1 - stands) + 5.0 * stands) * batch.scale
    half_y = wide * batch.scale
    top = (5.0 if batch.kind == "resistor" else 8.0) + stands * 10
    canvas.paint(placed.box(centre, 0, half_x, half_y) * here, LEAD, 0.75, top)
    inner = half_x - 3.6 * batch.scale * (1 - stands) - 1.2 * stands
    inner_y = half_y - 1.2 * stands
    end_face = stands * 0.55
    body = placed.box(centre, 0, inner, inner_y) * here
    canvas.paint(body * (1 - end_face), kind.body, 0.12, top)
    if batch.kind == "resistor":
        canvas.paint(placed.text(_markings(batch), 1.25) * here * (1 - stands), SILK, 0.1)


def _draw_transistor(batch: _Batch, canvas: Canvas, placed: Frame) -> None:
    here = 1 - batch.has("missing")
    for x, y in KINDS["transistor"].terminals:
        canvas.paint(placed.box(x, y * 0.78, 2.4, 6.0) * here, LEAD, 0.8, 2.5)
    canvas.paint(
        placed.box(0, 0, 14.5 * batch.scale, 8.5 * batch.scale) * here, KINDS["transistor"].body, 0.15, 9.0
    )
    canvas.paint(placed.text(_markings(batch), 1.35) * here, (0.62, 0.62, 0.60), 0.05)


def _draw_ic(batch: _Batch, canvas: Canvas, placed: Frame) -> None:
    here = 1 - batch.has("missing")
    for x, y in KINDS["ic"].terminals:
        canvas.paint(placed.box(x, y - 9, 2.5, 11) * here, LEAD, 0.8, 2.6)
        canvas.paint(placed.box(x, y - 15, 2.5, 4) * here, LEAD, 0.9, 6.0)
    canvas.paint(placed.box(0, -24, 29 * batch.scale, 16) * here, KINDS["ic"].body, 0.15, 10.0)
    canvas.paint(np.minimum(placed.dome(-23, -13, 2.2, 2.2) * 4, 1) * here, (0.32, 0.32, 0.33), 0.3)
    canvas.paint(placed.text(_markings(batch), 1.5, 2, -20) * here, (0.66, 0.66, 0.64), 0.05)


def _markings(batch: _Batch) -> list[str]:
    pairs = zip(batch.captures, batch.parts, strict=True)
    return [part.marking if one.marking is None else one.marking for one, part in pairs]


def _draw_defect_solder(batch: _Batch, canvas: Canvas, design: Frame) -> None:
    """Solder where none belongs: over a termination, or from one terminal to the next."""
    kind = KINDS[batch.kind]
    half_x, half_y = kind.pad
    for number, (x, y) in enumerate(kind.terminals):
        much = batch.has("excess_solder", number, len(kind.terminals)) * batch.amount
        _blob(canvas, design, (x * 0.96, y * 0.9), (half_x * 1.2, half_y * 1.12, 11.0), much)
    if not kind.neighbours:
        beside = design.moved(columns([0]), batch.side * 9.0, columns([0]))
        _blob(canvas, beside, (0, 0), (17.0, 4.2, 8.0), batch.has("bridge") * batch.amount)
    for number, (one, other) in enumerate(kind.neighbours):
        (x, y), (next_x, next_y) = kind.terminals[one], kind.terminals[other]
        much = batch.has("bridge", number, len(kind.neighbours)) * batch.amount
        _blob(canvas, design, ((x + next_x) / 2, (y + next_y) / 2 + 2), ((next_x - x) * 0.6, 4.6, 6.0), much)


def _blob(
    canvas: Canvas,
    frame: Frame,
    centre: tuple[float, float],
    half: tuple[float, float, float],
    much: Floats,
) -> None:
    """A blob of solder with half extents in x and y and a height, where `much` is above 0."""
    dome = frame.dome(*centre, half[0] * much + 0.01, half[1] * much + 0.01)
    canvas.solder(dome * np.minimum(much * 2, 1), half[2])


def _exposed(picture: Floats, captures: Sequence[Capture], number: int) -> npt.NDArray[np.uint8]:
    """What the camera makes of it: brightness, tint and noise, 8 bits."""
    gain = np.array([one.gain for one in captures], dtype=np.float32)[:, None, None]
    tint = np.array([one.tint for one in captures], dtype=np.float32).T[:, :, None, None]
    grey = picture * gain * tint * 255
    for index, one in enumerate(captures):
        if one.noise:
            noise = np.random.default_rng([one.seed, number]).standard_normal(
                grey.shape[2:], dtype=np.float32
            )
            grey[:, index] += noise * one.noise
    return np.ascontiguousarray(np.clip(grey, 0, 255).astype(np.uint8).transpose(1, 2, 3, 0))
