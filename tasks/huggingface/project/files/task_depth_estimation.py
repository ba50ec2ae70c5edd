"""Depth estimation: a distance for every pixel; judged by the absolute relative error."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional

import common
import vision

load_processor, load_model = vision.load_processor, vision.load_model
collator = vision.stacked


def depth_of(config: dict[str, Any], image: Any) -> np.ndarray:
    """Distances (height, width) in the data set's unit times `depth_scale`; 0 where there is none."""
    depth = np.asarray(image, dtype=np.float32)
    depth = (depth[..., 0] if depth.ndim == 3 else depth) * float(config["depth_scale"])
    return np.where(np.isfinite(depth), depth, 0.0).astype(np.float32)


def dataset(config: dict[str, Any], processor: Any, split: str) -> Any:
    """Rows of `train` or `eval`, brought to `image_size`; a flip and a change of light for training only."""
    rows = common.saved_rows(config, split)
    rows.set_transform(partial(_transformed, config, processor, split == "train"))
    return rows


def _transformed(
    config: dict[str, Any], processor: Any, train: bool, rows: dict[str, Any]
) -> dict[str, list[Any]]:
    size = (config["image_size"]["height"], config["image_size"]["width"])
    images, depths = [], []
    for picture, measured in zip(rows["image"], rows["depth_map"], strict=True):
        image, known = common.rgb(picture), depth_of(config, measured)
        if train:
            image = vision.jittered(image, 0.5)
            if random.random() < 0.5:
                image, known = ImageOps.mirror(image), known[:, ::-1]
        images.append(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))
        nearest = Image.fromarray(np.ascontiguousarray(known)).resize(
            (size[1], size[0]), Image.Resampling.NEAREST
        )
        depths.append(torch.from_numpy(np.array(nearest)))
    coded = processor(images, return_tensors="pt")
    return {"pixel_values": list(coded["pixel_values"]), "labels": depths}


class _Trainer(vision.Trainer):
    """The loss is ours: most depth models refuse labels, and GLPN's own cannot be scaled in place."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **keywords: Any
    ) -> Any:
        outputs = model(pixel_values=inputs["pixel_values"])
        loss = scale_invariant_loss(outputs.predicted_depth, inputs["labels"])
        return (loss, outputs) if return_outputs else loss


def scale_invariant_loss(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Eigen's loss, the root of mean(d^2) - mean(d)^2 / 2 with d = log found - log truth, where truth > 0."""
    found = functional.interpolate(found.float()[:, None], truth.shape[-2:], mode="bilinear")[:, 0]
    known = truth > 0
    if not known.any():
        return found.sum() * 0.0
    difference = found[known].clamp(min=1e-3).log() - truth[known].log()
    return torch.sqrt(difference.square().mean() - 0.5 * difference.mean().square() + 1e-8)


trainer = _Trainer.of


def evaluate(
    config: dict[str, Any], model: Any, processor: Any, rows: Any, *, limit: int | None = None, **options: Any
) -> dict[str, Any]:
    """Means over the pictures: relative error, root mean square error, share within a factor of 1.25."""
    scores = []
    for batch in common.batches(rows, 1, limit):
        truth = depth_of(config, batch[0]["depth_map"])
        if (truth > 0).any():
            scores.append(errors_of(_prediction(config, model, processor, batch[0], truth.shape), truth))
    if not scores:
        raise SystemExit("data/eval: no picture has a depth above 0")
    figures = dict(zip(("abs_rel", "rmse", "delta_1.25"), np.mean(scores, axis=0).tolist(), strict=True))
    primary = {"name": "abs_rel", "value": figures["abs_rel"], "higher_is_better": False}
    return {"primary_metric": primary, **figures, "n_eval": len(scores)}


def errors_of(found: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Means over the pictures: relative error, root mean square error, share within a factor of 1.25."""
    known = truth > 0
    found, truth = np.maximum(found[known], 1e-3), truth[known]
    within = np.maximum(found / truth, truth / found) < 1.25
    relative = np.abs(found - truth) / truth
    return float(relative.mean()), float(np.sqrt(np.square(found - truth).mean())), float(within.mean())


def _prediction(
    config: dict[str, Any], model: Any, processor: Any, row: dict[str, Any], shape: tuple[int, ...]
) -> np.ndarray:
    size = (config["image_size"]["width"], config["image_size"]["height"])
    image = vision.image_of(row).resize(size, Image.Resampling.BILINEAR)
    pixels = processor(image, return_tensors="pt")["pixel_values"].to(model.device)
    found = model(pixel_values=pixels).predicted_depth.float()
    return functional.interpolate(found[:, None], shape, mode="bilinear")[0, 0].cpu().numpy()


def sample(
    config: dict[str, Any], model: Any, processor: Any, row: dict[str, Any], index: int
) -> tuple[Any, Any, dict[str, Any]]:
    """The picture, the depth in grey (near is bright), and the errors."""
    truth = depth_of(config, row["depth_map"])
    found = _prediction(config, model, processor, row, truth.shape)
    near = (found.max() - found) / max(float(np.ptp(found)), 1e-6)
    meta: dict[str, Any] = {"prediction": {"nearest": float(found.min()), "farthest": float(found.max())}}
    if (truth > 0).any():
        meta |= dict(zip(("abs_rel", "rmse", "delta_1.25"), errors_of(found, truth), strict=True))
    return vision.image_of(row), Image.fromarray((near * 255).astype(np.uint8)), meta
