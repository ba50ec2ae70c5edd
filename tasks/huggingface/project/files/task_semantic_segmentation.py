"""Semantic segmentation: a class for every pixel; judged by the mean intersection over union."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

import common
import vision

IGNORED = 255

load_model, collator, trainer = vision.load_model, vision.stacked, vision.Trainer.of


def load_processor(config: dict[str, Any], source: str) -> Any:
    """The image processor; whether class 0 means "nothing" is for the config to say (`reduce_labels`)."""
    # What lies outside of a crop could never be right.
    processor = vision.load_processor(config, source, whole=True)
    processor.do_reduce_labels = bool(config["reduce_labels"])
    return processor


def mask_of(image: Image.Image) -> np.ndarray:
    """Class ids (height, width); of a mask in colour the first channel counts."""
    ids = np.asarray(image)
    return (ids[..., 0] if ids.ndim == 3 else ids).astype(np.int64)


def dataset(config: dict[str, Any], processor: Any, split: str) -> Any:
    """Rows of `train`, flipped at random, or `eval`. The processor brings picture and mask to one size."""
    rows = common.saved_rows(config, split)
    rows.set_transform(partial(_transformed, processor, split == "train"))
    return rows


def _transformed(processor: Any, train: bool, rows: dict[str, Any]) -> dict[str, list[Any]]:
    images, ids = [], []
    for picture, marked in zip(rows["image"], rows["annotation"], strict=True):
        image, known = common.rgb(picture), mask_of(marked)
        if known.shape != (image.height, image.width):
            raise SystemExit(f"data: a mask of {known.shape} for a picture of {(image.height, image.width)}")
        if train and random.random() < 0.5:
            image, known = ImageOps.mirror(image), known[:, ::-1]
        images.append(image)
        ids.append(np.ascontiguousarray(known))
    coded = processor(images, segmentation_maps=ids, return_tensors="pt")
    return {"pixel_values": list(coded["pixel_values"]), "labels": list(coded["labels"].long())}


def evaluate(
    config: dict[str, Any], model: Any, processor: Any, rows: Any, *, limit: int | None = None, **options: Any
) -> dict[str, Any]:
    """Mean intersection over union of the classes that occur, and the share of pixels that are right."""
    classes = model.config.num_labels
    confusion, done = np.zeros((classes, classes), dtype=np.int64), 0
    for batch in common.batches(rows, config["per_device_eval_batch_size"], limit):
        for row, found in zip(batch, _predictions(model, processor, batch), strict=True):
            confusion += confusion_of(_truth(config, mask_of(row["annotation"])), found, classes)
            done += 1
    figures = scores_of(confusion, model.config.id2label)
    primary = {"name": "mean_iou", "value": figures["mean_iou"], "higher_is_better": True}
    return {"primary_metric": primary, **figures, "n_eval": done}


def confusion_of(truth: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """How many pixels of each true class (row) were given each class (column); 255 is left out."""
    known = truth != IGNORED
    if truth[known].max(initial=0) >= classes:
        raise SystemExit(f"data: class {truth[known].max()} in a mask, but the model knows {classes} classes")
    return np.bincount(truth[known] * classes + found[known], minlength=classes**2).reshape(classes, classes)


def scores_of(confusion: np.ndarray, names: dict[int, str]) -> dict[str, Any]:
    """Intersection over union by class and as their mean, and pixel accuracy."""
    hits = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    per_class = {names[k]: float(hits[k] / union[k]) for k in range(len(hits)) if union[k]}
    mean = float(np.mean(list(per_class.values()))) if per_class else 0.0
    return {
        "mean_iou": mean,
        "pixel_accuracy": float(hits.sum() / max(confusion.sum(), 1)),
        "per_class": per_class,
    }


def _truth(config: dict[str, Any], ids: np.ndarray) -> np.ndarray:
    if not config["reduce_labels"]:
        return ids
    return np.where((ids == 0) | (ids == IGNORED), IGNORED, ids - 1)


def _predictions(model: Any, processor: Any, batch: list[dict[str, Any]]) -> list[np.ndarray]:
    images = [vision.image_of(row) for row in batch]
    pixels = torch.cat([processor(image, return_tensors="pt")["pixel_values"] for image in images])
    outputs = model(pixel_values=pixels.to(model.device))
    sizes = [(image.height, image.width) for image in images]
    found = processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)
    return [ids.cpu().numpy() for ids in found]


def sample(
    config: dict[str, Any], model: Any, processor: Any, row: dict[str, Any], index: int
) -> tuple[Any, Any, dict[str, Any]]:
    """The picture, the picture under the colours of its classes, and their shares."""
    image, names = vision.image_of(row), model.config.id2label
    found = _predictions(model, processor, [row])[0]
    truth = _truth(config, mask_of(row["annotation"]))
    known = truth != IGNORED
    meta = {
        "prediction": {names[int(k)]: float((found == k).mean()) for k in np.unique(found)},
        "truth": {names[int(k)]: float((truth == k).mean()) for k in np.unique(truth[known])},
        "pixel_accuracy": float((found == truth)[known].mean()) if known.any() else None,
    }
    return image, vision.coloured(image, found), meta
