"""Image classification: one label a picture; judged by accuracy."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

import common
import vision

load_processor, load_model = vision.load_processor, vision.load_model
collator = vision.stacked


def dataset(config: dict[str, Any], processor: Any, split: str) -> Any:
    """Rows of `train` or `eval`; a random crop and a flip for training, else the processor's own crop."""
    rows = common.saved_rows(config, split)
    rows.set_transform(partial(_transformed, processor, split == "train"))
    return rows


def _transformed(processor: Any, train: bool, rows: dict[str, Any]) -> dict[str, list[Any]]:
    images = [common.rgb(image) for image in rows["image"]]
    if train:
        images = [_augmented(image, vision.size_of(processor)) for image in images]
        pixels = processor(images, do_resize=False, do_center_crop=False, return_tensors="pt")
    else:
        pixels = processor(images, return_tensors="pt")
    return {"pixel_values": list(pixels["pixel_values"]), "labels": rows["label"]}


def _augmented(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    image = vision.random_resized_crop(image, size)
    return ImageOps.mirror(image) if random.random() < 0.5 else image


def _accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": float((np.argmax(prediction.predictions, axis=-1) == prediction.label_ids).mean())}


trainer = partial(vision.Trainer.of, compute_metrics=_accuracy)


def evaluate(
    config: dict[str, Any], model: Any, processor: Any, rows: Any, *, limit: int | None = None, **options: Any
) -> dict[str, Any]:
    """Accuracy, that of each class, and among the first five where there are more classes."""
    logits, truth = [], []
    for batch in common.batches(rows, config["per_device_eval_batch_size"], limit):
        logits.append(_logits(model, processor, batch))
        truth += [row["label"] for row in batch]
    scores, labels = torch.cat(logits).numpy(), np.array(truth)
    hit = scores.argmax(axis=1) == labels
    top5 = (np.argsort(-scores, axis=1)[:, :5] == labels[:, None]).any(axis=1)
    names = model.config.id2label
    several = {"top5_accuracy": float(top5.mean())} if scores.shape[1] > 5 else {}
    return {
        "primary_metric": {"name": "accuracy", "value": float(hit.mean()), "higher_is_better": True},
        "accuracy": float(hit.mean()),
        **several,
        "per_class": {names[int(k)]: float(hit[labels == k].mean()) for k in np.unique(labels)},
        "n_eval": len(labels),
    }


def _logits(model: Any, processor: Any, batch: list[dict[str, Any]]) -> torch.Tensor:
    images = [vision.image_of(row) for row in batch]
    pixels = processor(images, return_tensors="pt").to(model.device)
    return model(**pixels).logits.float().cpu()


def sample(
    config: dict[str, Any], model: Any, processor: Any, row: dict[str, Any], index: int
) -> tuple[Any, Any, dict[str, Any]]:
    """The picture, the picture with a line for the answer, and the five likeliest classes."""
    image = vision.image_of(row)
    scores = _logits(model, processor, [row])[0].softmax(-1)
    names = model.config.id2label
    best = scores.topk(min(5, len(scores)))
    answers = [{"label": names[int(k)], "score": float(s)} for s, k in zip(*best, strict=True)]
    truth = names[int(row["label"])]
    return image, vision.captioned(image, answers[0]["label"], answers[0]["label"] == truth), {
        "prediction": answers[0]["label"], "truth": truth, "top": answers,
    }  # fmt: skip
