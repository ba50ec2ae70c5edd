"""What is worth searching in the training of an image classifier."""

from __future__ import annotations

from tasks.automl.space import Parameter, parameter

_DEFINITIONS: dict[str, dict[str, object]] = {
    "lr": {
        "keys": ["train.optim.lr"], "type": "float", "around": [0.1, 10], "log": True,
        "reason": "strongest effect; a decade on either side of the base spec",
    },
    "weight_decay": {
        "keys": ["train.optim.weight_decay"], "type": "float", "low": 1e-3, "high": 0.5, "log": True,
    },
    "batch_size": {"keys": ["dataset.batch_size"], "type": "choice", "choices": [8, 16, 32]},
    "label_smoothing": {"keys": ["train.label_smoothing"], "type": "float", "low": 0.0, "high": 0.3},
    "flip": {"keys": ["train.flip_probability"], "type": "float", "low": 0.0, "high": 0.5},
}  # fmt: skip

PARAMETERS: tuple[Parameter, ...] = tuple(
    parameter(name, {**given, "source": "overlay"}, "image classifier search space")
    for name, given in _DEFINITIONS.items()
)
