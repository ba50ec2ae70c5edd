"""ChangeNet specs: the baseline of a new workspace, and what the loop derives from it.

Specs are edited key by key. Only `train_dataset.images_dir` becomes the workspace root; validation, KPI
test and inference keep the real image root, so a replacement of the text would break three of the four.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.dataset.workspace import Workspace
from tasks.errors import InputError
from tasks.spec import read_mapping

DATA_SETS = ("train_dataset", "validation_dataset", "test_dataset", "infer_dataset")


def baseline_spec(
    lights: Sequence[str],
    image_ext: str = ".jpg",
    image_size: int = 64,
    num_epochs: int = 10,
    batch_size: int = 32,
    lr: float = 2e-3,
    fpratio_sampling: float = 1.0,
) -> dict[str, Any]:
    """A ChangeNet spec for the native engine on small crops; no lights means images without suffix.

    The data sets' paths are left out: `training_spec` writes them.
    """
    return {
        "task": "classify",
        "model": {
            "backbone": {"type": "resnet_micro", "freeze_backbone": False},
            "decode_head": {"feature_strides": [4, 8, 16, 32], "decoder_params": {"embed_dim": 32}},
            "classify": {
                "difference_module": "learnable",
                "learnable_difference_modules": 4,
                "embed_dec": 30,
                "eval_margin": 0.5,
            },
        },
        "train": {
            "num_epochs": num_epochs,
            "validation_interval": 1,
            "checkpoint_interval": num_epochs,
            "checkpointer": {"enable_topk": True, "monitor": "val_loss", "mode": "min"},
            "classify": {"loss": "ce", "cls_weight": [1.0, 1.0]},
            "optim": {"optim": "adamw", "lr": lr, "policy": "linear", "weight_decay": 0.01},
            "seed": 1234,
        },
        "dataset": {
            "classify": {
                "input_map": {light: index for index, light in enumerate(lights)} or None,
                "num_input": max(1, len(lights)),
                "concat_type": "linear",
                "image_ext": image_ext,
                "image_width": image_size,
                "image_height": image_size,
                "batch_size": batch_size,
                "fpratio_sampling": fpratio_sampling,
                "num_classes": 2,
                "augmentation_config": _augmentation(),
            }
        },
        "native": {"backbone_init": "random", "head": "pool"},
    }


def _augmentation() -> dict[str, Any]:
    return {
        "augment": True,
        "random_flip": {"enable": True, "hflip_probability": 0.5, "vflip_probability": 0.5},
        "random_rotate": {"enable": True, "rotate_probability": 0.5, "angle_list": [90, 180, 270]},
        "random_color": {
            "enable": True,
            "brightness": 0.2,
            "contrast": 0.2,
            "saturation": 0.2,
            "hue": 0.02,
            "color_probability": 0.5,
        },
        "with_random_crop": False,
        "with_random_blur": False,
    }


def read_spec(path: Path) -> dict[str, Any]:
    """A ChangeNet spec as plain values, interpolations kept as text.

    Raises:
        InputError: no such file, or not a YAML mapping with a mapping at `dataset.classify`.
    """
    spec = read_mapping(path, "ChangeNet spec")
    dataset = spec.get("dataset")
    if not isinstance(dataset, dict) or not isinstance(dataset.get("classify"), dict):
        raise InputError(f"ChangeNet spec {path} lacks the mapping dataset.classify; give a classify spec")
    return spec


def training_spec(
    base: dict[str, Any],
    workspace: Workspace,
    training_csv: Path,
    training_images_dir: Path,
    results_dir: Path,
    pretrained_model_path: Path | None = None,
) -> dict[str, Any]:
    """The spec that trains one phase of the loop (spec deft-loop 4.2, 5.4).

    `training_images_dir` is where the rows of `training_csv` start: the workspace root for an assembled
    CSV, the image root for the base CSV. Training starts from the weights of `pretrained_model_path`, and
    never resumes: a resumed run inherits the epoch counter and ends after no step.
    """
    spec = copy.deepcopy(base)
    spec["results_dir"] = str(results_dir)
    # New mappings, never edits in place: in YAML two data sets may be one anchored mapping.
    places = {
        "train_dataset": (training_csv, training_images_dir),
        "validation_dataset": (workspace.validation_csv, workspace.images_dir),
        "test_dataset": (workspace.kpi_csv, workspace.images_dir),
        "infer_dataset": (workspace.kpi_csv, workspace.images_dir),
    }
    spec["dataset"]["classify"].update(
        {
            name: {**(base["dataset"]["classify"].get(name) or {}), **_place(*place)}
            for name, place in places.items()
        }
    )
    spec["train"] = {
        **(base.get("train") or {}),
        "pretrained_model_path": str(pretrained_model_path) if pretrained_model_path else None,
        "resume_training_checkpoint_path": None,
    }
    return spec


def inference_spec(
    training: dict[str, Any], infer_csv: Path, images_dir: Path, checkpoint: Path, results_dir: Path
) -> dict[str, Any]:
    """The spec that scores a CSV with a checkpoint of `training`: same model and images, no augmentation.

    Of `train` only the loss stays: engines up to TAO 7.1 build the criterion for inference too.
    """
    given = copy.deepcopy(training)
    classify = {key: value for key, value in given["dataset"]["classify"].items() if key not in DATA_SETS}
    classify["augmentation_config"] = {**(classify.get("augmentation_config") or {}), "augment": False}
    classify["infer_dataset"] = _place(infer_csv, images_dir)
    kept: dict[str, Any] = {
        key: given[key] for key in ("encryption_key", "task", "model", "native") if key in given
    }
    loss = ((given.get("train") or {}).get("classify") or {}).get("loss")
    return {
        **kept,
        "results_dir": str(results_dir),
        "train": {"classify": {"loss": loss}} if loss else {},
        "dataset": {"classify": classify},
        "inference": {"checkpoint": str(checkpoint)},
    }


def _place(csv_path: Path, images_dir: Path) -> dict[str, str]:
    return {"csv_path": str(csv_path), "images_dir": str(images_dir)}
