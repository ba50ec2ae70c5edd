"""What is worth searching in a ChangeNet classify training, and what is not (spec automl 6).

The twenty dimensions that NVIDIA's schema has for it all stand here. Most of them are left as the base spec
has them, each with the reason that the preflight shows; a person may ask for one by its name.
"""

from __future__ import annotations

from tasks.automl.space import Parameter, parameter

AUGMENT = "dataset.classify.augmentation_config"
OPTIM = "train.optim"
COLOUR = [f"{AUGMENT}.random_color.{name}" for name in ("brightness", "contrast", "saturation")]
NOT_SGD = {f"{OPTIM}.optim": ["adamw", "adam"]}
NOT_EUCLIDEAN = {"model.classify.difference_module": ["learnable"]}
SWITCH = {"type": "choice", "choices": [True, False], "phases": []}
UNAUGMENTED = {f"{AUGMENT}.augment": [False, None]}

_DEFINITIONS: dict[str, dict[str, object]] = {
    "lr": {
        "keys": [f"{OPTIM}.lr"], "type": "float", "around": [0.1, 10], "log": True,
        "reason": "strongest effect; a decade on either side of the base spec",
    },
    "weight_decay": {
        "keys": [f"{OPTIM}.weight_decay"], "type": "float", "low": 1e-3, "high": 0.8, "log": True,
    },
    "fpratio": {
        "keys": ["dataset.classify.fpratio_sampling"], "type": "float", "low": 0.05, "high": 1.0, "log": True,
        "reason": "share of defects in a batch",
    },
    "color": {
        "keys": COLOUR, "type": "float", "low": 0.05, "high": 0.6, "inert_if": UNAUGMENTED,
        "reason": "one strength for brightness, contrast and saturation; above 1.5 hurts",
    },
    "rotate": {
        "keys": [f"{AUGMENT}.random_rotate.rotate_probability"], "type": "float", "low": 0.0, "high": 0.7,
        "inert_if": {**UNAUGMENTED, f"{AUGMENT}.random_rotate.enable": [False]},
    },
    "modules": {
        "keys": ["model.classify.learnable_difference_modules"], "type": "int", "low": 2, "high": 4,
        "phases": [1], "inert_if": {"model.classify.difference_module": ["euclidean"]},
        "reason": "architecture: a warm start cannot change it",
    },
    "hue": {
        "keys": [f"{AUGMENT}.random_color.hue"], "type": "float", "low": 0.0, "high": 0.3, "phases": [],
        "inert_if": UNAUGMENTED, "reason": "weak beside color",
    },
    "defect_weight": {
        "keys": ["train.classify.cls_weight[1]"], "type": "float", "low": 2, "high": 60, "log": True,
        "phases": [], "reason": "same direction as fpratio; lost on a warm start in the container",
    },
    "momentum": {
        "keys": [f"{OPTIM}.momentum"], "type": "float", "low": 0.5, "high": 0.99, "inert_if": NOT_SGD,
    },
    "train_margin": {
        "keys": ["model.classify.train_margin_euclid"], "type": "float", "low": 1, "high": 20,
        "inert_if": NOT_EUCLIDEAN,
    },
    "eval_margin": {
        "keys": ["model.classify.eval_margin"], "type": "float", "low": 0, "high": 20, "phases": [],
        "reason": "no effect on training or FAR at recall",
    },
    "scale_crop": {"keys": [f"{AUGMENT}.with_scale_random_crop.enable"], **SWITCH, "reason": "no effect"},
    "augment": {"keys": [f"{AUGMENT}.augment"], **SWITCH, "reason": "off would make ten others idle"},
    **{
        f"{name}_enable": {
            "keys": [f"{AUGMENT}.random_{name}.enable"], **SWITCH, "reason": "its probability says it",
        }
        for name in ("flip", "rotate", "color")
    },
    **{
        name: {
            "keys": [f"{AUGMENT}.random_flip.{name}_probability"], "type": "float", "low": 0, "high": 1,
            "phases": [], "inert_if": UNAUGMENTED, "reason": "weak",
        }
        for name in ("hflip", "vflip")
    },
}  # fmt: skip

PARAMETERS: tuple[Parameter, ...] = tuple(
    parameter(name, {**given, "source": "overlay"}, "ChangeNet search space")
    for name, given in _DEFINITIONS.items()
)
"""Every dimension by its name; six are searched before the loop, five after it."""
