"""Mean average precision by pycocotools, for boxes and for masks."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def boxes_as_annotations(
    image: int, boxes: np.ndarray, classes: np.ndarray, crowd: bool = False
) -> list[dict[str, Any]]:
    """True boxes (x, y, width, height) of one picture, around single objects or around crowds."""
    return [
        {"image_id": image, "bbox": box, "category_id": k, "area": box[2] * box[3], "iscrowd": int(crowd)}
        for box, k in zip(boxes.tolist(), classes.tolist(), strict=True)
    ]


def boxes_as_results(image: int, found: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Found boxes (x1, y1, x2, y2) of one picture, with scores and labels."""
    corners = found["boxes"].astype(np.float64).reshape(-1, 4)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
    given = zip(boxes, found["scores"].tolist(), found["labels"].tolist(), strict=True)
    return [{"image_id": image, "bbox": b, "score": s, "category_id": int(k)} for b, s, k in given]


def masks_as_annotations(
    image: int, pictures: list[np.ndarray], classes: list[int], crowd: bool = False
) -> list[dict[str, Any]]:
    """Masks (height, width, of booleans) of one picture, of single objects or of crowds."""
    listed = []
    for picture, k in zip(pictures, classes, strict=True):
        coded = masks.encode(np.asfortranarray(picture.astype(np.uint8)))
        facts = {"area": float(masks.area(coded)), "bbox": masks.toBbox(coded).tolist()}
        facts |= {"segmentation": coded, "category_id": int(k), "iscrowd": int(crowd)}
        listed.append({"image_id": image, **facts})
    return listed


def masks_as_results(
    image: int, found: list[np.ndarray], scores: list[float], labels: list[int]
) -> list[dict[str, Any]]:
    """Found masks (height, width, of booleans) of one picture."""
    listed = masks_as_annotations(image, found, labels)
    return [
        {"image_id": image, "segmentation": one["segmentation"], "category_id": k, "score": score}
        for one, k, score in zip(listed, labels, scores, strict=True)
    ]


def average_precision(
    truth: list[dict[str, Any]], found: list[dict[str, Any]], images: int, names: dict[int, str], kind: str
) -> dict[str, Any]:
    """`map` (IoU 0.5 to 0.95), `map_50`, `map_75` and that of each class that occurs.

    Args:
        truth: annotations without ids.
        found: the same with a score.
        images: how many pictures there are, numbered from 0; those without annotations count too.
        names: class names by id.
        kind: `bbox` or `segm`.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(_indexed(truth, images, names), None, kind)
        judge.cocoDt = judge.cocoGt.loadRes(found) if found else _indexed([], images, names)
        judge.params.imgIds = list(range(images))
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    precision = judge.eval["precision"][:, :, :, 0, -1]  # IoU, recall, class
    per_class = {
        names[k]: float(values.mean())
        for place, k in enumerate(judge.params.catIds)
        if (values := precision[:, :, place][precision[:, :, place] >= 0]).size
    }
    whole, half, three_quarters = (max(float(value), 0.0) for value in judge.stats[:3])
    return {"map": whole, "map_50": half, "map_75": three_quarters, "per_class": per_class}


def _indexed(annotations: list[dict[str, Any]], images: int, names: dict[int, str]) -> COCO:
    pictures: list[dict[str, Any]] = [{"id": number} for number in range(images)]
    for one in annotations:
        if "segmentation" in one:
            pictures[one["image_id"]] |= dict(
                zip(("height", "width"), one["segmentation"]["size"], strict=True)
            )
    index = COCO()
    index.dataset = {
        "info": {},
        "images": pictures,
        "categories": [{"id": int(k), "name": name} for k, name in names.items()],
        "annotations": [{"id": number, **one} for number, one in enumerate(annotations, start=1)],
    }
    index.createIndex()
    return index
