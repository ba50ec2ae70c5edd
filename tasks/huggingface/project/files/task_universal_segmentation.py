"""Instance and panoptic segmentation: a mask and a class per object; judged by average precision.

A row holds either `objects` with outlines (`segmentation`, COCO's polygons) and a class, or a picture of
segment ids beside `segments_info`, a list of `id` and `category_id`.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps
from torch.nn import functional

import coco
import common
import vision

load_processor, load_model = vision.load_processor, vision.load_model

Segments = tuple[list[np.ndarray], list[int]]
"""Masks (height, width, of booleans), and the class of each."""
Drawn = list[tuple[np.ndarray, int, int]]
"""Each mask with its class, and whether it is a crowd's."""


def segments_of(row: dict[str, Any], crowd: bool = False) -> Segments:
    """The objects, or the crowds, of a row; no empty masks."""
    return _kept(_drawn(row), crowd)


def _drawn(row: dict[str, Any]) -> Drawn:
    return _of_map(row) if row.get("segments_info") is not None else _of_outlines(row)


def _kept(drawn: Drawn, crowd: bool) -> Segments:
    kept = [(mask, k) for mask, k, many in drawn if bool(many) == crowd and mask.any()]
    return [mask for mask, _ in kept], [int(k) for _, k in kept]


def _of_map(row: dict[str, Any]) -> Drawn:
    ids = np.asarray(row["annotation"]).astype(np.int64)
    if ids.ndim == 3:  # COCO writes an id in three bytes
        ids = ids[..., 0] + 256 * ids[..., 1] + 256**2 * ids[..., 2]
    listed = row["segments_info"]
    if isinstance(listed, dict):
        listed = [dict(zip(listed, values, strict=True)) for values in zip(*listed.values(), strict=True)]
    return [(ids == one["id"], one["category_id"], one.get("iscrowd") or 0) for one in listed]


def _of_outlines(row: dict[str, Any]) -> Drawn:
    objects, size = row["objects"], row["image"].size
    classes = objects["category_id"]
    crowds = objects.get("iscrowd") or [0] * len(classes)
    drawn = []
    for polygons, number, many in zip(objects["segmentation"], classes, crowds, strict=True):
        mask = Image.new("1", size)
        for polygon in polygons:
            if len(polygon) >= 6:
                ImageDraw.Draw(mask).polygon([float(value) for value in polygon], fill=1)
        drawn.append((np.array(mask), number, many))
    return drawn


def dataset(config: dict[str, Any], processor: Any, split: str) -> Any:
    """Rows of `eval`, or those of `train` that have an object to learn, flipped at random."""
    rows, train = common.saved_rows(config, split), split == "train"
    if train:
        rows = rows.select([i for i in range(len(rows)) if segments_of(rows[i])[1]])
        if not len(rows):
            raise SystemExit("data/train: no row has a mask")
    rows.set_transform(partial(_transformed, processor, train))
    return rows


def _transformed(processor: Any, train: bool, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    coded: dict[str, list[Any]] = {"pixel_values": [], "mask_labels": [], "class_labels": []}
    for values in zip(*rows.values(), strict=True):
        row = dict(zip(rows, values, strict=True))
        image, (masks, classes) = vision.image_of(row), segments_of(row)
        stacked = np.stack(masks) if masks else np.zeros((0, image.height, image.width), dtype=bool)
        if train and random.random() < 0.5:
            image, stacked = ImageOps.mirror(image), stacked[:, :, ::-1]
        pixels = processor(image, return_tensors="pt")["pixel_values"][0]
        known = torch.from_numpy(np.ascontiguousarray(stacked)).float()
        if len(known):
            known = functional.interpolate(known[None], pixels.shape[1:], mode="nearest")[0]
        coded["pixel_values"].append(pixels)
        coded["mask_labels"].append(known.reshape(-1, *pixels.shape[1:]))
        coded["class_labels"].append(torch.tensor(classes, dtype=torch.long))
    return coded


def collator(config: dict[str, Any], processor: Any) -> Any:
    """Pictures padded to the largest of the batch; masks and classes stay lists."""
    return _padded


def _padded(rows: list[dict[str, Any]]) -> dict[str, Any]:
    pixels, mask = vision.framed(rows)
    return {
        "pixel_values": pixels,
        "pixel_mask": mask,
        "mask_labels": [vision.to_frame(row["mask_labels"], *mask.shape[1:]) for row in rows],
        "class_labels": [row["class_labels"] for row in rows],
    }


trainer = partial(vision.Trainer.of, collator=collator)


def evaluate(
    config: dict[str, Any], model: Any, processor: Any, rows: Any, *, limit: int | None = None, **options: Any
) -> dict[str, Any]:
    """Average precision of masks; for the panoptic task the panoptic quality beside it."""
    truth, found, done = [], [], 0
    quality = np.zeros((model.config.num_labels, 4))
    for (row,) in common.batches(rows, 1, limit):
        drawn = _drawn(row)
        (masks, classes), crowds = _kept(drawn, False), _kept(drawn, True)
        outputs, size = _outputs(model, processor, row)
        truth += coco.masks_as_annotations(done, masks, classes)
        truth += coco.masks_as_annotations(done, *crowds, crowd=True)
        found += coco.masks_as_results(
            done, *_instances(processor, outputs, size, options.get("threshold", 0.0))
        )
        if config["task"] == "panoptic-segmentation":
            of_map = row.get("segments_info") is not None  # what a map leaves out is void
            void = ~np.logical_or.reduce([np.full(size, not of_map), *masks, *crowds[0]])
            segments = _panoptic(config, processor, outputs, size)
            quality += matches((masks, classes), segments, crowds, void, len(quality))
        done += 1
    figures = coco.average_precision(truth, found, done, model.config.id2label, "segm")
    if config["task"] == "panoptic-segmentation":
        figures["panoptic_quality"] = panoptic_quality(quality)
    primary = {"name": "map", "value": figures["map"], "higher_is_better": True}
    return {"primary_metric": primary, **figures, "n_eval": done}


def matches(truth: Segments, found: Segments, crowds: Segments, void: np.ndarray, count: int) -> np.ndarray:
    """Sum of IoU, hits, wrong and missed segments by class, (count, 4), as Kirillov et al. 2019 define them.

    A hit overlaps by more than a half, in its class. `void` pixels count for nothing, nor does a wrong
    segment that lies for the most part on them and on crowds of its class.
    """
    (masks, labels), quality = found, np.zeros((count, 4))
    free = set(range(len(masks)))
    for mask, number in zip(*truth, strict=True):
        for place in sorted(free):
            iou = (mask & masks[place]).sum() / max((mask | (masks[place] & ~void)).sum(), 1)
            if labels[place] == number and iou > 0.5:
                quality[number] += (iou, 1, 0, 0)
                free.discard(place)
                break
        else:
            quality[number, 3] += 1
    for place in free:
        alike = [crowd for crowd, number in zip(*crowds, strict=True) if number == labels[place]]
        ignored = masks[place] & np.logical_or.reduce([void, *alike])
        quality[labels[place], 2] += ignored.sum() <= masks[place].sum() / 2
    return quality


def panoptic_quality(counts: np.ndarray) -> float:
    """The mean over the classes that occur, of what `matches` gives, summed over the pictures."""
    overlap, hits, wrong, missed = counts[counts.any(axis=1)].T
    return float(np.mean(overlap / (hits + 0.5 * wrong + 0.5 * missed))) if len(hits) else 0.0


def _outputs(model: Any, processor: Any, row: dict[str, Any]) -> tuple[Any, tuple[int, int]]:
    image = vision.image_of(row)
    pixels = processor(image, return_tensors="pt")["pixel_values"].to(model.device)
    return model(pixel_values=pixels), (image.height, image.width)


def _instances(
    processor: Any, outputs: Any, size: tuple[int, int], threshold: float
) -> tuple[list[np.ndarray], list[float], list[int]]:
    found = processor.post_process_instance_segmentation(
        outputs, threshold=threshold, target_sizes=[size], return_binary_maps=True
    )[0]
    listed, drawn = found["segments_info"], found["segmentation"]
    if not listed or drawn is None:
        return [], [], []
    masks = [mask.cpu().numpy() > 0 for mask in drawn]
    kept = [(m, float(s["score"]), int(s["label_id"])) for m, s in zip(masks, listed, strict=True) if m.any()]
    return [m for m, _, _ in kept], [score for _, score, _ in kept], [label for _, _, label in kept]


def _panoptic(config: dict[str, Any], processor: Any, outputs: Any, size: tuple[int, int]) -> Segments:
    found = processor.post_process_panoptic_segmentation(
        outputs, threshold=config["score_threshold"], target_sizes=[size], label_ids_to_fuse=set()
    )[0]
    ids = found["segmentation"].cpu().numpy()
    return [ids == one["id"] for one in found["segments_info"]], [
        int(one["label_id"]) for one in found["segments_info"]
    ]


def sample(
    config: dict[str, Any], model: Any, processor: Any, row: dict[str, Any], index: int
) -> tuple[Any, Any, dict[str, Any]]:
    """The picture, the picture under a colour for each object found, and the objects."""
    outputs, size = _outputs(model, processor, row)
    masks, scores, labels = _instances(processor, outputs, size, config["score_threshold"])
    names, ids = model.config.id2label, np.zeros(size, dtype=np.int64)
    for number, mask in enumerate(masks, start=1):
        ids[mask] = number
    found = [
        {"label": names[label], "score": score, "share": float(mask.mean())}
        for mask, score, label in zip(masks, scores, labels, strict=True)
    ]
    truth, classes = segments_of(row)
    known = [{"label": names[k], "share": float(m.mean())} for m, k in zip(truth, classes, strict=True)]
    image = vision.image_of(row)
    return image, vision.coloured(image, ids), {"prediction": found, "truth": known}
