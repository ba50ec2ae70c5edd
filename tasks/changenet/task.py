"""Training and inference of the siamese classifier as Prefect tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from blocks.runtime import Runtime
from tasks.errors import StageFailed
from tasks.stage import StageResult, run_stage

LATEST = "changenet_model_classify_latest.pth"


class TrainedModel(BaseModel):
    """The two checkpoints that a training offers: lowest validation loss, and the last epoch."""

    stage: StageResult
    best_val: Path
    latest: Path


def train_model(spec: dict[str, Any], runtime: Runtime) -> TrainedModel:
    """Run `visual_changenet train`.

    Raises:
        StageFailed: training failed, or left no `model_epoch_*` and `model_best_*` checkpoint.
    """
    stage = run_stage("visual_changenet", "train", spec, runtime)
    newest = {kind: _newest(stage, kind) for kind in ("model_best_", "model_epoch_")}
    return TrainedModel(stage=stage, best_val=newest["model_best_"], latest=newest["model_epoch_"])


def infer(spec: dict[str, Any], runtime: Runtime) -> Path:
    """Run `visual_changenet inference` and give its `inference.csv`."""
    return run_stage("visual_changenet", "inference", spec, runtime).path("inference.csv")


def _newest(stage: StageResult, prefix: str) -> Path:
    names = sorted(name for name in stage.artifacts if name.startswith(prefix))
    if not names:
        raise StageFailed(f"{stage.stage} left no checkpoint {prefix}*.pth; see its log in {stage.folder}")
    return stage.path(names[-1])
