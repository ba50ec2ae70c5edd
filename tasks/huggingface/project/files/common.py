"""What train.py, run_eval.py and infer.py share: the config, the training arguments, the checkpoints."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
import yaml
from datasets import load_from_disk
from PIL import Image

log = logging.getLogger("project")

TRAINING_KEYS = (
    "output_dir", "num_train_epochs", "max_steps", "seed", "bf16", "max_grad_norm",
    "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps",
    "learning_rate", "warmup_steps", "warmup_ratio", "weight_decay", "lr_scheduler_type",
    "gradient_checkpointing", "gradient_checkpointing_kwargs", "remove_unused_columns",
    "average_tokens_across_devices",
    "dataloader_num_workers", "dataloader_pin_memory",
    "eval_strategy", "eval_steps", "metric_for_best_model", "greater_is_better",
    "save_strategy", "save_steps", "save_total_limit", "report_to", "disable_tqdm",
    "logging_strategy", "logging_steps", "logging_first_step",
)  # fmt: skip
OLD_NAMES = {"eval_strategy": "evaluation_strategy"}  # before transformers 4.46
NEW_NAMES = {"warmup_ratio": "warmup_steps"}  # transformers 5: a fraction below 1 is a ratio
NOT_OF_THE_MODEL = ("optimizer", "scheduler", "rng_state", "scaler", "trainer_state", "training_args")
NOT_OF_THE_TRAINING = (  # keys of config.yaml that change nothing about what is learned
    "report_to", "wandb_project", "wandb_mode",
    "logging_strategy", "logging_steps", "logging_first_step", "disable_tqdm",
    "research_sources", "applicable_workarounds", "skip_workarounds", "notes", "push_to_hub", "hf_model_repo",
    "skip_baseline", "emit_progress_log", "emit_report", "emit_unit_tests", "ngc_image", "gpu_count",
    "gpu_name", "driver_major", "vram_gb_per_gpu", "shm_size", "project_dir",
)  # fmt: skip


def read_config(path: str | Path) -> dict[str, Any]:
    """The settings of `config.yaml`; messages go to standard output from here on."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise SystemExit(f"{path}: not a list of `key: value` lines")
    return config


def saved_rows(config: dict[str, Any], split: str) -> Any:
    """The rows of `data/train` or `data/eval` as prepare_data.py left them, without any transform."""
    folder = Path(config["local_data_dir"]) / split
    if not folder.is_dir():
        raise SystemExit(f"{folder} is missing: run `python prepare_data.py --config config.yaml` first")
    return load_from_disk(str(folder))


def rgb(image: Image.Image) -> Image.Image:
    """The picture in RGB. What has more than 8 bit a pixel is scaled to 8: Pillow would clip it to white.

    It counts up to the first of 1 (fractions only), 255, 4095 (12 bit) and 65535 that holds all of it, else
    up to its highest. So two pictures of one set keep their difference in brightness only where that is the
    same for both.
    """
    if image.mode.startswith(("I", "F")):
        pixels = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0)
        tops = (255, 4095, 65535) if image.mode.startswith("I") else (1, 255, 4095, 65535)
        top = next((top for top in tops if pixels.max() <= top), float(pixels.max()))
        image = Image.fromarray((pixels.clip(0) * (255 / top)).round().astype(np.uint8))
    return image.convert("RGB")


def batches(rows: Any, size: int, limit: int | None = None) -> Iterator[list[Any]]:
    """Lists of up to `size` rows, in order, `limit` rows in all."""
    count = len(rows) if limit is None else min(limit, len(rows))
    for start in range(0, count, size):
        yield [rows[index] for index in range(start, min(start + size, count))]


def device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype_argument(dtype: torch.dtype) -> dict[str, torch.dtype]:
    """The keyword of `from_pretrained` that sets the type of the weights: its name changed with 5.0."""
    major = int(transformers.__version__.split(".")[0])
    return {"dtype" if major >= 5 else "torch_dtype": dtype}


def training_arguments(config: dict[str, Any], smoke: bool, max_steps: int | None = None) -> dict[str, Any]:
    """Keywords for `TrainingArguments` of the transformers that is installed; what it lacks is logged.

    The model with the best evaluation is not loaded back at the end: `Trainer` does that by plain
    `load_state_dict`, which restores none of the tensors that are stored under other names.
    `save_final` copies the files of the best checkpoint instead.
    """
    wanted = {key: config[key] for key in TRAINING_KEYS if config.get(key) is not None}
    if not wanted.get("gradient_checkpointing"):  # naming it at all is deprecated from transformers 5 on
        wanted.pop("gradient_checkpointing", None)
    wanted["run_name"] = config.get("model_short_name")
    if config.get("load_best_model_at_end"):
        log.info("load_best_model_at_end is left out: final is a copy of the best checkpoint, see README.md")
    if max_steps is not None:
        wanted["max_steps"] = max_steps
    if smoke:
        wanted |= {
            "output_dir": str(Path(config["output_dir"]) / "smoke"),
            "max_steps": max_steps or 1,
            "eval_strategy": "no",
            "save_strategy": "no",
            "metric_for_best_model": None,
            "report_to": "none",
            "logging_strategy": "steps",
            "logging_steps": 1,
        }
    if not torch.cuda.is_available():
        wanted |= {
            "use_cpu": True,
            "bf16": False,
            "dataloader_num_workers": 0,
            "dataloader_pin_memory": False,
        }
    return _known(wanted)


def _known(wanted: dict[str, Any]) -> dict[str, Any]:
    fields = {field.name for field in dataclasses.fields(transformers.TrainingArguments)}
    arguments: dict[str, Any] = {}
    for key, value in wanted.items():
        name = next((n for n in (key, OLD_NAMES.get(key), NEW_NAMES.get(key)) if n in fields), None)
        if name is None:
            log.info("transformers %s has no training argument %s: left out", transformers.__version__, key)
        elif name not in arguments:  # warmup_steps wins over warmup_ratio
            arguments[name] = value
    return arguments


def checkpoint_to_resume(config: dict[str, Any], arguments: dict[str, Any]) -> str | None:
    """The newest checkpoint of a run with these very settings that was cut short, or None."""
    folder = Path(config["output_dir"])
    stamp = folder / "settings.json"
    if (folder / "final").exists() or not stamp.is_file():
        return None
    if json.loads(stamp.read_text(encoding="utf-8")) != _plain(_settings(config, arguments)):
        return None
    return next((str(one) for one in reversed(_checkpoints(folder)) if _whole(one)), None)


def _checkpoints(folder: Path) -> list[Path]:
    """Those of a training, by their steps; a person's own are not among them."""
    steps = {int(one.name[11:]): one for one in folder.glob("checkpoint-*") if one.name[11:].isdecimal()}
    return [steps[step] for step in sorted(steps)]


def _whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end: its state comes last."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_bytes())
    except (OSError, ValueError):
        return False
    return True


def begin(config: dict[str, Any], arguments: dict[str, Any], resume: str | None) -> None:
    """Note the settings of this run; without a checkpoint to go on from, clear what an earlier run left."""
    folder = Path(config["output_dir"])
    if resume is None:
        for old in [*_checkpoints(folder), folder / "final", folder / "final.part"]:
            shutil.rmtree(old, ignore_errors=True)
    write_json(folder / "settings.json", _settings(config, arguments))


def _settings(config: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    return {k: value for k, value in (config | arguments).items() if k not in NOT_OF_THE_TRAINING}


def save_final(config: dict[str, Any], trainer: Any, processor: Any) -> Path:
    """Write `<output_dir>/final`: the best checkpoint's files or the model as it is, and the processor."""
    final = Path(config["output_dir"]) / "final"
    part = final.with_name("final.part")
    shutil.rmtree(part, ignore_errors=True)
    best = trainer.state.best_model_checkpoint
    if best and Path(best).is_dir():
        source = f"the best checkpoint, {Path(best).name}"
        shutil.copytree(best, part, ignore=shutil.ignore_patterns(*(f"{n}*" for n in NOT_OF_THE_MODEL)))
    else:
        source = "the last step"
        trainer.accelerator.unwrap_model(trainer.model).save_pretrained(part)
    processor.save_pretrained(part)
    make_readable(part)
    shutil.rmtree(final, ignore_errors=True)
    part.rename(final)
    log.info("saved %s (%s)", final, source)
    return final


def make_readable(folder: Path) -> None:
    """Let other users read a saved model: safetensors writes 0600."""
    for file in folder.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)


def first_step(history: list[dict[str, Any]]) -> dict[str, Any]:
    """The first entry of a step: it has `loss`; the closing record has `train_loss` instead."""
    return next((entry for entry in history if "loss" in entry), {})


def smoke_verdict(config: dict[str, Any], step: dict[str, Any]) -> str | None:
    """What is wrong with the first step, or None. GRPO begins at a loss of about 0, and may."""
    loss, gradient = float(step.get("loss", math.nan)), float(step.get("grad_norm") or 0.0)
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    if loss == 0.0 and config.get("training_method") != "grpo":
        return "the loss is exactly 0"
    if not (math.isfinite(gradient) and gradient > 0):
        return f"the norm of the gradient is {gradient}: nothing would be learnt"
    return None


def write_json(path: str | Path, value: Any) -> Path:
    """Write indented JSON under a temporary name and rename it; numbers that are not finite become null."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and torch
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
