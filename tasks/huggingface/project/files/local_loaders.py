"""Read a local data set: find out its format and give its splits as `datasets.Dataset`.

Formats: imagefolder (a folder per class), a segmentation folder (`images/` and `masks/`), coco, voc, jsonl,
arrow (`save_to_disk`), parquet and csv. Needs datasets, Pillow and numpy only.

    detect_format("photos")            -> "imagefolder"
    load_local("photos").splits        -> {"train": Dataset, "validation": Dataset}

Images stay references to their files until they are read, so nothing is copied here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Image,
    Sequence,
    Value,
    concatenate_datasets,
    load_dataset,
    load_from_disk,
)

from .data_rows import DataError, first_line
from .local_boxes import (
    SPLITS,
    LocalData,
    by_split,
    coco_files,
    is_coco,
    load_coco,
    load_voc,
    pictures_in,
    size_of,
)

FORMATS = ("imagefolder", "coco", "voc", "jsonl", "arrow", "parquet", "csv")
SEGMENTATION = "segmentation-folder"  # a layout of imagefolder: images/ and masks/
TABLES = {".jsonl": "jsonl", ".parquet": "parquet", ".csv": "csv"}
IMAGE_COLUMNS = ("image", "annotation", "mask", "depth_map", "depth")
PATH_COLUMNS = ("image", "image_path", "file_name", "images")
LOOKED_AT = 3  # folders and files that the detection looks into


def detect_format(path: str | Path) -> str:
    """The format of a file or folder, by the first test that holds.

    Raises:
        DataError: no such path, or none of the tests holds.
    """
    path = _existing(path)
    tests = _FILE_TESTS if path.is_file() else _FOLDER_TESTS
    found = next((name for name, holds in tests if holds(path)), None)
    if found is None:
        raise DataError(
            f"{path}: not a data set in a known layout; arrange it as one, "
            f"or set local_dataset_format to one of {', '.join(FORMATS)}"
        )
    return found


def load_local(
    path: str | Path, form: str = "auto", polygons: bool = False, pictures: Collection[str] = ()
) -> LocalData:
    """Every split of the data set at `path`; `polygons` keeps the outlines of coco annotations.

    `pictures` are columns of tables that hold paths of pictures, whatever they are called.

    Raises:
        DataError: the path, its layout, or a file, row or column in it is not what it must be.
    """
    path = _existing(path)
    form = detect_format(path) if form == "auto" else form
    if form == "imagefolder" and _is_segmentation_folder(path):
        form = SEGMENTATION
    loaders: dict[str, Callable[[Path], LocalData]] = {
        "imagefolder": load_image_folder,
        SEGMENTATION: load_segmentation_folder,
        "coco": partial(load_coco, polygons=polygons),
        "voc": load_voc,
        "arrow": load_arrow,
        **{name: partial(load_tables, form=name, pictures=pictures) for name in TABLES.values()},
    }
    if form not in loaders:
        raise DataError(f"local_dataset_format {form}: not one of auto, {', '.join(FORMATS)}")
    data = loaders[form](path)
    empty = [name for name, rows in data.splits.items() if not len(rows)]
    if empty or not data.splits:
        raise DataError(f"{path}: no rows in {', '.join(empty) or 'it'} (read as {form})")
    return data


# --- what it is -------------------------------------------------------------------------------------------


def _existing(path: str | Path) -> Path:
    path = Path(path).expanduser().absolute()
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; check local_dataset_path")
    return path


def _folders(path: Path) -> list[Path]:
    return sorted(item for item in path.iterdir() if item.is_dir() and not item.name.startswith("."))


def _files(path: Path) -> list[Path]:
    """The files right in a folder that hold data, by name."""
    other = {"readme.md", "readme.txt", "license", "license.txt"}
    files = (item for item in path.iterdir() if item.is_file() and not item.name.startswith("."))
    return sorted(item for item in files if item.name.lower() not in other)


def _has_images(path: Path) -> bool:
    return any(True for _ in pictures_in(path))


def _is_line_json(path: Path) -> bool:
    """A `.jsonl` file, or a `.json` with an object on each line (or a list of objects)."""
    if path.suffix == ".jsonl":
        return True
    if path.suffix != ".json":
        return False
    with path.open(encoding="utf-8") as stream:
        lines = [line.strip() for line in islice(stream, LOOKED_AT) if line.strip()]
    try:
        return bool(lines) and (
            lines[0][0] == "[" or all(isinstance(json.loads(line), dict) for line in lines)
        )
    except ValueError:
        return False


def _is_segmentation_folder(path: Path) -> bool:
    return (path / "images").is_dir() and (path / "masks").is_dir()


def _is_split_folder(path: Path) -> bool:
    others = [path / name for name in ("val", "validation", "valid", "test") if (path / name).is_dir()]
    train = path / "train"
    return bool(others) and train.is_dir() and bool(_folders(train)) and _has_images(train)


def _is_flat_folder(path: Path) -> bool:
    folders = _folders(path)
    tables = [file for file in _files(path) if file.suffix in TABLES and file.stem != "metadata"]
    return len(folders) >= 2 and not tables and all(map(_has_images, folders[:LOOKED_AT]))


def _table_files(path: Path, suffix: str) -> list[Path]:
    """The files of one kind right in a folder, or in its `data/`, where nothing else lies beside them."""
    files = _files(path) or (_files(path / "data") if (path / "data").is_dir() else [])
    return files if files and all(file.suffix == suffix for file in files) else []


_FILE_TESTS: list[tuple[str, Callable[[Path], bool]]] = [
    ("coco", is_coco),  # also where it looks like lines of JSON
    ("jsonl", _is_line_json),
    ("csv", lambda path: path.suffix == ".csv"),
    ("parquet", lambda path: path.suffix == ".parquet"),
]
_FOLDER_TESTS: list[tuple[str, Callable[[Path], bool]]] = [
    ("arrow", lambda path: (path / "dataset_info.json").is_file() or any(path.glob("data-*.arrow"))),
    ("arrow", lambda path: (path / "dataset_dict.json").is_file()),
    ("coco", lambda path: bool(coco_files(path))),
    ("voc", lambda path: any((path / "Annotations").rglob("*.xml"))),
    (SEGMENTATION, _is_segmentation_folder),
    ("imagefolder", _is_split_folder),
    ("imagefolder", _is_flat_folder),
    *(
        (name, lambda path, suffix=suffix: bool(_table_files(path, suffix)))
        for suffix, name in TABLES.items()
    ),
]


# --- a folder per class -----------------------------------------------------------------------------------


def load_image_folder(path: Path) -> LocalData:
    """`<class>/<image>` or `<split>/<class>/<image>`: `image` and `label`, classes sorted over all splits.

    Built here and not by `load_dataset("imagefolder")`, which takes images whose *file* is called test_1.png
    for a split and leaves out all others. A folder with a `metadata` table goes through it all the same.
    """
    if any(path.rglob("metadata.csv")) or any(path.rglob("metadata.jsonl")):
        return LocalData(dict(load_dataset("imagefolder", data_dir=str(path))), "imagefolder")
    places = {SPLITS[item.name]: item for item in _folders(path) if item.name in SPLITS and _folders(item)}
    places = places if "train" in places else {"train": path}
    names = sorted(
        {folder.name for place in places.values() for folder in _folders(place) if _has_images(folder)}
    )
    if len(names) < 2:
        raise DataError(f"{path}: found {len(names)} class folder(s) with images; two or more are needed")
    features = Features({"image": Image(), "label": ClassLabel(names=names)})
    splits = {}
    for split, place in places.items():
        found = [(str(file), name) for name in names for file in sorted(pictures_in(place / name))]
        columns = {"image": [file for file, _ in found], "label": [names.index(name) for _, name in found]}
        splits[split] = Dataset.from_dict(columns, features=features)
    return LocalData(splits, "imagefolder", names)


# --- images and masks -------------------------------------------------------------------------------------


def load_segmentation_folder(path: Path) -> LocalData:
    """`images/[<split>/]<stem>.*` with `masks/[<split>/]<stem>.png`: `image` and `annotation`.

    The pixels of a mask are class ids, 255 is left out of the loss. `id2label.json` may name the classes.
    """
    images, masks = path / "images", path / "masks"
    places = {SPLITS[folder.name]: folder.name for folder in _folders(images) if folder.name in SPLITS}
    splits = {}
    for split, name in (places or {"train": ""}).items():
        pairs = [_with_mask(file, masks / name, images / name) for file in sorted(pictures_in(images / name))]
        columns = {
            "image": [str(image) for image, _ in pairs],
            "annotation": [str(mask) for _, mask in pairs],
        }
        splits[split] = Dataset.from_dict(
            columns, features=Features({"image": Image(), "annotation": Image()})
        )
    return LocalData(splits, SEGMENTATION, _class_names(path / "id2label.json"))


def _with_mask(image: Path, masks: Path, images: Path) -> tuple[Path, Path]:
    mask = (masks / image.relative_to(images)).with_suffix(".png")
    if not mask.is_file():
        raise DataError(f"{image}: its mask {mask} is missing; add it or remove the image")
    sizes = size_of(image), size_of(mask)
    if sizes[0] != sizes[1]:
        raise DataError(f"{mask}: is {_times(sizes[1])}, its image {_times(sizes[0])}; make them equal")
    return image, mask


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _class_names(file: Path) -> list[str] | None:
    if not file.is_file():
        return None
    try:
        names = {int(key): str(value) for key, value in json.loads(file.read_text(encoding="utf-8")).items()}
    except (ValueError, AttributeError) as error:
        raise DataError(f'{file}: must be like {{"0": "background", "1": "road"}}') from error
    absent = sorted(set(range(len(names))) - names.keys())
    if absent:
        raise DataError(f"{file}: ids must run from 0 to {len(names) - 1}; {absent[0]} is missing")
    return [names[index] for index in range(len(names))]


# --- tables -----------------------------------------------------------------------------------------------


def load_arrow(path: Path) -> LocalData:
    """What `save_to_disk` wrote, one Dataset or a DatasetDict; images stored as bytes become images."""
    try:
        loaded = load_from_disk(str(path))
    except (FileNotFoundError, ValueError) as error:
        raise DataError(
            f"{path}: not written by save_to_disk ({first_line(error)}); save it again"
        ) from error
    splits = dict(loaded) if isinstance(loaded, DatasetDict) else {"train": loaded}
    return LocalData({SPLITS.get(name, name): _with_images(rows) for name, rows in splits.items()}, "arrow")


def load_tables(path: Path, form: str, pictures: Collection[str] = ()) -> LocalData:
    """jsonl, csv or parquet files, splits by their names; image paths are relative to the file's folder."""
    suffix = next(suffix for suffix, name in TABLES.items() if name == form)
    members = [path] if path.is_file() else sorted(path.rglob(f"*{suffix}"))
    if not members:
        raise DataError(f"{path}: no {suffix} file in it")
    files = {"train": members} if path.is_file() else by_split(members, path)
    splits = {split: _table(files_of, form, pictures) for split, files_of in files.items()}
    return LocalData(_with_classes(splits), form)


def _table(files: list[Path], form: str, pictures: Collection[str]) -> Dataset:
    parts = []
    for file in files:
        if form == "jsonl":
            _check_lines(file)
        try:
            kind = "json" if form == "jsonl" else form
            rows = load_dataset(kind, data_files=str(file), split="train")
        except Exception as error:
            cause = error.__cause__ or error
            raise DataError(f"{file}: cannot be read as {form} ({first_line(cause)}); correct it") from error
        parts.append(_with_paths(rows, file, pictures))
    try:
        return concatenate_datasets(parts) if len(parts) > 1 else parts[0]
    except ValueError as error:
        raise DataError(f"{files[0].parent}: its files differ in columns ({first_line(error)})") from error


def _check_lines(file: Path) -> None:
    with file.open(encoding="utf-8") as stream:
        if stream.read(1) == "[":
            return
        stream.seek(0)
        for number, line in enumerate(stream, start=1):
            try:
                whole = not line.strip() or isinstance(json.loads(line), dict)
            except ValueError:
                whole = False
            if not whole:
                raise DataError(f"{file}, line {number}: not a JSON object; correct or remove the line")


def _with_paths(rows: Dataset, file: Path, pictures: Collection[str]) -> Dataset:
    """Rename a column of paths to `image`; make its paths, and those of masks and depths, images.

    Columns that the config names as `pictures` keep their names: they are renamed later on.
    """
    named = [column for column in pictures if _is_text(rows.features.get(column))]
    for column in named:
        rows = _with_pictures(rows, column, column, file)
    name = next((name for name in PATH_COLUMNS if _is_text(rows.features.get(name))), None)
    for column in IMAGE_COLUMNS:
        if column != name and _is_path(rows, column, file):
            rows = _with_pictures(rows, column, column, file)
    if name is not None:
        rows = _with_pictures(rows, name, "images" if name == "images" else "image", file)
    return _with_images(rows)


def _is_path(rows: Dataset, column: str, file: Path) -> bool:
    """Whether a column is text, and the first that it holds is a file: other text is left alone."""
    text = isinstance(rows.features.get(column), Value) and _is_text(rows.features[column])
    return text and any((file.parent / place).is_file() for place in islice(filter(None, rows[column]), 1))


def _with_pictures(rows: Dataset, name: str, target: str, file: Path) -> Dataset:
    many = not isinstance(rows.features[name], Value)

    def absolute(value: Any, number: int) -> str | list[str]:
        places = [file.parent / place for place in (value if many else [value]) if place]
        absent = next((place for place in places if not place.is_file()), None)
        if absent is not None or not places:
            raise DataError(
                f"{file}, row {number + 1}, column {name}: no image {absent or '(empty)'}; check it"
            )
        return [str(place) for place in places] if many else str(places[0])

    # The paths are resolved before the cast: an image opens its path from the folder of the process.
    columns = {target: [absolute(value, number) for number, value in enumerate(rows[name])]}
    kind = Sequence(Image()) if many else Image()
    images = Dataset.from_dict(columns, features=Features({target: kind}))
    rest = rows.remove_columns([column for column in {name, target} if column in rows.column_names])
    return _beside(images, rest)


def _beside(left: Dataset, right: Dataset) -> Dataset:
    return concatenate_datasets([left, right], axis=1) if right.column_names else left


def _is_text(feature: Any) -> bool:
    inner = getattr(feature, "feature", feature)
    return isinstance(inner, Value) and inner.dtype in ("string", "large_string")


def _with_images(rows: Dataset) -> Dataset:
    for name in IMAGE_COLUMNS:
        feature = rows.features.get(name)
        if isinstance(feature, dict) and "bytes" in feature:
            rows = rows.cast_column(name, Image())
    return rows


def _with_classes(splits: dict[str, Dataset]) -> dict[str, Dataset]:
    """Text labels of images as classes: the sorted names over all splits."""
    column = next((name for name in ("label", "labels") if _all_text(splits, name)), None)
    if column is None or any("image" not in rows.column_names for rows in splits.values()):
        return splits
    names = sorted({name for rows in splits.values() for name in rows.unique(column) if name is not None})
    return {split: rows.cast_column(column, ClassLabel(names=names)) for split, rows in splits.items()}


def _all_text(splits: dict[str, Dataset], column: str) -> bool:
    return all(isinstance(rows.features.get(column), Value) and _is_text(rows.features[column])
               for rows in splits.values())  # fmt: skip
