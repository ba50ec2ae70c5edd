"""What prepared rows hold: the columns of each task, under one name each, and whether they are right."""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Image, Sequence, Value
from PIL import Image as PillowImage

log = logging.getLogger("project")

IGNORED = 255  # the pixel of a mask that belongs to no class
LOOKED_AT = 20  # masks whose class ids are compared with the names
PICTURES = {"image", "images", "annotation", "depth_map"}
CLASSES = {
    "image-classification": ("label",),
    "object-detection": ("objects",),
    "instance-segmentation": ("segments_info", "objects"),
    "panoptic-segmentation": ("segments_info", "objects"),
}
"""Columns of the prepared rows that hold class ids, by task, the one that is learned first."""
TARGETS = {
    "image-classification": "label",
    "semantic-segmentation": "annotation",
    "instance-segmentation": "annotation",
    "panoptic-segmentation": "annotation",
    "depth-estimation": "depth_map",
}
"""What the column that `label_column` names becomes, by task."""

REQUIRED: dict[str, list[set[str]]] = {
    "image-classification": [{"image", "label"}],
    "object-detection": [{"image", "objects"}],
    "semantic-segmentation": [{"image", "annotation"}],
    "instance-segmentation": [{"image", "objects"}, {"image", "annotation", "segments_info"}],
    "panoptic-segmentation": [{"image", "annotation", "segments_info"}, {"image", "objects"}],
    "depth-estimation": [{"image", "depth_map"}],
    "image-text-to-text": [
        {"image", "messages"}, {"images", "messages"}, {"image", "question", "answer"},
        {"image", "question", "answers"}, {"image", "text"},
    ],
    "text-generation": [{"messages"}, {"prompt", "completion"}, {"text"}],
    "dpo": [{"prompt", "chosen", "rejected"}],
    "grpo": [{"prompt", "answer"}],
}  # fmt: skip
"""Columns of the prepared rows by task (or training method), one set of which there must be."""


class DataError(ValueError):
    """The data set or the config is not what it must be: one line, with what to do."""


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def mapping_of(config: dict[str, Any]) -> dict[str, str]:
    """Names in the data set, each with the name that it has here."""
    stated = {
        config.get("image_column_src"): "image",
        config.get("label_column"): TARGETS.get(str(config.get("task"))),
    }
    named = {source: name for source, name in stated.items() if source and name and source != name}
    return named | (config.get("column_mapping") or {})


def picture_sources(config: dict[str, Any]) -> list[str]:
    """The names in the data set of the columns that the config makes pictures."""
    return [source for source, target in mapping_of(config).items() if target in PICTURES]


def required(config: dict[str, Any]) -> list[set[str]]:
    """The columns that a config needs, one set of which there must be."""
    method = config.get("training_method") or "sft"
    if method == "grpo" and config.get("reward_functions"):  # those by default compare with `answer`
        return [{"prompt"}]
    return REQUIRED[method if method in REQUIRED else config["task"]]


def source_of(config: dict[str, Any], target: str) -> str:
    """The name in the data set of what is `target` here."""
    return next((source for source, name in mapping_of(config).items() if name == target), target)


def normalised(config: dict[str, Any], splits: dict[str, Dataset]) -> dict[str, Dataset]:
    """The splits with the columns of the task, under one name each.

    Raises:
        DataError: a column is missing, or a row does not hold what it must.
    """
    mapping = mapping_of(config)
    columns = {source: target for source, target in mapping.items() if "." not in source}
    for name, rows in splits.items():
        absent = [source for source in columns if source not in rows.column_names]
        if absent:
            raise DataError(f"column_mapping: {name} has no column {absent[0]}, only {_listed(rows)}")
        # A column that stands where a renamed one comes to stand is not the one that is wanted.
        taken = [
            target for target in columns.values() if target in rows.column_names and target not in columns
        ]
        splits = splits | {name: rows.remove_columns(taken).rename_columns(columns)}
    _require(config, splits)
    task = config["task"]
    if task == "image-classification":
        return _with_class_ids(splits)
    if "objects" in splits["train"].column_names and "objects" in CLASSES.get(task, ()):
        return _with_boxes(config, splits)
    if task == "semantic-segmentation":
        return {name: _with_one_channel(rows, name) for name, rows in splits.items()}
    return splits


def _require(config: dict[str, Any], splits: dict[str, Dataset]) -> None:
    wanted = required(config)
    for name, rows in splits.items():
        held = next((columns for columns in wanted if columns <= set(rows.column_names)), None)
        if held is None:
            choices = " or ".join("+".join(sorted(columns)) for columns in wanted)
            raise DataError(f"{name}: needs the columns {choices}, has {_listed(rows)}; set column_mapping")
        for column in sorted(held & PICTURES):
            feature = getattr(rows.features[column], "feature", rows.features[column])
            if isinstance(feature, Value) or (column != "depth_map" and not isinstance(feature, Image)):
                raise DataError(f"{name}: column {column} holds {feature}, not pictures; correct it")


def _listed(rows: Dataset) -> str:
    return ", ".join(rows.column_names)


def _with_class_ids(splits: dict[str, Dataset]) -> dict[str, Dataset]:
    """Labels that are text become ids of the sorted names over both splits."""
    feature = splits["train"].features["label"]
    if isinstance(feature, ClassLabel) or "int" in getattr(feature, "dtype", ""):
        return splits
    if getattr(feature, "dtype", None) not in ("string", "large_string", "bool"):
        raise DataError(f"column label: holds {feature}; it must hold one class for each image")
    values = {name: [str(value) for value in rows["label"]] for name, rows in splits.items()}
    kind = ClassLabel(names=sorted({value for column in values.values() for value in column}))
    return {name: _replaced(rows, "label", kind.str2int(values[name]), kind) for name, rows in splits.items()}


def _replaced(rows: Dataset, name: str, values: list[Any], feature: Any) -> Dataset:
    return rows.remove_columns(name).add_column(name, values, feature=feature)


def _with_boxes(config: dict[str, Any], splits: dict[str, Dataset]) -> dict[str, Dataset]:
    """`objects` with `bbox` as x, y, width, height, `category_id`, `area`, `iscrowd`; `image_id` if missing.

    Images without boxes are left out of train and stay in eval, where a false alarm on them counts.
    """
    names = [source_of(config, f"objects.{part}").rpartition(".")[2] for part in ("bbox", "category_id")]
    corners = config.get("bbox_format") == "xyxy"
    kind = _category_kind(config, splits, names)
    nothing: dict[str, Any] = {part: [] for part in splits["train"].features["objects"]}
    boxes = {}
    for name, rows in splits.items():
        made = [
            _objects(value or nothing, names, kind, corners, f"{name}, row {number}")
            for number, value in enumerate(rows["objects"])
        ]
        areas = [width * height for objects in made for _, _, width, height in objects["bbox"]]
        if areas and max(areas) < 1:
            raise DataError(f"{name}: boxes must be in pixels, none has an area of 1; correct the data set")
        boxes[name] = _replaced(rows, "objects", made, _objects_feature(kind, made))
        if "image_id" not in rows.column_names:
            boxes[name] = boxes[name].add_column("image_id", list(range(len(rows))))
    with_boxes = [number for number, value in enumerate(boxes["train"]["objects"]) if value["bbox"]]
    if len(with_boxes) < len(boxes["train"]):
        log.info("train: %d images without boxes left out", len(boxes["train"]) - len(with_boxes))
        boxes["train"] = boxes["train"].select(with_boxes)
    return boxes


def _category_kind(config: dict[str, Any], splits: dict[str, Dataset], names: list[str]) -> Any:
    feature, columns = splits["train"].features["objects"], CLASSES[config["task"]]
    outlined = "segments_info" in columns and "segments_info" not in splits["train"].column_names
    wanted = [*names, *(["segmentation"] if outlined else [])]
    if not isinstance(feature, dict) or not set(wanted) <= set(feature):
        raise DataError(f"column objects: holds {feature}; it needs the lists {' and '.join(wanted)}")
    kind = feature[names[1]].feature
    if getattr(kind, "dtype", "") in ("string", "large_string"):
        values = (value[names[1]] for rows in splits.values() for value in rows["objects"] if value)
        found = (name for listed in values for name in listed or [])
        return ClassLabel(names=config.get("label_names") or sorted(set(found)))
    return kind


def _objects(value: dict[str, Any], names: list[str], kind: Any, corners: bool, where: str) -> dict[str, Any]:
    boxes, categories = (value[name] or [] for name in names)
    if any(len(box) != 4 for box in boxes):
        raise DataError(f"{where}: a box has not four numbers; correct the row")
    if corners:
        boxes = [[left, top, right - left, bottom - top] for left, top, right, bottom in boxes]
    keep = [index for index, box in enumerate(boxes) if box[2] > 0 and box[3] > 0]
    if isinstance(kind, ClassLabel):
        categories = [kind.str2int(item) if isinstance(item, str) else item for item in categories]
    made = {"bbox": boxes, "category_id": categories}
    made["area"] = value.get("area") or [width * height for _, _, width, height in boxes]
    made["iscrowd"] = [int(item or 0) for item in value.get("iscrowd") or [0] * len(boxes)]
    if "segmentation" in value:
        made["segmentation"] = [item or [] for item in value["segmentation"] or [[]] * len(boxes)]
    uneven = next((name for name, column in made.items() if len(column) != len(boxes)), None)
    if uneven:
        raise DataError(f"{where}: {len(boxes)} boxes, {len(made[uneven])} of {uneven}; correct the row")
    return {name: [column[index] for index in keep] for name, column in made.items()}


def _objects_feature(kind: Any, made: list[dict[str, Any]]) -> dict[str, Any]:
    feature = {
        "bbox": Sequence(Sequence(Value("float32"), length=4)),
        "category_id": Sequence(kind),
        "area": Sequence(Value("float32")),
        "iscrowd": Sequence(Value("int8")),
    }
    outlines = {"segmentation": Sequence(Sequence(Sequence(Value("float32"))))}
    return feature | (outlines if made and "segmentation" in made[0] else {})


def _with_one_channel(rows: Dataset, split: str) -> Dataset:
    """Masks of several channels keep their first, which holds the class ids."""
    raw = rows.cast_column("annotation", Image(decode=False))
    given = list(raw["annotation"])
    masks = [_one_channel(value, f"{split}, row {number}") for number, value in enumerate(given)]
    if masks == given:
        return rows
    log.info("%s: masks of several channels, the first one is kept", split)
    return _replaced(rows, "annotation", masks, Image())


def _one_channel(value: dict[str, Any], where: str) -> dict[str, Any]:
    stream = io.BytesIO()
    try:
        with PillowImage.open(io.BytesIO(value["bytes"]) if value["bytes"] else value["path"]) as mask:
            if len(mask.getbands()) == 1:
                return value
            mask.getchannel(0).save(stream, "PNG")
    except (OSError, TypeError) as error:
        raise DataError(f"{where}: its mask cannot be read; replace it") from error
    return {"bytes": stream.getvalue(), "path": None}


def check_rows(config: dict[str, Any], splits: dict[str, Dataset]) -> None:
    """Both splits have rows and the same columns, the first row can be read, and class ids have names.

    Raises:
        DataError: one of these does not hold.
    """
    train, evaluation = splits["train"], splits["eval"]
    for name, rows in splits.items():
        if not len(rows):
            raise DataError(f"{name}: no row is left; check n_train, n_eval and the splits")
    if sorted(train.column_names) != sorted(evaluation.column_names):
        raise DataError(f"train has {_listed(train)}, eval {_listed(evaluation)}; make them the same")
    for name, rows in splits.items():
        try:
            log.info("%s: %d rows; the first: %s", name, len(rows), shortened(rows[0]))
        except (OSError, ValueError) as error:
            raise DataError(f"{name}, row 0: cannot be read ({first_line(error)}); replace it") from error
    names, wanted = label_names(config["task"], train), config.get("label_names")
    if names and wanted and list(names) != list(wanted):
        raise DataError(f"label_names {wanted}: the data set has {names}; correct config.yaml")
    count = len(wanted or names or []) or config.get("num_labels")
    if config["task"] == "image-classification" and count == 1:
        raise DataError("one class only: a classifier needs two or more; add pictures of another")
    if config["task"] == "semantic-segmentation" and count:
        _check_masks(train, count, bool(config.get("reduce_labels")))
    for column in CLASSES.get(config["task"], ()) if count else ():
        for name, rows in splits.items():
            if column in rows.column_names:
                _check_classes(rows[column], count, name)


def _check_classes(values: Iterable[Any], count: int, split: str) -> None:
    """Ids lie below the number of names: a loss takes no others, and to DETR the next one is no object."""
    for number, value in enumerate(values):
        if isinstance(value, list):
            ids = [one["category_id"] for one in value]
        else:
            ids = value["category_id"] if isinstance(value, dict) else [value]
        strange = [one for one in ids if one is None or not 0 <= one < count]
        if strange:
            raise DataError(
                f"{split}, row {number}: class {strange[0]}, there are {count} names, from 0 on; "
                "correct the data set or label_names"
            )


def _check_masks(rows: Dataset, count: int, reduced: bool) -> None:
    """Ids have names; where they are reduced, 0 has none and the names begin at 1."""
    found: set[int] = set()
    only_void = {0, IGNORED}
    for number, row in enumerate(rows.select_columns("annotation")):
        if number >= LOOKED_AT and (found != only_void or count == 1):
            return
        ids = np.unique(np.asarray(row["annotation"]))
        found |= set(ids.tolist())
        strange = [int(value) for value in ids if value >= count + reduced and value != IGNORED]
        if strange:
            raise DataError(
                f"train, row {number}: its mask holds class {strange[0]}, there are {count} names"
            )
    if found == only_void and count > 1:
        raise DataError("train: masks hold 0 and 255 only, and pixels of 255 are ignored; write 1 for 255")


def label_names(task: str, rows: Dataset) -> list[str] | None:
    """The names of the classes, where the type of a column that the task learns holds them."""
    for column in CLASSES.get(task, ()):
        feature = rows.features.get(column)
        inner = getattr(feature, "feature", feature)  # of a list of objects, or of an object of lists
        if isinstance(inner, dict):
            inner = inner.get("category_id")
            inner = getattr(inner, "feature", inner)
        if isinstance(inner, ClassLabel):
            return list(inner.names)
    return None


def described(config: dict[str, Any], splits: dict[str, Dataset]) -> dict[str, Any]:
    """Counts, columns and names of classes, as they stand in `prepared.json`."""
    train = splits["train"]
    facts: dict[str, Any] = {name: len(rows) for name, rows in splits.items()}
    facts["columns"] = {name: str(feature)[:200] for name, feature in train.features.items()}
    facts["label_names"] = label_names(config["task"], train)
    if "label" in train.column_names and not isinstance(train.features["label"], Image):
        for name, rows in splits.items():
            facts[f"{name}_labels"] = {str(key): n for key, n in sorted(Counter(rows["label"]).items())}
    for key, value in facts.items():
        log.info("%s: %s", key, value)
    return facts


def shortened(value: Any, most: int = 80) -> Any:
    """A value as short text: what a person looks at to see that a row is right."""
    if isinstance(value, dict):
        return {key: shortened(item, most) for key, item in value.items()}
    if isinstance(value, list):
        return [shortened(item, most) for item in value[:4]] + (["..."] if len(value) > 4 else [])
    if isinstance(value, PillowImage.Image):
        return f"<{value.mode} image {value.width}x{value.height}>"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return value[:most] + "..." if isinstance(value, str) and len(value) > most else value
