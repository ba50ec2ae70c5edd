"""The three formats: a CSV, COCO, and FiftyOne's own folder.

All lay the images into `data/` and the golden ones into `golden/`, named by the id of their sample: names of
any kind of workspace go into any tool, and a corrected label finds its sample by that id.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from PIL import Image, UnidentifiedImageError

from tasks.artifacts import write_csv, write_json
from tasks.errors import InputError
from tasks.export.samples import Sample

Format = Literal["fiftyone", "coco", "csv"]

CSV, COCO = "samples.csv", "annotations.json"
COLUMNS = (
    "id", "filepath", "golden", "input_path", "object_name", "label", "set", "phase", "score", "weakness",
    "misclassified", "similarity", "target", "target_label", "source",
)  # fmt: skip


def write_export(samples: Sequence[Sample], form: Format, folder: Path, *, copy: bool = False) -> Path:
    """Lay out the samples in a new or empty folder and give the file to open.

    Args:
        samples: at least one.
        form: csv, coco or fiftyone.
        folder: where to.
        copy: copy the images; else they are symbolic links to where they are.

    Raises:
        InputError: the folder holds something, or an image is none.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty; give a new folder")
    folder = folder.absolute()
    sizes = {one.id: _size(one.image) for one in samples} if form == "coco" else {}
    rows = [_placed(one, folder, copy=copy) for one in samples]
    writers: dict[Format, Callable[[], Path]] = {
        "csv": lambda: write_csv(folder / CSV, COLUMNS, rows),
        "coco": lambda: write_json(folder / COCO, as_coco(rows, sizes)),
        "fiftyone": lambda: write_fiftyone(folder, rows),
    }
    return writers[form]()


def _placed(one: Sample, folder: Path, *, copy: bool) -> dict[str, Any]:
    """Place the images of a sample and give its row; paths of it are relative to the folder."""
    image = Path("data") / f"{one.id}{one.image.suffix}"
    golden = Path("golden") / f"{one.id}{one.golden.suffix}" if one.golden else None
    _place(one.image, folder / image, copy=copy)
    if one.golden and golden:
        _place(one.golden, folder / golden, copy=copy)
    return {
        **{name: getattr(one, name) for name in COLUMNS if hasattr(one, name)},
        "filepath": image.as_posix(),
        "golden": golden.as_posix() if golden else None,
        "source": str(one.image),
    }


def _place(source: Path, target: Path, *, copy: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if copy:
        shutil.copyfile(source, target)
    else:
        target.symlink_to(source.absolute())


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as opened:
            return opened.size
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{path} is no image that can be read") from error


def as_coco(rows: Sequence[dict[str, Any]], sizes: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """The samples as COCO: a label is a category, and its box is the whole image.

    COCO knows no label of an image as a whole; a detection without a box is not valid there. What is known
    of a sample besides stands below `deft` of its image.
    """
    labels = sorted({row["label"] for row in rows})
    category = {label: number for number, label in enumerate(labels, 1)}
    images, annotations = [], []
    for number, row in enumerate(rows, 1):
        width, height = sizes[row["id"]]
        images.append(
            {
                "id": number,
                "file_name": row["filepath"],
                "width": width,
                "height": height,
                "deft": {name: value for name, value in row.items() if name != "filepath"},
            }
        )
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": category[row["label"]],
                "bbox": [0, 0, width, height],
                "area": width * height,
                "iscrowd": 0,
                "segmentation": [],
            }
        )
    return {
        "info": {"description": "weak and mined samples of a DEFT run", "version": "1.0"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": number, "name": label, "supercategory": ""} for label, number in category.items()
        ],
    }


STRING, NUMBER, YES_NO = (f"fiftyone.core.fields.{name}Field" for name in ("String", "Float", "Boolean"))
FIELDS: dict[str, str] = {
    "golden": STRING,
    "input_path": STRING,
    "object_name": STRING,
    "set": STRING,
    "phase": STRING,
    "score": NUMBER,
    "weakness": NUMBER,
    "misclassified": YES_NO,
    "similarity": NUMBER,
    "target": STRING,
    "target_label": STRING,
    "source": STRING,
}
FORMAT_VERSION = "1.0.0"
"""Of FiftyOne; a later one brings what it reads up to date."""


def write_fiftyone(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write `metadata.json` and `samples.json`: a `FiftyOneDataset` as its `Dataset.from_dir` reads it.

    The label is the field `ground_truth`; set and phase are tags too. FiftyOne makes paths of images
    absolute when it reads them, those of the second image it does not: `golden` holds absolute ones.
    """
    moment = {"$date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")}
    documents = [_fiftyone_sample(folder, row, moment) for row in rows]
    write_json(folder / "samples.json", {"samples": documents})
    return write_json(folder / "metadata.json", _fiftyone_dataset(folder.name, moment))


def _fiftyone_sample(folder: Path, row: dict[str, Any], moment: dict[str, str]) -> dict[str, Any]:
    label = {"_id": {"$oid": row["id"]}, "_cls": "Classification", "tags": [], "label": row["label"]}
    wrong = ["misclassified"] if row["misclassified"] else []
    return {
        "_id": {"$oid": row["id"]},
        "filepath": row["filepath"],
        "tags": [row["set"], row["phase"], *wrong],
        "metadata": None,
        "created_at": moment,
        "last_modified_at": moment,
        "_media_type": "image",
        "_rand": int(row["id"][:8], 16) / 2**32,
        "ground_truth": label,
        **{name: row[name] for name in FIELDS},
        "golden": str(folder / row["golden"]) if row["golden"] else None,
    }


def _fiftyone_dataset(name: str, moment: dict[str, str]) -> dict[str, Any]:
    prefix = "fiftyone.core"
    return {
        "name": name,
        "version": FORMAT_VERSION,
        "created_at": moment,
        "last_modified_at": moment,
        "media_type": "image",
        "tags": [],
        "info": {"written_by": "deft export"},
        "app_config": {"media_fields": ["filepath", "golden"], "grid_media_field": "filepath"},
        "sample_fields": [
            _field("id", f"{prefix}.fields.ObjectIdField", moment, db_field="_id"),
            _field("filepath", STRING, moment),
            _field("tags", f"{prefix}.fields.ListField", moment, subfield=STRING),
            _field(
                "metadata",
                f"{prefix}.fields.EmbeddedDocumentField",
                moment,
                embedded_doc_type=f"{prefix}.metadata.ImageMetadata",
            ),
            _field("created_at", f"{prefix}.fields.DateTimeField", moment),
            _field("last_modified_at", f"{prefix}.fields.DateTimeField", moment),
            _field("_media_type", STRING, moment),
            _field("_rand", NUMBER, moment),
            _field(
                "ground_truth",
                f"{prefix}.fields.EmbeddedDocumentField",
                moment,
                embedded_doc_type=f"{prefix}.labels.Classification",
            ),
            *(_field(name, kind, moment) for name, kind in FIELDS.items()),
        ],
    }


def _field(name: str, kind: str, moment: dict[str, str], **other: Any) -> dict[str, Any]:
    return {
        "name": name,
        "ftype": kind,
        "embedded_doc_type": None,
        "subfield": None,
        "fields": [],
        "db_field": name,
        "description": None,
        "info": None,
        "read_only": False,
        "created_at": moment,
        **other,
    }
