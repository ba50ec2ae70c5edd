"""Checkpoints: what they hold, where they lie, and whether one fits a spec."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks.artifacts import existing_file, write_atomically
from tasks.changenet.backbone import from_config
from tasks.changenet.device import SEEDING
from tasks.changenet.files import LATEST, checkpoints_in
from tasks.changenet.network import ChangeNet
from tasks.changenet.spec import HIGHER_IS_BETTER, ChangeNetSpec, Checkpointer
from tasks.errors import InputError

ENGINE = "deft-flows"
TAO_MODEL = "visual_changenet_classify"
PREFIX = "model."


def architecture(spec: ChangeNetSpec) -> dict[str, Any]:
    """What a checkpoint and a spec must agree on: everything that shapes weights or what they see."""
    model, data = spec.model, spec.data
    height, width = data.shape
    mean, std = spec.normalisation
    shared = {
        "model.backbone.type": model.backbone.type,
        "model.classify.difference_module": model.classify.difference_module,
        "native.head": spec.native.head,
        "image height (lightings joined)": height,
        "image width (lightings joined)": width,
        "lightings": list(data.lighting.names),
        "dataset.classify.concat_type": data.concat_type,
        "normalisation mean": list(mean),
        "normalisation std": list(std),
    }
    if model.classify.difference_module == "euclidean":
        return {**shared, "model.classify.embedding_vectors": model.classify.embedding_vectors}
    return {
        **shared,
        "model.decode_head.decoder_params.embed_dim": model.decode_head.decoder_params.embed_dim,
        "model.classify.learnable_difference_modules": model.classify.learnable_difference_modules,
        "model.classify.embed_dec": model.classify.embed_dec,
    }


def packed(network: ChangeNet, spec: ChangeNetSpec, **facts: Any) -> dict[str, Any]:
    """The content of a checkpoint: weights, architecture and `facts` (plain values and tensors)."""
    return {
        "state_dict": {PREFIX + name: tensor for name, tensor in network.state_dict().items()},
        "tao_model": TAO_MODEL,
        "engine": ENGINE,
        "architecture": architecture(spec),
        "backbone_config": network.backbone.config_text(),
        **facts,
    }


def read_checkpoint(path: Path | None, spec: ChangeNetSpec, key: str) -> dict[str, Any]:
    """The content of a checkpoint of this engine that fits the spec; only tensors and plain values load.

    Raises:
        InputError: `key` is not set, the file is missing or no checkpoint of this engine, or it was
            trained with another architecture (the first difference is named).
    """
    if path is None:
        raise InputError(f"{key} is not set; give a checkpoint such as {LATEST}")
    existing_file(path, key)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on a damaged file the unpickler fails in any way
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{key} {path} is not a checkpoint of plain tensors: {reason}") from error
    if not isinstance(content, dict) or content.get("engine") != ENGINE:
        raise InputError(
            f"{key} {path} was not written by this engine; those of the container are not interchangeable"
        )
    wanted = architecture(spec)
    held = content["architecture"]
    for name in wanted:
        if held.get(name) != wanted[name]:
            raise InputError(
                f"{key} {path} was trained with {name} = {held.get(name)}, the spec has {wanted[name]}; "
                "make them agree"
            )
    return content


def network_of(content: Mapping[str, Any], spec: ChangeNetSpec) -> ChangeNet:
    """The network of a checkpoint with its weights."""
    frozen = spec.model.backbone.freeze_backbone
    with SEEDING:  # it is made with random weights first
        network = ChangeNet(from_config(content["backbone_config"], frozen=frozen), spec)
    weights: dict[str, Tensor] = content["state_dict"]
    network.load_state_dict({name.removeprefix(PREFIX): tensor for name, tensor in weights.items()})
    return network


@dataclass
class CheckpointFolder:
    """The checkpoints of a training in its results folder.

    Attributes:
        folder: the results folder.
        best: validation metric, and loss for ties, by epoch of the best checkpoints that are kept.
    """

    folder: Path
    settings: Checkpointer
    best: dict[int, tuple[float, float]] = field(default_factory=dict)

    def clear(self) -> None:
        """Remove the checkpoints of an earlier training."""
        for file in [*checkpoints_in(self.folder), self.folder / LATEST]:
            file.unlink(missing_ok=True)

    def save(self, epoch: int, step: int, content: dict[str, Any]) -> None:
        """Write the periodic checkpoint and make it the latest, unless the best ones replace it."""
        if not (self.settings.replace_periodic and self.settings.enable_topk):
            self._link(_write(self.folder / f"model_epoch_{epoch:03d}_step_{step:05d}.pth", content))

    def is_best(self, value: float, loss: float = 0.0) -> bool:
        """Whether a checkpoint with this validation metric is among those to keep; the loss decides ties."""
        if not self.settings.enable_topk or math.isnan(value):
            return False
        if len(self.best) < self.settings.save_top_k:
            return True
        return self._rank((value, loss)) < self._rank(self._worst()[1])

    def save_best(self, epoch: int, value: float, loss: float, content: dict[str, Any]) -> None:
        """Write a best checkpoint, then remove what no longer is one."""
        self.best[epoch] = (value, loss)
        file = _write(self._best_file(epoch), content)
        while len(self.best) > self.settings.save_top_k:
            epoch_of_worst = self._worst()[0]
            self._best_file(epoch_of_worst).unlink(missing_ok=True)
            del self.best[epoch_of_worst]
        if self.settings.replace_periodic:
            self._link(file)

    def _best_file(self, epoch: int) -> Path:
        return self.folder / f"model_best_{epoch:03d}.pth"

    def _rank(self, reached: tuple[float, float]) -> tuple[float, float]:
        value, loss = reached
        mode = self.settings.mode or ("max" if self.settings.monitor in HIGHER_IS_BETTER else "min")
        return (-value if mode == "max" else value), loss

    def _worst(self) -> tuple[int, tuple[float, float]]:
        """Epoch of the worst that is kept, with what it reached; of equals, the later epoch."""
        return max(self.best.items(), key=lambda item: (self._rank(item[1]), item[0]))

    def _link(self, file: Path) -> None:
        temporary = self.folder / f".{LATEST}.tmp"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(file.name)
        temporary.replace(self.folder / LATEST)


def _write(path: Path, content: dict[str, Any]) -> Path:
    return write_atomically(path, lambda stream: torch.save(content, stream))
