"""Checkpoints: weights as safetensors, with the config, the labels and the epoch in the metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from tasks.artifacts import existing_file, write_atomically
from tasks.classifier.files import BEST
from tasks.classifier.network import Classifier, config_of, described, rebuilt
from tasks.classifier.spec import ClassifierSpec
from tasks.errors import InputError

ENGINE = "deft-flows image_classifier"


def write_checkpoint(path: Path, network: Classifier, image_size: int, epoch: int) -> Path:
    """Write the weights after a zero-based epoch."""
    facts = {"config": network.config(), "labels": network.labels, "image_size": image_size, "epoch": epoch}
    metadata = {name: json.dumps(value) for name, value in facts.items()}
    weights = {name: tensor.cpu().contiguous() for name, tensor in network.model.state_dict().items()}
    content = save(weights, {"format": "pt", "engine": ENGINE, **metadata})
    return write_atomically(path, lambda stream: stream.write(content))


def read_checkpoint(path: Path | None, spec: ClassifierSpec, key: str) -> Classifier:
    """The classifier of a checkpoint of this engine, on the CPU.

    Raises:
        InputError: `key` is not set, the file is missing or no such checkpoint, or it was trained with
            another model type or image size than the spec's.
    """
    if path is None:
        raise InputError(f"{key} is not set; give a checkpoint such as {BEST}")
    try:
        with safe_open(existing_file(path, key), framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise InputError(f"{key} {path} is not a safetensors file: {error}") from error
    if metadata.get("engine") != ENGINE:
        raise InputError(f"{key} {path} was not written by image_classifier train")
    facts: dict[str, Any] = {name: json.loads(metadata[name]) for name in ("config", "labels", "image_size")}
    wanted = {"model.type": spec.model.type, "dataset.image_size": spec.dataset.image_size}
    held = {"model.type": facts["config"]["model_type"], "dataset.image_size": facts["image_size"]}
    _refuse_difference(f"{key} {path}", wanted, held)
    network = rebuilt(facts["config"], facts["labels"])
    network.model.load_state_dict(weights)
    return network


def warm_start(spec: ClassifierSpec, labels: list[str]) -> Classifier:
    """The classifier of `train.pretrained_model_path`, for these labels.

    Raises:
        InputError: as `read_checkpoint`, or it has other labels or another architecture than the spec's.
    """
    path, key = spec.train.pretrained_model_path, "train.pretrained_model_path"
    network = read_checkpoint(path, spec, key)
    config = json.loads(json.dumps(described(config_of(spec, labels))))
    held = network.config()
    names = sorted({*config, *held} - {"id2label", "label2id"})
    wanted = {"labels": labels, **{f"model.config {name}": config.get(name) for name in names}}
    given = {"labels": network.labels, **{f"model.config {name}": held.get(name) for name in names}}
    _refuse_difference(f"{key} {path}", wanted, given)
    return network


def _refuse_difference(what: str, wanted: dict[str, Any], held: dict[str, Any]) -> None:
    for name, value in wanted.items():
        if held[name] != value:
            raise InputError(
                f"{what} was trained with {name} = {held[name]}, this run has {value}; make them agree"
            )
