"""The model and the rows fit each other."""

from __future__ import annotations

from typing import Any

import torch


def test_the_loss_of_a_batch_is_finite(trainer: Any) -> None:
    trainer.model.eval()
    batch = next(iter(trainer.get_eval_dataloader()))
    loss = trainer.prediction_step(trainer.model, batch, prediction_loss_only=True)[0]
    assert loss.ndim == 0
    assert torch.isfinite(loss)


def test_there_is_something_to_learn(config: dict[str, Any], trainer: Any) -> None:
    learning = [name for name, weights in trainer.model.named_parameters() if weights.requires_grad]
    assert learning
    if config["use_lora"]:
        assert all("lora_" in name for name in learning), "under LoRA the model itself is frozen"
