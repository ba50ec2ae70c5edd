"""Read local data sets of boxes, COCO and Pascal VOC; with them what every reader of files needs."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, Sequence, Value
from PIL import ExifTags, UnidentifiedImageError
from PIL import Image as PillowImage

from .data_rows import DataError

log = logging.getLogger("project")

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
SPLITS = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation",
    "validation": "validation", "eval": "validation", "dev": "validation", "test": "test",
}  # fmt: skip


@dataclass(frozen=True)
class LocalData:
    """A local data set: its splits by name, its format, and the names of its classes if files do."""

    splits: dict[str, Dataset]
    format: str
    label_names: list[str] | None = None


def pictures_in(path: Path) -> Iterable[Path]:
    """The pictures of a folder and of those below it."""
    return (item for item in path.rglob("*") if item.suffix.lower() in IMAGE_SUFFIXES and item.is_file())


def size_of(image: Path) -> tuple[int, int]:
    """Width and height of a picture as `datasets` gives it: upright, by what its EXIF data say."""
    try:
        with PillowImage.open(image) as opened:
            width, height = opened.size
            lying = opened.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return (height, width) if lying else (width, height)
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{image}: cannot be read as an image; replace or remove it") from error


def split_of(name: str) -> str | None:
    """The split that a file or folder name speaks of: `instances_val2017` -> `validation`."""
    words = re.findall(r"[a-z]+", name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def by_split(files: Iterable[Path], root: Path) -> dict[str, list[Path]]:
    """Files by the split that their name, else their folder below `root`, speaks of; the others are train."""
    found: dict[str, list[Path]] = {}
    for file in files:
        split = split_of(file.stem) or SPLITS.get(file.parent.name if file.parent != root else "") or "train"
        found.setdefault(split, []).append(file)
    return found


def is_coco(path: Path) -> bool:
    """Whether a file is JSON with images, annotations and categories."""
    return _coco_content(path) is not None


def _coco_content(path: Path) -> dict[str, Any] | None:
    if path.suffix != ".json":
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    known = isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()
    return content if known else None


def coco_files(path: Path) -> list[Path]:
    """The files of annotations in a folder, by the names they usually have."""
    patterns = ("annotations.json", "instances_*.json", "_annotations.coco.json")
    return sorted({file for pattern in patterns for file in path.rglob(pattern)})


def _box_features(names: list[str], polygons: bool = False) -> Features:
    objects: dict[str, Any] = {
        "bbox": Sequence(Sequence(Value("float32"), length=4)),
        "category_id": Sequence(ClassLabel(names=names)),
        "area": Sequence(Value("float32")),
        "iscrowd": Sequence(Value("int8")),
    }
    if polygons:
        objects["segmentation"] = Sequence(Sequence(Sequence(Value("float32"))))
    numbers = {name: Value("int64") for name in ("image_id", "width", "height")}
    return Features({"image": Image(), **numbers, "objects": objects})


def _rows(rows: list[dict[str, Any]], features: Features) -> Dataset:
    return Dataset.from_dict({name: [row[name] for row in rows] for name in features}, features=features)


def load_coco(path: Path, polygons: bool = False) -> LocalData:
    """COCO files: `image`, `image_id`, `width`, `height`, `objects` {`bbox` x, y, w, h, `category_id`, ...}.

    Category ids become 0..K-1 in the order of their ids over all files. Boxes without a size are left out,
    images without boxes stay. Categories of the same name get their id behind it.
    """
    contents = _coco_contents(path)
    categories: dict[int, str] = {}
    for file, content in contents.items():
        for category in content["categories"]:
            name = categories.setdefault(category["id"], category["name"])
            if name != category["name"]:
                raise DataError(
                    f"{file}: category {category['id']} is {category['name']}, elsewhere {name}; agree"
                )
    index = {identity: position for position, identity in enumerate(sorted(categories))}
    times = Counter(categories.values())
    names = [
        f"{name} ({identity})" if times[name] > 1 else name for identity, name in sorted(categories.items())
    ]
    features = _box_features(names, polygons)
    splits = {}
    for split, members in by_split(contents, path).items():
        rows = [row for file in members for row in _coco_rows(file, contents[file], index, polygons)]
        splits[split] = _rows(rows, features)
    return LocalData(splits, "coco", names)


def _coco_contents(path: Path) -> dict[Path, dict[str, Any]]:
    """What the COCO files of a path hold: of those that are named so, else of all that are COCO."""
    named = [path] if path.is_file() else coco_files(path)
    parsed = {file: _coco_content(file) for file in named or path.rglob("*.json")}
    contents = {file: content for file, content in parsed.items() if content is not None}
    if absent := [file for file in named if file not in contents]:
        raise DataError(f"{absent[0]}: not COCO; it must be JSON with images, annotations and categories")
    if not contents:
        raise DataError(f"{path}: no annotations.json and no instances_*.json in it")
    return contents


def _coco_rows(
    file: Path, content: dict[str, Any], index: dict[int, int], polygons: bool
) -> list[dict[str, Any]]:
    rows: dict[Any, dict[str, Any]] = {}
    for image in content["images"]:
        place = _image_beside(file, image["file_name"])
        width, height = image.get("width"), image.get("height")
        width, height = (width, height) if width and height else size_of(place)
        row = {"image": str(place), "image_id": int(image["id"]), "width": width, "height": height}
        rows[image["id"]] = row | {"objects": _no_objects(polygons)}
    dropped = sum(not _add_coco_box(file, item, rows, index) for item in content["annotations"])
    if dropped:
        log.info("%s: %d boxes without a size left out", file, dropped)
    return list(rows.values())


def _no_objects(polygons: bool = False) -> dict[str, list[Any]]:
    return {
        key: [] for key in ("bbox", "category_id", "area", "iscrowd", *(["segmentation"] if polygons else []))
    }


def _add_coco_box(file: Path, item: dict[str, Any], rows: dict[Any, Any], index: dict[int, int]) -> bool:
    where = f"{file}: annotation {item.get('id')}"
    if item.get("image_id") not in rows:
        raise DataError(f"{where}: image_id {item.get('image_id')} is not in images; correct or remove it")
    if item.get("category_id") not in index:
        raise DataError(f"{where}: category_id {item.get('category_id')} is not in categories; correct it")
    box = item.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise DataError(f"{where}: bbox must be [x, y, width, height], found {box}")
    if box[2] <= 0 or box[3] <= 0:
        return False
    objects = rows[item["image_id"]]["objects"]
    objects["bbox"].append(box)
    objects["category_id"].append(index[item["category_id"]])
    objects["area"].append(item.get("area") or box[2] * box[3])
    objects["iscrowd"].append(int(item.get("iscrowd") or 0))
    if "segmentation" in objects:
        objects["segmentation"].append(_outlines(item.get("segmentation") or [], where))
    return True


def _outlines(given: Any, where: str) -> list[list[float]]:
    """Polygons as they are; of a mask in run-length form a flat one for each upright run of pixels."""
    if isinstance(given, list):
        return given
    try:
        mask = import_module("pycocotools.mask")  # projects of vision tasks have it
        size, counts = given["size"], given["counts"]
        coded = mask.frPyObjects(given, *size) if isinstance(counts, list) else given
        steps = np.diff(np.pad(mask.decode(coded), ((1, 1), (0, 0))).astype(int), axis=0).T
    except ImportError as error:
        raise DataError(f"{where}: has a run-length mask; pip install pycocotools to read it") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: segmentation is neither polygons nor run lengths; correct it") from error
    runs = zip(np.argwhere(steps == 1).tolist(), np.argwhere(steps == -1).tolist(), strict=True)
    return [[x, top, x, below - 1, x, below - 1] for (x, top), (_, below) in runs]


def _image_beside(annotations: Path, name: str) -> Path:
    """An image of a COCO file, looked for beside it, in `images/`, and in the folder of its split."""
    bases = [annotations.parent, annotations.parent.parent]
    inner = [
        "",
        "images",
        *(f"{prefix}{suffix}" for suffix in _split_names(annotations) for prefix in ("", "images/")),
    ]
    for place in (base / folder / name for base in bases for folder in inner):
        if place.is_file():
            return place
    raise DataError(f"{annotations}: image {name} is neither beside it nor in images/; check file_name")


def _split_names(annotations: Path) -> list[str]:
    tail = annotations.stem.split("_")[-1]
    return [tail, *(name for name, split in SPLITS.items() if split == split_of(tail))]


def load_voc(path: Path) -> LocalData:
    """Pascal VOC: the columns of `load_coco`, from `Annotations/`, `JPEGImages/` and `ImageSets/Main/`.

    Classes are the sorted names over all splits; corners become x, y, width, height.
    """
    files = {str(file.relative_to(path / "Annotations").with_suffix("")): file
             for file in sorted((path / "Annotations").rglob("*.xml"))}  # fmt: skip
    images = {str(file.relative_to(folder).with_suffix("")): file
              for folder in (path / "images", path / "JPEGImages") if folder.is_dir()
              for file in pictures_in(folder)}  # fmt: skip
    parsed = {
        split: [_voc_row(path, stem, files, images, number) for number, stem in enumerate(stems)]
        for split, stems in _voc_splits(path, list(files)).items()
    }
    names = sorted(
        {name for rows in parsed.values() for row in rows for name in row["objects"]["category_id"]}
    )
    for row in (row for rows in parsed.values() for row in rows):
        row["objects"]["category_id"] = [names.index(name) for name in row["objects"]["category_id"]]
    features = _box_features(names)
    return LocalData({split: _rows(rows, features) for split, rows in parsed.items()}, "voc", names)


def _voc_splits(path: Path, every: list[str]) -> dict[str, list[str]]:
    lists = {
        name: path / "ImageSets" / "Main" / f"{name}.txt" for name in ("train", "val", "test", "trainval")
    }
    present = {name: file for name, file in lists.items() if file.is_file()}
    if "train" in present:
        present.pop("trainval", None)
    if not present:
        return {"train": every}
    stems = {name: file.read_text(encoding="utf-8").splitlines() for name, file in present.items()}
    return {
        SPLITS.get(name, "train"): [line.split()[0] for line in lines if line.strip()]
        for name, lines in stems.items()
    }


def _voc_row(
    path: Path, stem: str, files: dict[str, Path], images: dict[str, Path], number: int
) -> dict[str, Any]:
    if stem not in files:
        raise DataError(f"{path / 'Annotations' / stem}.xml: is missing, but ImageSets lists {stem}")
    if stem not in images:
        raise DataError(f"{path / 'JPEGImages' / stem}.*: no image for {files[stem]}; add it")
    try:
        tree = ElementTree.parse(files[stem])  # noqa: S314 (expat since 2.4 refuses entity bombs)
    except ElementTree.ParseError as error:
        raise DataError(f"{files[stem]}: not XML ({error}); write it again") from error
    width, height = size_of(images[stem])
    objects = _no_objects()
    for item in tree.iter("object"):
        left, top, right, bottom = _corners(item, files[stem])
        if right <= left or bottom <= top:
            log.info("%s: a box without a size left out", files[stem])
            continue
        objects["bbox"].append([left, top, right - left, bottom - top])
        objects["category_id"].append((item.findtext("name") or "").strip())
        objects["area"].append((right - left) * (bottom - top))
        objects["iscrowd"].append(0)
    row = {"image": str(images[stem]), "image_id": number, "width": width, "height": height}
    return row | {"objects": objects}


def _corners(item: ElementTree.Element, file: Path) -> list[float]:
    try:
        return [float(item.findtext(f"bndbox/{key}") or "") for key in ("xmin", "ymin", "xmax", "ymax")]
    except ValueError as error:
        raise DataError(
            f"{file}: object {item.findtext('name')} lacks a corner in bndbox; complete it"
        ) from error
