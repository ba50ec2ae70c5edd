"""The published DeepPCB tree: its boards, their images and their annotated defects.

Source layout, as published: `<group>/<number>/<board>_temp.jpg`, `<board>_test.jpg` and
`<group>/<number>_not/<board>.txt` with a line `x1 y1 x2 y2 type` per defect, in pixels.
Data set: Tang et al., "On-line PCB Defect Detector On A New PCB Defect Dataset", 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tasks.errors import InputError, listed

DEFECTS = {1: "open", 2: "short", 3: "mousebite", 4: "spur", 5: "copper", 6: "pin_hole"}

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Board:
    """A pair of images and its annotation."""

    group: str
    name: str
    template: Path
    test: Path
    annotation: Path


@dataclass(frozen=True)
class Box:
    """An annotated defect, in pixels; x2 and y2 are outside."""

    x1: int
    y1: int
    x2: int
    y2: int
    label: str


def find_boards(source: Path) -> list[Board]:
    """Every board of the tree, sorted by group and name.

    Raises:
        InputError: there is none, or a board lacks one of its three files (all are named).
    """
    tree = source / "PCBData" if (source / "PCBData").is_dir() else source
    notes = {file.stem: file for file in sorted(tree.glob("group*/*_not/*.txt"))}
    tests = {file.name.removesuffix("_test.jpg"): file for file in sorted(tree.glob("group*/*/*_test.jpg"))}
    if not notes and not tests:
        raise InputError(
            f"{source} holds no DeepPCB groups (group*/NNNNN and group*/NNNNN_not); check the path"
        )
    boards = [_board(name, notes.get(name), tests.get(name)) for name in sorted({*notes, *tests})]
    missing = [
        str(file)
        for board in boards
        for file in (board.template, board.test, board.annotation)
        if not file.is_file()
    ]
    if missing:
        raise InputError(f"DeepPCB tree {tree} lacks {len(missing)} files: {listed(missing)}; fetch it again")
    return sorted(boards, key=lambda board: (board.group, board.name))


def _board(name: str, annotation: Path | None, test: Path | None) -> Board:
    if annotation is None:
        assert test is not None
        annotation = test.parent.with_name(f"{test.parent.name}_not") / f"{name}.txt"
    if test is None:
        images = annotation.parent.with_name(annotation.parent.name.removesuffix("_not"))
        test = images / f"{name}_test.jpg"
    return Board(test.parent.parent.name, name, test.with_name(f"{name}_temp.jpg"), test, annotation)


def defects_of(board: Board, width: int, height: int) -> list[Box]:
    """The defects of a board whose images are `width` x `height`.

    Raises:
        InputError: a line is not `x1 y1 x2 y2 type`, or its box is outside the image; the message names
            file and line.
    """
    boxes = []
    for number, line in enumerate(board.annotation.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{board.annotation} line {number} ({line!r})"
        try:
            x1, y1, x2, y2, kind = map(int, line.split())
        except ValueError as error:
            raise InputError(
                f"{where} is not `x1 y1 x2 y2 type`, five whole numbers; mend the line"
            ) from error
        if kind not in DEFECTS:
            raise InputError(f"{where}: unknown defect type {kind}; types are 1 to {len(DEFECTS)}")
        if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
            raise InputError(f"{where}: the box is not inside the image of {width} x {height}; mend the line")
        boxes.append(Box(x1, y1, x2, y2, DEFECTS[kind]))
    return boxes


def read_grey(file: Path) -> Grey:
    """The pixels of an image in grey, [height, width].

    Raises:
        InputError: it cannot be decoded.
    """
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("L"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"image {file} cannot be read: {' '.join(str(error).split())}; fetch it again"
        ) from error
