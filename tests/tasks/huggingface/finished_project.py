"""A finished project as its programs would have left it, with weights of a few bytes."""

import json

import numpy as np
import yaml
from PIL import Image

CONFIG = {
    "model_id": "acme/tiny-vit",
    "model_short_name": "tiny-vit-screws",
    "task": "image-classification",
    "auto_model_class": "AutoModelForImageClassification",
    "training_method": "sft",
    "dataset_id": "acme/screws",
    "n_train": 100,
    "n_eval": 50,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 16,
    "gradient_accumulation_steps": 2,
    "learning_rate": 5e-5,
    "bf16": True,
    "use_lora": False,
    "report_to": "none",
    "push_to_hub": True,
    "hf_model_repo": "anna/tiny-vit-screws-finetuned",
    "skip_baseline": False,
    "applicable_workarounds": [
        {
            "id": "hf-hub-xet-hang",
            "fix_type": "runtime_env",
            "reason": "hangs",
            "content": {"HF_HUB_DISABLE_XET": "1"},
        }
    ],
    "research_sources": ["https://huggingface.co/acme/tiny-vit/raw/main/README.md"],
    "ngc_image": "nvcr.io/nvidia/pytorch:25.01-py3",
    "gpu_count": 1,
    "gpu_name": "NVIDIA A100-SXM4-80GB",
    "driver_major": 560,
    "vram_gb_per_gpu": 80.0,
    "logging_steps": 10,
}

LICENSED = "# Copyright (c) 2026, NVIDIA CORPORATION.  All rights reserved.\n"


def good_history(entries=6):
    return [
        {"step": max(1, 10 * number), "loss": 2.0 / (number + 1), "grad_norm": 1.5, "learning_rate": 5e-5}
        for number in range(entries)
    ] + [{"step": 60, "train_loss": 0.8}]


def safetensors(tensors):
    """The bytes of a safetensors file."""
    header, place = {}, 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [place, place + array.nbytes],
        }
        place += array.nbytes
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in tensors.values())


def write_json(file, value):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


def evaluation(value, checkpoint):
    primary = {"name": "accuracy", "value": value, "higher_is_better": True}
    return {"primary_metric": primary, "accuracy": value, "top5": 1.0, "n_eval": 50, "checkpoint": checkpoint}


def finished_project(folder, **changes):
    """Every file that the six gates look at; `changes` of the configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | changes, sort_keys=False))
    for name in ("prepare_data.py", "train.py", "run_eval.py", "infer.py"):
        (folder / name).write_text(LICENSED + "print('hello')\n")
    for name in ("Dockerfile", "requirements.txt", ".gitignore"):
        (folder / name).write_text("FROM scratch\n")
    final = folder / "checkpoints" / "final"
    write_json(final / "config.json", {"model_type": "vit"})
    (final / "model.safetensors").write_bytes(safetensors({"w": np.arange(4, dtype="float32")}))
    write_json(final / "preprocessor_config.json", {"size": 32})
    (final / "training_args.bin").write_bytes(b"x")
    write_json(folder / "checkpoints" / "trainer_state.json", {"log_history": good_history()})
    write_json(folder / "reports" / "eval_results.json", evaluation(0.9, "checkpoints/final"))
    write_json(folder / "reports" / "baseline_results.json", evaluation(0.3333333, "acme/tiny-vit"))
    for number in range(5):
        samples = folder / "reports" / "inference_samples"
        write_json(samples / f"sample_{number}_meta.json", {"label": "ok"})
        for what in ("input", "pred"):
            Image.new("RGB", (8, 8)).save(samples / f"sample_{number}_{what}.jpg")
    meta = folder / "meta"
    slots = ("model_class", "processor_class", "train_transforms", "eval_transforms", "collator",
             "compute_metrics", "hyperparameters", "load_kwargs")  # fmt: skip
    write_json(
        meta / "recipe.json", {"slots": {slot: {"value": 1, "fallback": True, "note": "-"} for slot in slots}}
    )
    write_json(meta / "hardware.json", {"hw_rules_walked": True})
    write_json(meta / "image.json", {"place": "process"})
    write_json(meta / "smoke.json", {"passed": True, "loss": 2.0, "grad_norm": 1.0, "reasons": []})
    fields = ("reference implementation", "dataset columns verified", "push_to_hub", "monitoring",
              "ngc_image", "hardware", "smoke test")  # fmt: skip
    write_json(meta / "preflight.json", dict.fromkeys(fields, "filled"))
    return folder
