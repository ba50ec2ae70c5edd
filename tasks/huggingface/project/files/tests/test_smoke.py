"""One step of train.py's own trainer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import transformers

import train


class Gradients(transformers.TrainerCallback):
    """Keeps the norm of every gradient, just before the weights move."""

    def __init__(self) -> None:
        self.norms: dict[str, float] = {}

    def on_pre_optimizer_step(self, *given: Any, model: Any, **keywords: Any) -> None:
        """Note them."""
        for name, weights in model.named_parameters():
            if weights.grad is not None:
                self.norms[name] = float(weights.grad.norm())


@pytest.fixture(scope="module")
def step(config: dict[str, Any], trainer: Any) -> tuple[int, dict[str, float]]:
    """What train.py's smoke test returns for one step, and the gradients of that step."""
    gradients = Gradients()
    trainer.add_callback(gradients)
    return train.smoke(config, trainer), gradients.norms


def test_a_real_trainer_takes_one_step(trainer: Any, step: tuple[int, dict[str, float]]) -> None:
    assert trainer.state.global_step == 1
    assert step[0] == 0, "train.py prints what is wrong, see above"


def test_gradients_flow(step: tuple[int, dict[str, float]]) -> None:
    norms = step[1]
    assert all(math.isfinite(norm) for norm in norms.values())
    assert any(norm > 0 for norm in norms.values())
