"""Importer of DeepPCB: pairs of a defect-free template and a tested board image, with annotated defects."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from tasks.dataset.building import Row, new_folder, save_image, write_sets
from tasks.dataset.deeppcb_source import Board, Box, Grey, defects_of, find_boards, read_grey
from tasks.dataset.leakage import same_look, thumbnail_of
from tasks.dataset.specs import baseline_spec
from tasks.dataset.table import PASS, Lighting
from tasks.dataset.workspace import (
    KPI_CSV,
    POOL_CSV,
    TRAINING_CSV,
    VALIDATION_CSV,
    Workspace,
    open_workspace,
)
from tasks.errors import InputError, listed

logger = logging.getLogger("deft")

LIGHTING = Lighting(("SolderLight",), ".png")
"""DeepPCB has one grey image per board; it takes the name that AOI specs give a single lighting."""

SetName = Literal["training", "validation", "kpi", "pool"]
CSV_OF: dict[SetName, str] = {
    "training": TRAINING_CSV,
    "validation": VALIDATION_CSV,
    "kpi": KPI_CSV,
    "pool": POOL_CSV,
}
DEAL: dict[SetName, int] = {"training": 4, "validation": 1, "kpi": 2, "pool": 4}
"""Board images that each set gets in one round, where a group is named for several sets."""

ORDER: tuple[SetName, ...] = ("kpi", "validation", "training", "pool")

MARGIN = 8
"""Pixels that a PASS crop keeps from every annotated defect."""
STRIDE = 16
"""Step in pixels between the windows that may become PASS crops."""
COPPER = (0.1, 0.9)
"""Least and greatest share of bright pixels in a PASS crop; others show no structure."""


@dataclass(frozen=True)
class Crop:
    """A square window of a board: its upper left corner, what is in its middle, and its thumbnail."""

    board: Board
    left: int
    top: int
    label: str
    look: npt.NDArray[np.float32] = field(repr=False)


def import_deeppcb(
    source: Path,
    folder: Path,
    crop: int = 64,
    pass_share: float = 0.5,
    groups: Mapping[SetName, Sequence[str]] | None = None,
    limits: Mapping[SetName, int] | None = None,
    seed: int = 0,
) -> Workspace:
    """Cut a DeepPCB tree into a workspace with 64-pixel crops.

    Around every defect lies a NO_PASS crop labelled with the defect in its middle (others may reach into
    it); PASS crops touch no defect. The golden crop is the same window of the template. No board image is
    in two sets.

    Args:
        source: the folder that holds the groups, or its `PCBData` folder's parent.
        folder: the new workspace.
        crop: width and height of a crop in pixels.
        pass_share: share of PASS rows in each set, 0 to 1 exclusive.
        groups: the groups of each set; a group of several sets is dealt by board image. Default:
            the largest group is the pool, the second the KPI set, training and validation share the rest.
        limits: the most rows of a set.
        seed: of jitter, PASS windows and dealing; the same seed gives the same files.

    Raises:
        InputError: the source is not a DeepPCB tree, a file of it is missing or malformed (file and line
            are named), an argument is out of range, or the folder is in use.
    """
    if not 0 < pass_share < 1:
        raise InputError(f"pass_share is {pass_share}; it must lie between 0 and 1, both classes are needed")
    boards = find_boards(source)
    rng = np.random.default_rng(seed)
    dealt = deal(boards, groups or default_groups(boards), rng)
    planned: dict[SetName, list[Crop]] = {}
    # The KPI set first: crops of later sets that look like one of an earlier set are left out.
    for name in ORDER:
        crops = [found for board in dealt[name] for found in plan(board, crop, pass_share, rng)]
        crops = without_looks(crops, [one for others in planned.values() for one in others], name)
        planned[name] = limited(crops, (limits or {}).get(name), pass_share, rng)
        logger.info("%s: %d rows of %d board images", name, len(planned[name]), len(dealt[name]))
    with new_folder(folder) as root:
        for name, boards_of_set in dealt.items():
            for board in boards_of_set:
                _cut(root / "images", board, [one for one in planned[name] if one.board is board], crop)
        sets = {CSV_OF[name]: [_row(one) for one in planned[name]] for name in CSV_OF}
        write_sets(root, sets, baseline_spec(LIGHTING.names, LIGHTING.image_ext, crop))
    return open_workspace(folder)


def without_looks(crops: Sequence[Crop], others: Sequence[Crop], name: str) -> list[Crop]:
    """The crops that do not look like any of the others: bare straight tracks recur on many boards."""
    if not crops or not others:
        return list(crops)
    alike = same_look(np.array([one.look for one in crops]), np.array([one.look for one in others]))
    if alike:
        logger.info("%s: %d crops left out that look like a crop of another set", name, len(alike))
    twins = {left for left, _ in alike}
    return [one for index, one in enumerate(crops) if index not in twins]


def default_groups(boards: Sequence[Board]) -> dict[SetName, list[str]]:
    """The groups of each set when nobody says: largest pool, second KPI, the rest trains and validates."""
    sizes: dict[str, int] = {}
    for board in boards:
        sizes[board.group] = sizes.get(board.group, 0) + 1
    by_size = sorted(sizes, key=lambda group: (-sizes[group], group))
    if len(by_size) < 3:
        return dict.fromkeys(get_args(SetName), by_size)
    return {"training": by_size[2:], "validation": by_size[2:], "kpi": by_size[1:2], "pool": by_size[:1]}


def deal(
    boards: Sequence[Board], groups: Mapping[SetName, Sequence[str]], rng: np.random.Generator
) -> dict[SetName, list[Board]]:
    """The boards of each set; a group that is named for several sets is dealt in the ratio of `DEAL`.

    Raises:
        InputError: a set is left without boards, or a name is not a group or set.
    """
    known = sorted({board.group for board in boards})
    unknown = [group for named in groups.values() for group in named if group not in known]
    if unknown or set(groups) - set(DEAL):
        raise InputError(
            f"groups names {listed([*unknown, *sorted(set(groups) - set(DEAL))])}; "
            f"groups are {listed(known)}; sets are {', '.join(DEAL)}"
        )
    dealt: dict[SetName, list[Board]] = {name: [] for name in DEAL}
    for group in known:
        # One slot of every set first, so that even a few boards reach all sets.
        rounds = [name for turn in range(max(DEAL.values())) for name in DEAL if turn < DEAL[name]]
        slots = [name for name in rounds if group in groups.get(name, ())]
        members = [board for board in boards if board.group == group]
        for position, index in enumerate(rng.permutation(len(members))):
            if slots:
                dealt[slots[position % len(slots)]].append(members[index])
    empty = [name for name in DEAL if not dealt[name]]
    if empty:
        raise InputError(f"no board images for {', '.join(empty)}; name more groups for them")
    return dealt


def plan(board: Board, crop: int, pass_share: float, rng: np.random.Generator) -> list[Crop]:
    """The crops of one board: one per defect, and PASS crops in the given share where there is room."""
    template = read_grey(board.template)
    height, width = template.shape
    if min(height, width) < crop:
        raise InputError(
            f"{board.template} is {width} x {height}, smaller than a crop of {crop}; take a smaller crop"
        )
    boxes = defects_of(board, width, height)
    test = read_grey(board.test)
    if test.shape != template.shape:
        raise InputError(f"{board.test} and {board.template} differ in size; fetch them again")
    labels = {_around(box, crop, width, height, rng): box.label for box in boxes}
    if len(labels) < len(boxes):
        logger.info("%s: %d defects share the window of another", board.test, len(boxes) - len(labels))
    wanted = max(1, round(len(boxes) * pass_share / (1 - pass_share)))
    labels.update(dict.fromkeys(pass_windows(template, boxes, crop, wanted, rng), PASS))
    picture = Image.fromarray(test)
    return [
        Crop(board, left, top, label, thumbnail_of(picture.crop((left, top, left + crop, top + crop))))
        for (left, top), label in labels.items()
    ]


def _around(box: Box, crop: int, width: int, height: int, rng: np.random.Generator) -> tuple[int, int]:
    """The corner of a window around a defect, off its middle by up to an eighth, inside the image."""
    corner = []
    for low, high, size in ((box.x1, box.x2, width), (box.y1, box.y2, height)):
        play = max(0, min(crop // 8, (crop - (high - low)) // 2))
        start = (low + high - crop) // 2 + int(rng.integers(-play, play + 1))
        corner.append(min(max(start, 0), size - crop))
    return corner[0], corner[1]


def pass_windows(
    template: Grey, boxes: Iterable[Box], crop: int, wanted: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Up to `wanted` windows (left, top) that touch no box and show structure, little overlapping."""
    height, width = template.shape
    lefts, tops = (
        axis.ravel()
        for axis in np.meshgrid(range(0, width - crop + 1, STRIDE), range(0, height - crop + 1, STRIDE))
    )
    free = np.ones(len(lefts), dtype=bool)
    for box in boxes:
        beside = (lefts >= box.x2 + MARGIN) | (lefts + crop <= box.x1 - MARGIN)
        free &= beside | (tops >= box.y2 + MARGIN) | (tops + crop <= box.y1 - MARGIN)
    sums = np.pad(template > 127, ((1, 0), (1, 0))).cumsum(0, dtype=np.int64).cumsum(1)
    bright = (
        sums[tops + crop, lefts + crop]
        - sums[tops, lefts + crop]
        - sums[tops + crop, lefts]
        + sums[tops, lefts]
    )
    free &= (bright > COPPER[0] * crop * crop) & (bright < COPPER[1] * crop * crop)
    chosen: list[tuple[int, int]] = []
    for index in rng.permutation(np.flatnonzero(free)):
        left, top = int(lefts[index]), int(tops[index])
        if len(chosen) == wanted:
            break
        if all(max(abs(left - x), abs(top - y)) >= crop // 2 for x, y in chosen):
            chosen.append((left, top))
    return chosen


def limited(
    crops: Sequence[Crop], limit: int | None, pass_share: float, rng: np.random.Generator
) -> list[Crop]:
    """At most `limit` crops, PASS and defects in the given share, drawn from all boards; order is kept."""
    if limit is None or limit >= len(crops):
        return list(crops)
    order = rng.permutation(len(crops))
    passes = [index for index in order if crops[index].label == PASS][: round(limit * pass_share)]
    defects = [index for index in order if crops[index].label != PASS][: limit - len(passes)]
    return [crops[index] for index in sorted([*passes, *defects])]


def _folders(board: Board) -> tuple[str, str]:
    return f"{board.group}/{board.name}", f"golden/images/{board.group}/{board.name}"


def _object_name(crop: Crop) -> str:
    return f"x{crop.left:03d}y{crop.top:03d}"


def _cut(images: Path, board: Board, crops: Sequence[Crop], size: int) -> None:
    if not crops:
        return
    pictures = (read_grey(board.test), read_grey(board.template))
    for folder, pixels in zip(_folders(board), pictures, strict=True):
        (images / folder).mkdir(parents=True)
        for one in crops:
            (file,) = LIGHTING.files(images, folder, _object_name(one))
            save_image(file, pixels[one.top : one.top + size, one.left : one.left + size])


def _row(crop: Crop) -> Row:
    input_path, golden_path = _folders(crop.board)
    return {
        "input_path": input_path,
        "golden_path": golden_path,
        "label": crop.label,
        "object_name": _object_name(crop),
        "project": "deeppcb",
        "boardname": crop.board.name,
        "comp_type_1": crop.board.group,
    }
