"""What a finished run hands over: `best_model.json` and `best_model_inference_spec.yaml` (spec deft-loop 6).

The spec is complete but for four fields that the consumer fills: the CSV and the image root of
`dataset.classify.infer_dataset`, `inference.results_dir` and `results_dir`. In a container the checkpoint
is mounted as `/model/best.pth`; the native engine finds it in the run's folder `model`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tasks.artifacts import write_json, write_yaml
from tasks.dataset.specs import inference_spec, read_spec
from tasks.deft.state import DeftState, Phase
from tasks.errors import StageFailed

MODEL_FOLDER = "model"
CHECKPOINT = "best.pth"
MOUNTED = f"/{MODEL_FOLDER}/{CHECKPOINT}"
BACKBONE_FOLDER = "/backbone"
AGREE = ("concat_type", "grid_map", "image_ext", "input_map", "image_width", "image_height")
"""Keys of `dataset.classify` that give silently wrong scores when they differ from the training's."""


def hand_over(folder: Path, state: DeftState, label: str, images_dir: Path) -> dict[str, str]:
    """Write both files for the phase of that label, and link its checkpoint into the folder `model`.

    Returns:
        The files by the names that stand in `final_artifacts`.

    Raises:
        StageFailed: the model's loss and difference module do not belong together.
        InputError: the training spec of the phase cannot be read.
    """
    phase = state.phase(label)
    assert phase.best_ckpt_path is not None
    assert phase.training_spec is not None
    training = read_spec(phase.training_spec)
    spec = consumer_spec(training, phase.threshold, (folder / MODEL_FOLDER).absolute())
    _link(folder / MODEL_FOLDER / CHECKPOINT, phase.best_ckpt_path)
    facts = _facts(state, label, phase, training["model"].get("backbone") or {}, images_dir)
    return {
        "best_model": str(write_json(folder / "best_model.json", facts)),
        "best_model_inference_spec": str(write_yaml(folder / "best_model_inference_spec.yaml", spec)),
    }


def consumer_spec(training: dict[str, Any], threshold: float | None, model_dir: Path) -> dict[str, Any]:
    """The inference spec of a trained model, with the four fields of the consumer left empty.

    Raises:
        StageFailed: contrastive loss without the euclidean difference module, or the other way round.
    """
    spec = inference_spec(training, Path(), Path(), Path(MOUNTED), Path())
    classify, model = spec["dataset"]["classify"], spec["model"]["classify"]
    loss = (spec["train"].get("classify") or {}).get("loss", "contrastive")
    difference = model.get("difference_module", "euclidean")
    if (loss == "contrastive") != (difference == "euclidean"):
        raise StageFailed(
            f"model.classify.difference_module {difference} does not belong to train.classify.loss {loss}: "
            "contrastive needs euclidean, and only contrastive; correct the training spec"
        )
    given = training["dataset"]["classify"]
    assert all(classify.get(key) == given.get(key) for key in AGREE)
    if threshold is not None:
        model["eval_margin"] = threshold
    classify["infer_dataset"] = {"csv_path": "", "images_dir": ""}
    classify.update(batch_size=1, workers=1)
    # Engines up to 7.1 build the criterion for inference too, so the loss has to stand here.
    spec["train"] = {"classify": {"loss": loss}}
    spec["results_dir"] = ""
    spec["inference"] = {"checkpoint": MOUNTED, "results_dir": ""}
    if "native" in spec:
        spec["native"] = {**spec["native"], "model_dir": str(model_dir)}
    return {"encryption_key": "", "task": "classify", **spec}


def _facts(
    state: DeftState, label: str, phase: Phase, backbone: dict[str, Any], images_dir: Path
) -> dict[str, Any]:
    weights = backbone.get("pretrained_backbone_path")
    result = phase.metric_result or {}
    return {
        "checkpoint": phase.best_ckpt_path,
        "checkpoint_kind": phase.best_ckpt_kind,
        "threshold": phase.threshold,
        "metric_contract": state.metric_contract,
        "metric_result": result,
        "far_pct": result.get("value") if result.get("name") == "far_pct" else None,
        "iteration": label,
        "backbone": weights,
        "backbone_container_path": f"{BACKBONE_FOLDER}/{Path(weights).name}" if weights else None,
        "backbone_type": backbone.get("type"),
        "backbone_frozen": bool(backbone.get("freeze_backbone", False)),
        "images_dir": images_dir,
        "training_spec": phase.training_spec,
    }


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    # Relative, so that the run's folder may be moved.
    temporary.symlink_to(os.path.relpath(target, link.parent))
    temporary.replace(link)
