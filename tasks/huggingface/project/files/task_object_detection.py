"""Object detection: boxes with a class; judged by COCO's mean average precision."""

from __future__ import annotations

import inspect
import random
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps

import coco
import common
import vision

load_processor, load_model = vision.load_processor, vision.load_model


def dataset(config: dict[str, Any], processor: Any, split: str) -> Any:
    """Rows of `train` or `eval`; flips, light and perspective for training only."""
    rows = common.saved_rows(config, split)
    rows.set_transform(partial(_transformed, config, processor, split == "train"))
    return rows


def boxes_of(row: dict[str, Any], crowd: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4) as x, y, width, height in pixels, and classes (n,); those without an area are left out.

    They are those of single objects, or those around crowds (`iscrowd`), where predictions do not count.
    """
    objects = row["objects"]
    boxes = np.asarray(objects["bbox"], dtype=np.float64).reshape(-1, 4)
    classes = np.asarray(objects["category_id"], dtype=np.int64)
    chosen = np.asarray(objects.get("iscrowd") or [0] * len(boxes), dtype=bool) == crowd
    boxes, classes = boxes[chosen], classes[chosen]
    return _clipped(boxes, classes, row["_size"]) if "_size" in row else (boxes, classes)


def _clipped(boxes: np.ndarray, classes: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes cut at the border of the picture (width, height); at least a pixel of area has to remain."""
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    corners = corners.clip(0, np.array([*size, *size], dtype=np.float64))
    kept = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    sound = (kept[:, 2] > 0) & (kept[:, 3] > 0) & (kept[:, 2] * kept[:, 3] >= 1)
    return kept[sound], classes[sound]


def _transformed(
    config: dict[str, Any], processor: Any, train: bool, rows: dict[str, Any]
) -> dict[str, list[Any]]:
    pixels, labels = [], []
    for picture, objects in zip(rows["image"], rows["objects"], strict=True):
        image = common.rgb(picture)
        boxes, classes = boxes_of({"objects": objects, "_size": image.size})
        if train:
            image, boxes, classes = augmented(image, boxes, classes)
        known = _annotations(boxes, classes)
        coded = processor(image, annotations=known, return_tensors="pt")
        pixels.append(coded["pixel_values"][0])
        labels.append(dict(coded["labels"][0]))
    return {"pixel_values": pixels, "labels": labels}


def _annotations(boxes: np.ndarray, classes: np.ndarray) -> dict[str, Any]:
    listed = [
        {"image_id": 0, "bbox": box, "category_id": number, "area": box[2] * box[3], "iscrowd": 0}
        for box, number in zip(boxes.tolist(), classes.tolist(), strict=True)
    ]
    return {"image_id": 0, "annotations": listed}


def augmented(
    image: Image.Image, boxes: np.ndarray, classes: np.ndarray
) -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """A flip (1 in 2), light and colour (1 in 2), a change of perspective (1 in 10); boxes follow."""
    if random.random() < 0.5:
        image, boxes = ImageOps.mirror(image), boxes.copy()
        boxes[:, 0] = image.width - boxes[:, 0] - boxes[:, 2]
    image = vision.jittered(image, 0.5)
    return perspective(image, boxes, classes) if random.random() < 0.1 else (image, boxes, classes)


def perspective(
    image: Image.Image, boxes: np.ndarray, classes: np.ndarray
) -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """Each corner moved inwards by up to a tenth of the side; a box becomes the one around its corners."""
    size = np.array(image.size, dtype=np.float64)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * size
    inwards = np.where(corners > 0, -1, 1) * size * np.array([[random.uniform(0, 0.1)] * 2 for _ in range(4)])
    forth, back = homography(corners, corners + inwards), homography(corners + inwards, corners)
    image = image.transform(
        image.size, Image.Transform.PERSPECTIVE, tuple(back.flatten()[:8]), Image.Resampling.BILINEAR
    )
    x, y, w, h = boxes.T
    points = np.stack([np.stack(p, -1) for p in ((x, y), (x + w, y), (x + w, y + h), (x, y + h))], axis=1)
    moved = np.concatenate([points, np.ones((*points.shape[:2], 1))], axis=2) @ forth.T
    moved = moved[..., :2] / moved[..., 2:]
    low, high = (moved.min(axis=1), moved.max(axis=1)) if len(boxes) else (boxes[:, :2], boxes[:, 2:])
    boxes, classes = _clipped(np.concatenate([low, high - low], axis=1), classes, image.size)
    return image, boxes, classes


def homography(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The 3 x 3 matrix that takes four points (4, 2) to four others."""
    rows = []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    solved = np.linalg.solve(np.array(rows, dtype=np.float64), target.reshape(-1))
    return np.append(solved, 1.0).reshape(3, 3)


def collator(config: dict[str, Any], processor: Any, *, masked: bool = True) -> Any:
    """Pictures padded to the largest of the batch, with a mask of what is picture; labels stay a list.

    With the mask a model counts boxes in fractions of the picture; without it, of the padded frame.
    """
    return partial(_padded, masked)


def _padded(masked: bool, rows: list[dict[str, Any]]) -> dict[str, Any]:
    pixels, mask = vision.framed(rows)
    labels = [row["labels"] if masked else _in_frame(row, *mask.shape[1:]) for row in rows]
    batch: dict[str, Any] = {"pixel_values": pixels.float(), "labels": labels}
    return batch | ({"pixel_mask": mask} if masked else {})


def _in_frame(row: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    _, h, w = row["pixel_values"].shape
    scale = torch.tensor([w / width, h / height] * 2)
    return row["labels"] | {"boxes": row["labels"]["boxes"] * scale}


def _takes_mask(model: Any) -> bool:
    return "pixel_mask" in inspect.signature(model.forward).parameters


def trainer(config: dict[str, Any], model: Any, *given: Any) -> Any:
    """The trainer; it evaluates the loss, mean average precision is run_eval.py's."""
    return vision.Trainer.of(config, model, *given, collator=partial(collator, masked=_takes_mask(model)))


def evaluate(
    config: dict[str, Any], model: Any, processor: Any, rows: Any, *, limit: int | None = None, **options: Any
) -> dict[str, Any]:
    """Mean average precision as COCO defines it, over all boxes that score `threshold` (0) or more."""
    truth, found, done = [], [], 0
    for batch in common.batches(rows, config["per_device_eval_batch_size"], limit):
        predictions = _predictions(model, processor, batch, options.get("threshold", 0.0))
        for row, prediction in zip(batch, predictions, strict=True):
            sized = row | {"_size": vision.image_of(row).size}
            for crowd in (False, True):
                truth += coco.boxes_as_annotations(done, *boxes_of(sized, crowd), crowd)
            found += coco.boxes_as_results(done, prediction)
            done += 1
    figures = coco.average_precision(truth, found, done, model.config.id2label, "bbox")
    primary = {"name": "map", "value": figures["map"], "higher_is_better": True}
    return {"primary_metric": primary, **figures, "n_eval": done}


def _predictions(
    model: Any, processor: Any, batch: list[dict[str, Any]], threshold: float
) -> list[dict[str, Any]]:
    images = [vision.image_of(row) for row in batch]
    nothing = {"labels": {"boxes": torch.zeros(0, 4)}}
    coded = [nothing | {"pixel_values": processor(i, return_tensors="pt")["pixel_values"][0]} for i in images]
    masked = _takes_mask(model)
    inputs = _padded(masked, coded)
    inputs.pop("labels")
    outputs = model(**{key: value.to(model.device) for key, value in inputs.items()})
    frame = inputs["pixel_values"].shape[-2:]
    sizes = []  # of the picture, or of the padded frame in the picture's pixels
    for image, row in zip(images, coded, strict=True):
        h, w = frame if masked else row["pixel_values"].shape[-2:]
        sizes.append((round(image.height * frame[0] / h), round(image.width * frame[1] / w)))
    found = processor.post_process_object_detection(outputs, threshold=threshold, target_sizes=sizes)
    return [{key: value.cpu().numpy() for key, value in one.items()} for one in found]


def sample(
    config: dict[str, Any], model: Any, processor: Any, row: dict[str, Any], index: int
) -> tuple[Any, Any, dict[str, Any]]:
    """The picture, the picture with the boxes that score `score_threshold` or more, and those boxes."""
    image = vision.image_of(row)
    found = _predictions(model, processor, [row], config["score_threshold"])[0]
    names, drawn = model.config.id2label, image.copy()
    draw, boxes = ImageDraw.Draw(drawn), []
    for box, score, number in zip(found["boxes"], found["scores"], found["labels"], strict=True):
        x1, y1, x2, y2 = (float(v) for v in box)
        name = names[int(number)]
        boxes.append({"label": name, "score": float(score), "box": [x1, y1, x2, y2]})
        if x2 > x1 and y2 > y1:
            draw.rectangle((x1, y1, x2, y2), outline="#76b900", width=2)
            draw.text((x1 + 3, y1 + 2), f"{name} {score:.2f}", fill="#76b900")
    truth = boxes_of(row | {"_size": image.size})
    known = [{"label": names[int(k)], "box_xywh": b.tolist()} for b, k in zip(*truth, strict=True)]
    return image, drawn, {"prediction": boxes, "truth": known, "score_threshold": config["score_threshold"]}
