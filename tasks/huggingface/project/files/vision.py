"""What the vision tasks share: pictures, names of classes, augmentation in PIL, the model and its trainer."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image, ImageDraw, ImageEnhance
from torch.nn import functional

import common
from data_rows import label_names

HEADS = ("classifier.", "head.")


def load_processor(config: dict[str, Any], source: str, *, whole: bool = False) -> Any:
    """The image processor; `image_size` of the config counts where the processor counts in the same words.

    Where the `whole` picture counts, one that is cut to `crop_size` is scaled to it instead.
    """
    processor = transformers.AutoImageProcessor.from_pretrained(source)
    if whole and getattr(processor, "do_center_crop", False):
        processor.do_center_crop, processor.size = False, processor.crop_size
    wanted, own = config.get("image_size"), dict(getattr(processor, "size", None) or {})
    own = {key: value for key, value in own.items() if value is not None}
    if wanted and set(wanted) == set(own):
        processor.size = transformers.image_processing_utils.get_size_dict(wanted, default_to_square=False)
    elif wanted:
        common.log.info("image_size %s is left out: this processor sizes by %s", wanted, own)
    return processor


def load_model(config: dict[str, Any], source: str, *, for_training: bool) -> Any:
    """The model in float32 with the names of the data set; the head may differ from the published model's."""
    names = class_names(config)
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    auto = getattr(transformers, config["auto_model_class"])
    keywords: dict[str, Any] = dict(common.dtype_argument(torch.float32))
    if config.get("attn_implementation"):
        keywords["attn_implementation"] = config["attn_implementation"]
    if source == config["model_id"]:
        keywords["ignore_mismatched_sizes"] = config["ignore_mismatched_sizes"]
    return auto.from_pretrained(source, **(labels if names else {}), **keywords)


def class_names(config: dict[str, Any]) -> list[str]:
    """The names in the order of the ids: `label_names`, those of the data, or made of `num_labels`."""
    if config.get("label_names"):
        return [str(name) for name in config["label_names"]]
    if config["task"] == "depth-estimation":
        return []
    summary = Path(config["local_data_dir"]) / "prepared.json"
    if summary.is_file() and (names := json.loads(summary.read_text(encoding="utf-8")).get("label_names")):
        return [str(name) for name in names]
    if names := label_names(config["task"], common.saved_rows(config, "train")):
        return names
    if config.get("num_labels"):
        return [f"class {number}" for number in range(config["num_labels"])]
    raise SystemExit("config.yaml: set label_names (or num_labels): data/train does not name its classes")


def image_of(row: dict[str, Any]) -> Image.Image:
    """The picture of a row in RGB."""
    return common.rgb(row["image"])


def random_resized_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A random part (8 to 100 % of the area, 3:4 to 4:3) scaled to `size` (height, width)."""
    width, height = image.size
    for _ in range(10):
        area = width * height * random.uniform(0.08, 1.0)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            image = image.crop((left, top, left + w, top + h))
            break
    return image.resize((size[1], size[0]), Image.Resampling.BILINEAR)


def jittered(image: Image.Image, probability: float) -> Image.Image:
    """Brightness, contrast and saturation changed by up to a fifth, each with `probability`."""
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        if random.random() < probability:
            image = enhance(image).enhance(random.uniform(0.8, 1.2))
    return image


def size_of(processor: Any) -> tuple[int, int]:
    """Height and width of what the model reads: the crop, or the size."""
    for size in (getattr(processor, "crop_size", None), processor.size):
        if size and size.get("height"):
            return size["height"], size["width"]
        if size and size.get("shortest_edge"):
            return size["shortest_edge"], size["shortest_edge"]
    raise SystemExit("the image processor states no size; set image_size in config.yaml")


def coloured(image: Image.Image, ids: np.ndarray) -> Image.Image:
    """The picture with a half transparent colour per id (height, width); 0 keeps its own colour."""
    palette = np.random.default_rng(0).integers(40, 256, (int(ids.max(initial=0)) + 1, 3))
    palette[0] = 0
    colours = Image.fromarray(palette[ids].astype(np.uint8)).resize(image.size, Image.Resampling.NEAREST)
    mask = Image.fromarray(np.where(ids > 0, 128, 0).astype(np.uint8)).resize(image.size)
    return Image.composite(colours, image, mask)


def captioned(image: Image.Image, text: str, right: bool) -> Image.Image:
    """The picture, at least 224 wide, above a line of text: green where the answer is right, red else."""
    scale = max(1, math.ceil(224 / image.width))
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    page = Image.new("RGB", (image.width, image.height + 24), "#1a7f37" if right else "#b42318")
    page.paste(image, (0, 0))
    ImageDraw.Draw(page).text((6, image.height + 5), text, fill="white")
    return page


def framed(rows: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    """The `pixel_values` padded to the largest height and width, and a mask of ones where picture is."""
    pictures = [row["pixel_values"] for row in rows]
    height, width = (max(picture.shape[side] for picture in pictures) for side in (1, 2))
    ones = [torch.ones(1, *picture.shape[1:], dtype=torch.long) for picture in pictures]
    pixels = torch.stack([to_frame(picture, height, width) for picture in pictures])
    return pixels, torch.stack([to_frame(one, height, width)[0] for one in ones])


def to_frame(values: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Layers (n, h, w) with zeros below and to the right, up to `height` and `width`."""
    return functional.pad(values, (0, width - values.shape[2], 0, height - values.shape[1]))


def stacked(config: dict[str, Any], processor: Any) -> Any:
    """The collator of pictures and labels of one size."""
    return transformers.DefaultDataCollator()


class Trainer(transformers.Trainer):
    """The stock trainer, with `head_learning_rate` for the parameters of a new head where it is set."""

    def __init__(self, *given: Any, head_learning_rate: float | None = None, **keywords: Any) -> None:
        super().__init__(*given, **keywords)
        self.head_learning_rate = head_learning_rate

    @classmethod
    def of(
        cls,
        config: dict[str, Any],
        model: Any,
        processor: Any,
        train: Any,
        evaluation: Any,
        arguments: dict[str, Any],
        *,
        collator: Any = stacked,
        **more: Any,
    ) -> Any:
        """The trainer of a task; without `compute_metrics` it evaluates the loss, run_eval.py the rest."""
        loss_only = "compute_metrics" not in more
        return cls(
            model=model,
            args=transformers.TrainingArguments(**arguments, prediction_loss_only=loss_only),
            train_dataset=train,
            eval_dataset=evaluation,
            data_collator=collator(config, processor),
            processing_class=processor,
            head_learning_rate=config.get("head_learning_rate"),
            **more,
        )

    def create_optimizer(self, *given: Any, **keywords: Any) -> Any:
        """Split the parameters of the head off into groups with their own rate."""
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(*given, **keywords)
        if not (fresh and self.head_learning_rate):
            return optimizer
        heads = {id(p) for name, p in self.model.named_parameters() if name.startswith(HEADS)}
        for group in list(optimizer.param_groups):
            mine = [p for p in group["params"] if id(p) in heads]
            if mine:
                group["params"] = [p for p in group["params"] if id(p) not in heads]
                optimizer.add_param_group({**group, "params": mine, "lr": self.head_learning_rate})
        return optimizer
