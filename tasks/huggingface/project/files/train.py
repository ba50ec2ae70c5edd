"""Fine-tune the model: `python train.py --config config.yaml [--smoke] [--max_steps N]`.

Leaves `checkpoints/final` (weights and processor) and `checkpoints/trainer_state.json`. A run that was cut
short goes on from its newest checkpoint, as long as the settings are the same. `--smoke` takes one step
without evaluation, checkpoints and monitoring, and leaves `checkpoints/smoke/trainer_state.json`.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import transformers

import common
import task


def main(arguments: list[str] | None = None) -> int:
    """Train as the command line says; 1 where a smoke test fails."""
    options = _parser().parse_args(arguments)
    config = common.read_config(options.config)
    for variable in ("WANDB_PROJECT", "WANDB_MODE"):
        if config.get(variable.lower()):
            os.environ.setdefault(variable, config[variable.lower()])
    if options.smoke:
        os.environ["WANDB_MODE"] = "disabled"
    keywords = common.training_arguments(config, options.smoke, options.max_steps)
    resume = None if options.smoke else common.checkpoint_to_resume(config, keywords)
    trainer, processor = prepared(config, keywords, resume)
    if options.smoke:
        return smoke(config, trainer)
    begin_together(config, trainer, keywords, resume)
    if resume:
        common.log.info("going on from %s", resume)
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_state()
    if trainer.is_world_process_zero():
        common.save_final(config, trainer, processor)
    trainer.accelerator.wait_for_everyone()
    return 0


def prepared(config: dict[str, Any], keywords: dict[str, Any], resume: str | None) -> tuple[Any, Any]:
    """The trainer and the processor. A resumed model is loaded by `from_pretrained`, see README.md."""
    transformers.set_seed(config["seed"])  # before a new head is drawn
    processor = task.load_processor(config, config["model_id"])
    model = task.load_model(config, resume or config["model_id"], for_training=True)
    train, evaluation = (task.dataset(config, processor, split) for split in ("train", "eval"))
    common.log.info("%d rows to train on, %d to evaluate", len(train), len(evaluation))
    return task.trainer(config, model, processor, train, evaluation, keywords), processor


def begin_together(
    config: dict[str, Any], trainer: Any, keywords: dict[str, Any], resume: str | None
) -> None:
    """One process clears the folder, after all have looked for their checkpoint and before any writes one."""
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        common.begin(config, keywords, resume)
    trainer.accelerator.wait_for_everyone()


def smoke(config: dict[str, Any], trainer: Any) -> int:
    """Take the step, print its figures and judge them."""
    trainer.train()
    trainer.save_state()
    step = common.first_step(trainer.state.log_history)
    print(f"SMOKE: step={step.get('step')} loss={step.get('loss')} grad_norm={step.get('grad_norm')}")
    wrong = common.smoke_verdict(config, step)
    print(f"SMOKE FAILED: {wrong}" if wrong else "SMOKE PASSED")
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Fine-tune the model that config.yaml names.")
    parser.add_argument("--config", default="config.yaml")
    parser.add_argument("--smoke", action="store_true", help="one step, to see that it runs")
    parser.add_argument("--max_steps", type=int, help="stop after so many optimiser steps")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
