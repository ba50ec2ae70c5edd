"""The network: any image classifier of transformers, from a config or a local snapshot."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageClassification

from tasks.changenet.device import SEEDING
from tasks.classifier.spec import ClassifierSpec
from tasks.errors import InputError

logger = logging.getLogger("deft")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of pixels in [0, 1], per channel (ImageNet), as the snapshots of transformers expect."""


class Classifier(nn.Module):
    """A transformers model that classifies images, and the features that its head takes in.

    Attributes:
        model: the transformers model.
        labels: what its outputs stand for, in order.
    """

    def __init__(self, model: Any, labels: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.labels = list(labels)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images [n, 3, s, s] to logits [n, labels] and pooled features [n, d]."""
        taken: list[Tensor] = []
        head = self.model.get_submodule(head_name(self.model))
        handle = head.register_forward_pre_hook(lambda _, given: taken.append(given[0]))
        try:
            logits = self.model(normalised(images)).logits
        finally:
            handle.remove()
        return logits, taken[0].flatten(1)

    def config(self) -> dict[str, Any]:
        """What of the architecture a checkpoint keeps."""
        return described(self.model.config)


def normalised(images: Tensor) -> Tensor:
    """uint8 images [n, 3, s, s] as the model takes them, by `MEAN` and `STD`."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def head_name(model: Any) -> str:
    """The module that turns features into one number per label."""
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == model.config.num_labels
    ]
    if not linear:
        raise InputError(
            f"model.type {model.config.model_type} has no linear head; choose another, e.g. resnet"
        )
    return str(linear[-1])


def described(config: Any) -> dict[str, Any]:
    """A transformers config as plain values, without what says only where it came from."""
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    for name in ("transformers_version", "_name_or_path", "architectures", "dtype"):
        values.pop(name, None)
    return values


def config_of(spec: ClassifierSpec, labels: Sequence[str]) -> Any:
    """The transformers config that the spec describes.

    Raises:
        InputError: no such model type, a key that it does not have, or a value that it refuses.
    """
    kind, folder = spec.model.type, spec.model.pretrained_path
    if folder is not None and not (folder / "config.json").is_file():
        raise InputError(f"model.pretrained_path {folder} is no snapshot folder with a config.json")
    try:
        default = AutoConfig.for_model(kind)
    except ValueError as error:
        raise InputError(f"model.type {kind!r} is unknown to transformers; try resnet or vit") from error
    unknown = [key for key in spec.model.config if not hasattr(default, key)]
    if unknown:
        raise InputError(f"model.config: {kind} has no key {', '.join(unknown)}; correct its spelling")
    values = {
        **spec.model.config,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
        **({"image_size": spec.dataset.image_size} if hasattr(default, "image_size") else {}),
    }
    try:
        config = (
            AutoConfig.from_pretrained(folder, **values) if folder else AutoConfig.for_model(kind, **values)
        )
    except Exception as error:  # a config can be wrong in any way
        raise InputError(f"model.config does not make a {kind}: {_one_line(error)}") from error
    if config.model_type != kind:
        raise InputError(
            f"model.pretrained_path {folder} holds a {config.model_type}, model.type says {kind}"
        )
    return config


def built(config: Any, labels: Sequence[str]) -> Classifier:
    """A classifier with random weights, drawn from torch's generator.

    Raises:
        InputError: the config describes no image classifier.
    """
    try:
        model = AutoModelForImageClassification.from_config(config)  # type: ignore[no-untyped-call]
    except Exception as error:  # a config can be wrong in any way
        raise InputError(f"model.type {config.model_type} cannot be built: {_one_line(error)}") from error
    head_name(model)
    return Classifier(model, labels)


def rebuilt(values: Mapping[str, Any], labels: Sequence[str]) -> Classifier:
    """The classifier that `Classifier.config` describes, with weights that are still to be loaded."""
    rest = {key: value for key, value in values.items() if key != "model_type"}
    with SEEDING:
        return built(AutoConfig.for_model(values["model_type"], **rest), labels)


def fresh(spec: ClassifierSpec, labels: Sequence[str]) -> Classifier:
    """What a new model starts from: random weights of `train.seed`, or the snapshot with a new head.

    Raises:
        InputError: as `config_of` and `built`, the snapshot's weights do not fit, or the network does not
            run on images of the spec's size.
    """
    config = config_of(spec, labels)
    with SEEDING, torch.random.fork_rng():
        torch.manual_seed(spec.train.seed)
        folder = spec.model.pretrained_path
        network = built(config, labels) if folder is None else _pretrained(folder, config, labels)
    _check_runs(network, spec.dataset.image_size)
    return network


@torch.inference_mode()
def _check_runs(network: Classifier, side: int) -> None:
    try:
        network.eval()(torch.zeros(1, 3, side, side, dtype=torch.uint8))
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"model.config does not run on images of dataset.image_size {side}: {_one_line(error)}"
        ) from error


def _pretrained(folder: Path, config: Any, labels: Sequence[str]) -> Classifier:
    try:
        model, info = AutoModelForImageClassification.from_pretrained(
            folder,
            config=config,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            local_files_only=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"model.pretrained_path {folder} cannot be loaded: {_one_line(error)}") from error
    names = [*info["missing_keys"], *(item[0] for item in info["mismatched_keys"])]
    lacking = sorted(name for name in names if not name.startswith(head_name(model)))
    if lacking:
        raise InputError(
            f"model.pretrained_path {folder} does not fit in {len(lacking)} tensors (such as {lacking[0]}); "
            "make model.config and dataset.image_size those of the snapshot"
        )
    logger.info("weights of %s, with a new head", folder)
    return Classifier(model, labels)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
