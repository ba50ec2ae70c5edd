"""The backbones by name: which architecture each has, and which this engine has not."""

from __future__ import annotations

from typing import Any

from blocks.versions import PYT
from tasks.action import unknown_value
from tasks.errors import InputError

ONLY_IN_CONTAINER = ("c_radio", "fan_", "vit_large_nvdinov2")


def _resnet(hidden: list[int], depths: list[int], layer: str = "basic", stem: int = 64) -> dict[str, Any]:
    return {
        "model_type": "resnet", "embedding_size": stem, "hidden_sizes": hidden, "depths": depths,
        "layer_type": layer,
    }  # fmt: skip


def _convnext(hidden: list[int], depths: list[int]) -> dict[str, Any]:
    return {"model_type": "convnextv2", "hidden_sizes": hidden, "depths": depths}


def _vit(model_type: str, width: int, layers: int, heads: int, patch: int = 16) -> dict[str, Any]:
    return {
        "model_type": model_type, "hidden_size": width, "num_hidden_layers": layers,
        "num_attention_heads": heads, "intermediate_size": 4 * width, "patch_size": patch,
    }  # fmt: skip


BUILT_IN: dict[str, dict[str, Any]] = {
    "resnet_micro": _resnet([16, 24, 32, 48], [1, 1, 1, 1], stem=16),
    "resnet_small": _resnet([32, 64, 96, 160], [2, 2, 2, 1], stem=32),
    "resnet18": _resnet([64, 128, 256, 512], [2, 2, 2, 2]),
    "resnet34": _resnet([64, 128, 256, 512], [3, 4, 6, 3]),
    "resnet50": _resnet([256, 512, 1024, 2048], [3, 4, 6, 3], "bottleneck"),
    "convnextv2_atto": _convnext([40, 80, 160, 320], [2, 2, 6, 2]),
    "convnextv2_pico": _convnext([64, 128, 256, 512], [2, 2, 6, 2]),
    "convnextv2_nano": _convnext([80, 160, 320, 640], [2, 2, 8, 2]),
    "convnextv2_tiny": _convnext([96, 192, 384, 768], [3, 3, 9, 3]),
    "dinov2_small": _vit("dinov2", 384, 12, 6, 14),
    "dinov2_base": _vit("dinov2", 768, 12, 12, 14),
    "dinov3_small": _vit("dinov3_vit", 384, 12, 6),
    "dinov3_base": _vit("dinov3_vit", 768, 12, 12),
    "vit_tiny": _vit("vit", 192, 12, 3),
    "vit_small": _vit("vit", 384, 12, 6),
    "vit_base": _vit("vit", 768, 12, 12),
}
"""Architectures by name. Any other name of these families takes its architecture from a config.json."""

FAMILIES = {
    "resnet": "resnet",
    "convnextv2": "convnextv2",
    "dinov2": "dinov2",
    "dinov3": "dinov3_vit",
    "vit": "vit",
}


def family_of(name: str) -> str:
    """The model type of transformers that a backbone is of.

    Raises:
        InputError: this engine has no such backbone; says who has, or names those of this engine.
    """
    if name.startswith(ONLY_IN_CONTAINER):
        raise InputError(
            f"model.backbone.type {name} is not in this engine; train it in the container that "
            f"versions.yaml names at {PYT}, or choose one of: {', '.join(BUILT_IN)}"
        )
    stem = "dinov3" if name.endswith("_dinov3") else name
    for prefix, model_type in FAMILIES.items():
        if stem.startswith(prefix):
            return model_type
    raise unknown_value("model.backbone.type", name, BUILT_IN)
