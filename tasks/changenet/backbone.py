"""Backbones from transformers, each giving four feature levels.

A convolutional network gives its pyramid (strides 4, 8, 16, 32). Of a plain vision transformer the tokens
of four blocks are taken as maps and resized to those strides.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tasks.changenet.architectures import BUILT_IN, family_of
from tasks.changenet.spec import Model
from tasks.errors import InputError

logger = logging.getLogger("deft")

STRIDES = (4, 8, 16, 32)
WEIGHT_FILES = (".safetensors", ".pth", ".ckpt", ".bin")
# Parts of the models behind the last block; no level comes from them, so weights may lack them.
UNUSED_PARTS = ("pooler.", "layernorm.", "norm.")


class FourLevels(nn.Module):
    """A backbone; it gives four maps, finest first.

    Attributes:
        model: the transformers model.
        channels: of each level.
        frozen: weights and running statistics stay as they are.
    """

    def __init__(self, model: Any, *, frozen: bool = False) -> None:
        super().__init__()
        config = model.config
        self.model = model
        self.frozen = frozen
        self._is_pyramid = hasattr(config, "hidden_sizes")
        if self._is_pyramid:
            self.channels = list(config.hidden_sizes)
        else:
            self.channels = [config.hidden_size] * len(STRIDES)
            blocks = config.num_hidden_layers
            # Hidden state 0 is the embedding; the last of each quarter of the blocks.
            self._blocks = [blocks * (quarter + 1) // len(STRIDES) for quarter in range(len(STRIDES))]
            self._prefix = 1 + (getattr(config, "num_register_tokens", 0) or 0)
        if frozen:
            self.requires_grad_(False)
            self.train(False)

    def train(self, mode: bool = True) -> FourLevels:
        """Switch to training; a frozen backbone stays in evaluation."""
        super().train(mode and not self.frozen)
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images [n, 3, H, W] to four maps [n, C_l, H / stride, W / stride]."""
        options = {"interpolate_pos_encoding": True} if self.model.config.model_type == "vit" else {}
        states = self.model(images, output_hidden_states=True, **options).hidden_states
        if self._is_pyramid:
            return list(states[-len(STRIDES) :])
        high, wide = images.shape[-2:]
        patch = self.model.config.patch_size
        tokens = [states[block][:, self._prefix :].transpose(1, 2) for block in self._blocks]
        maps = [block.unflatten(2, (high // patch, wide // patch)) for block in tokens]
        return [
            interpolate(level, (-(-high // stride), -(-wide // stride)), mode="bilinear")
            for level, stride in zip(maps, STRIDES, strict=True)
        ]

    def config_text(self) -> str:
        """The architecture as JSON, from which `from_config` builds the same network."""
        return json.dumps(json.loads(self.model.config.to_json_string(use_diff=False)), sort_keys=True)


def fresh(model: Model, init: str, shape: tuple[int, int]) -> FourLevels:
    """The backbone that a new model starts from: pretrained weights, or random ones if the spec says so.

    Raises:
        InputError: no such backbone here, weights missing or of another network, or the images of
            `shape` (height, width) do not fit its patches.
    """
    spec, path = model.backbone, model.backbone.pretrained_backbone_path
    family = family_of(spec.type)
    head = model.decode_head
    if head.feature_strides != list(STRIDES) or head.in_index != [0, 1, 2, 3]:
        raise InputError(
            f"model.decode_head.feature_strides {head.feature_strides} and in_index {head.in_index}: "
            f"backbone {spec.type} gives strides {list(STRIDES)} at indices [0, 1, 2, 3]; set them so"
        )
    if init == "pretrained" and path is None:
        raise InputError(
            "model.backbone.pretrained_backbone_path is empty; give a local snapshot folder of "
            f"{spec.type}, or say native.backbone_init=random to start from random weights"
        )
    if spec.freeze_backbone and init == "random":
        raise InputError(
            "model.backbone.freeze_backbone with random weights would never learn; set it to false"
        )
    config = _config(spec.type, path)
    if config.model_type != family:
        raise InputError(
            f"{path} holds a model of type {config.model_type}, not {family} as {spec.type} needs"
        )
    _check_patches(config, spec.type, shape)
    if init == "random" or path is None:
        logger.info("backbone %s: random weights", spec.type)
        return _built(config)
    logger.info("backbone %s: weights of %s", spec.type, path)
    return FourLevels(_pretrained(config, path), frozen=spec.freeze_backbone)


def from_config(text: str, *, frozen: bool = False) -> FourLevels:
    """The network that `config_text` describes, with weights that are still to be loaded."""
    from transformers import AutoConfig

    values = json.loads(text)
    return _built(AutoConfig.for_model(values.pop("model_type"), **values), frozen=frozen)


def _built(config: Any, *, frozen: bool = False) -> FourLevels:
    from transformers import AutoModel

    return FourLevels(AutoModel.from_config(config), frozen=frozen)  # type: ignore[no-untyped-call]


def _config(name: str, path: Path | None) -> Any:
    from transformers import AutoConfig

    if path is not None:
        local = path.is_absolute()
        source = path.parent if local and path.suffix in WEIGHT_FILES else path
        if local and not path.exists():
            raise InputError(f"model.backbone.pretrained_backbone_path {path}: no such file or folder")
        if not local or (source / "config.json").is_file():
            try:
                return AutoConfig.from_pretrained(source)
            except (OSError, ValueError) as error:
                raise InputError(
                    f"backbone {path} cannot be read: {_one_line(error)}; give a local snapshot folder"
                ) from error
    if name not in BUILT_IN:
        raise InputError(
            f"model.backbone.type {name}: no built-in architecture; give a snapshot folder with config.json "
            f"at model.backbone.pretrained_backbone_path, or choose one of: {', '.join(BUILT_IN)}"
        )
    values = dict(BUILT_IN[name])
    return AutoConfig.for_model(values.pop("model_type"), **values)


def _check_patches(config: Any, name: str, shape: tuple[int, int]) -> None:
    patch = None if hasattr(config, "hidden_sizes") else config.patch_size
    if patch and any(side % patch for side in shape):
        raise InputError(
            f"backbone {name} needs an image height and width (lightings joined) that are multiples of "
            f"{patch}; they are {shape[0]} x {shape[1]}: correct dataset.classify.image_height, image_width"
        )


def _pretrained(config: Any, path: Path) -> Any:
    from transformers import AutoModel

    try:
        if path.is_absolute() and path.is_file():
            model = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
            missing: Iterable[str] = model.load_state_dict(_state(path), strict=False).missing_keys
        else:
            model, info = AutoModel.from_pretrained(path, output_loading_info=True)
            missing = info["missing_keys"]
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"backbone weights {path} cannot be loaded: {_one_line(error)}") from error
    lacking = sorted(key for key in missing if not key.startswith(UNUSED_PARTS))
    if lacking:
        raise InputError(
            f"backbone weights {path} lack {len(lacking)} tensors of {config.model_type} (such as "
            f"{lacking[0]}); give weights in the naming of transformers"
        )
    return model


def _state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    state: dict[str, Tensor] = content.get("state_dict", content)
    return state


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
