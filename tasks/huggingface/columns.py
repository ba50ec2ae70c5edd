"""Which columns a task needs, and whether a data set has them under these or other names.

A column under another name is renamed by `prepare_data.py` (`column_mapping` of the config). Anything else
that would have to be changed is for a person to decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tasks.errors import listed

TEXT = ("string",)
TURNS = ("list of struct",)
OF_THE_PROMPT = ("input", "context", "system", "system_prompt")
"""Columns of text that belong to the prompt beside them: without them its answer means something else."""
ROLES = ("messages.role", "messages.content")

NAMES: dict[str, tuple[str, ...]] = {
    "image": ("image", "img", "picture", "photo", "jpg", "png"),
    "images": ("images",),
    "label": ("label", "labels", "target", "class", "category", "cls"),
    "objects": ("objects", "annotations"),
    "objects.bbox": ("bbox", "bboxes", "boxes"),
    "objects.category_id": ("category_id", "category", "categories", "label", "labels"),
    "annotation": ("annotation", "mask", "segmentation", "label"),
    "segments_info": ("segments_info",),
    "depth_map": ("depth_map", "depth"),
    "messages": ("messages",),
    "question": ("question",),
    "answer": ("answer", "multiple_choice_answer"),
    "answers": ("answers",),
    "text": ("text", "caption"),
    "prompt": ("prompt", "instruction", "question"),
    "completion": ("completion", "response", "output", "answer"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
}
"""Names that mean the same, the one that the project uses first in its own list."""

KINDS: dict[str, tuple[str, ...]] = {
    "image": ("image",),
    "images": ("list of image",),
    "label": ("class", "int", "string", "bool"),
    "objects": ("struct",),
    "objects.bbox": ("list of list of float", "list of list of int"),
    "objects.category_id": ("list of class", "list of int", "list of string"),
    "annotation": ("image",),
    "segments_info": (*TURNS, "struct"),
    "depth_map": ("image", "array", "list of list of float"),
    "messages": TURNS,
    "question": TEXT,
    "answer": TEXT,
    "answers": ("list of string", *TURNS),
    "text": TEXT,
    "prompt": (*TEXT, *TURNS),
    "completion": (*TEXT, *TURNS),
    "chosen": (*TEXT, *TURNS),
    "rejected": (*TEXT, *TURNS),
}
"""What a column may hold to be the one that is meant."""


@dataclass(frozen=True)
class ColumnCheck:
    """What a comparison of columns found.

    Attributes:
        columns: those that the task will use, by their names after renaming.
        mapping: names in the data set, each with the name that it has to get.
        problems: what a person has to decide, a line each; empty where the set fits.
        bbox_format: of detection sets: `xywh` or `xyxy`.
        notes: what was assumed.
    """

    columns: tuple[str, ...] = ()
    mapping: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    bbox_format: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether renaming alone makes the set fit the task."""
        return not self.problems

    def source(self, column: str) -> str:
        """The name in the data set of a column, or part of one, of the task."""
        named = {target: name for name, target in self.mapping.items()}
        top, dot, part = column.partition(".")
        return named.get(column) or named.get(top, top) + dot + part


def check_columns(
    task: str,
    method: str,
    kinds: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]] = (),
    given: Mapping[str, str] | None = None,
    rewards: Sequence[str] | None = None,
) -> ColumnCheck:
    """Compare the columns of a data set with those of a task.

    Args:
        task: a key of `kinds.TASKS`.
        method: `sft`, `dpo` or `grpo`.
        kinds: what each column holds, as `probe.kinds_of` gives it.
        rows: a few rows: boxes in them show which format they have.
        given: the person's own column mapping, which comes first; what is found is added to it.
        rewards: the person's own `reward_functions`.
    """
    from tasks.huggingface.project.files.data_rows import CLASSES, required

    given = given or {}
    absent = [name for name in given if name not in kinds]
    if absent:
        return ColumnCheck(problems=(f"column_mapping: the data set has no column {absent[0]}",))
    sources = _renamed(kinds, given)
    known = {name: kinds[source] for name, source in sources.items()}
    if method == "grpo" and known.get("answer") in ("int", "float"):  # rewards compare its text
        known["answer"] = "string"
    asked = {"task": task, "training_method": method, "reward_functions": rewards}
    choices = [tuple(sorted(choice)) for choice in required(asked)]
    tried = [_named(choice, known) for choice in choices]
    # A set that fits as it is goes before one that has to be renamed.
    best = min(tried, key=lambda check: (len(check.problems), len(check.mapping)))
    if best.problems:
        wanted = " or ".join(" + ".join(choice) for choice in choices)
        has = listed([f"{name} ({kind})" for name, kind in kinds.items() if "." not in name])
        reasons = "; ".join(best.problems)
        return ColumnCheck(
            problems=(f"{task} needs the columns {wanted}; the data set has {has}: {reasons}",)
        )
    left = [name for name in OF_THE_PROMPT if known.get(name) in TEXT]
    if left and "prompt" in best.columns and "prompt" not in given.values():
        return ColumnCheck(
            problems=(f"column {left[0]} would be dropped: join it to the prompt, or map a column to prompt",)
        )
    found = {sources[name]: target for name, target in best.mapping.items()}
    best = replace(best, mapping={**given, **found})
    if "objects" not in best.columns:
        return best
    outlines = best.source("objects.segmentation")
    if "segments_info" in CLASSES[task] and outlines not in kinds:
        return ColumnCheck(problems=(f"no {outlines}: outlines are what {task} learns",))
    return _with_boxes(best, rows)


def _renamed(kinds: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The names that the columns have after renaming, each with its name in the data set."""
    names = {}
    for name in sorted(kinds, key=given.__contains__):  # a renamed part comes last and takes its place
        top, dot, part = name.partition(".")
        # A column that stands where a renamed one comes to stand is left out, as `prepare_data.py` does.
        if top in given or top not in given.values():
            names[given.get(name) or given.get(top, top) + dot + part] = name
    return names


def _named(choice: Sequence[str], kinds: Mapping[str, str]) -> ColumnCheck:
    mapping: dict[str, str] = {}
    problems = []
    for column in choice:
        name, problem = _found(column, "", kinds)
        if problem:
            problems.append(problem)
        elif name != column:
            mapping[name] = column
        if column == "objects" and not problem:
            for part in ("objects.bbox", "objects.category_id"):
                inner, problem = _found(part, f"{name}.", kinds)
                problems += [problem] if problem else []
                if not problem and inner != f"{name}.{part.partition('.')[2]}":
                    mapping[inner] = part
        if column == "messages" and not problem and not all(part in kinds for part in ROLES):
            problems.append("messages must hold role and content")
    return ColumnCheck(tuple(choice), mapping, tuple(problems))


def _found(column: str, prefix: str, kinds: Mapping[str, str]) -> tuple[str, str]:
    """The name that a column has in the data set, or what is wrong with it."""
    names = [prefix + name for name in NAMES[column]]
    present = [name for name in names if name in kinds]
    right = [name for name in present if kinds[name] in KINDS[column]]
    if right and (right[0] == names[0] or len(right) == 1):
        return right[0], ""
    if right:
        return "", f"{' and '.join(right)} could each be {column}; say which by column_mapping"
    if present:
        shown = f"{present[0]} holds {kinds[present[0]]}"
        return "", f"{shown}, {column} must be {' or '.join(KINDS[column])}"
    return "", f"no {column}"


def _with_boxes(check: ColumnCheck, rows: Sequence[Mapping[str, Any]]) -> ColumnCheck:
    """The check with the format of the boxes, by where they would lie in their images."""
    objects, image = check.source("objects"), check.source("image")
    boxes, categories = (
        check.source(f"objects.{part}").rpartition(".")[2] for part in ("bbox", "category_id")
    )
    placed = []
    for number, row in enumerate(rows):
        if not row[objects]:  # a picture without any
            continue
        if len(row[objects][boxes]) != len(row[objects][categories]):
            problem = f"row {number}: {objects} has as many {boxes} as {categories} elsewhere, not here"
            return ColumnCheck(problems=(problem,))
        placed += [(box, row[image].size) for box in row[objects][boxes]]
    fits: dict[str, Callable[[Any, Any], bool]] = {"xywh": _inside, "xyxy": _corners_inside}
    possible = [name for name, holds in fits.items() if all(holds(*item) for item in placed)]
    if not possible:
        return ColumnCheck(
            problems=("boxes reach beyond their images both as x, y, width, height and as corners",)
        )
    notes = () if len(possible) == 1 else ("boxes are taken as x, y, width, height: both ways would fit",)
    return replace(check, bbox_format=possible[0], notes=notes if placed else ())


def _inside(box: Sequence[float], size: tuple[int, int]) -> bool:
    left, top, width, height = box
    return width >= 0 and height >= 0 and left + width <= size[0] + 1 and top + height <= size[1] + 1


def _corners_inside(box: Sequence[float], size: tuple[int, int]) -> bool:
    left, top, right, bottom = box
    return left <= right <= size[0] + 1 and top <= bottom <= size[1] + 1
