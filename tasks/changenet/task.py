"""Training and inference of the siamese classifier as Prefect tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from blocks.runtime import Runtime
from tasks.errors import StageFailed
from tasks.stage import StageResult, run_stage
from tasks.status import STATUS_FILE, status_lines, validation_losses


class TrainedModel(BaseModel):
    """The two checkpoints that a training offers, lowest validation loss and last epoch, with that loss."""

    stage: StageResult
    best_val: Path
    latest: Path
    val_loss_best_val: float | None
    val_loss_latest: float | None


def train_model(spec: dict[str, Any], runtime: Runtime) -> TrainedModel:
    """Run `visual_changenet train`.

    Raises:
        StageFailed: training failed, or wrote no new `model_epoch_*` and `model_best_*` checkpoint.
    """
    folder = Path(spec["results_dir"]) / "train"
    before = {path: path.stat().st_mtime_ns for path in folder.glob("model_*.pth")}
    stage = run_stage("visual_changenet", "train", spec, runtime)
    newest = {kind: _newest(stage, kind) for kind in ("model_best_", "model_epoch_")}
    for path in newest.values():
        fresh = not (stage.cached or stage.adopted)
        if fresh and before.get(path) == path.stat().st_mtime_ns:
            raise StageFailed(f"{stage.stage} reported success, but {path} is of an earlier training")
    losses = validation_losses(status_lines(stage.path(STATUS_FILE)))
    best_val, latest = newest["model_best_"], newest["model_epoch_"]
    return TrainedModel(
        stage=stage,
        best_val=best_val,
        latest=latest,
        val_loss_best_val=losses.get(_epoch(best_val)),
        val_loss_latest=losses.get(_epoch(latest)),
    )


def _epoch(checkpoint: Path) -> int:
    """The zero-based epoch in a checkpoint's name, such as `model_epoch_007_step_00123.pth`."""
    return int(checkpoint.stem.split("_")[2])


def infer(spec: dict[str, Any], runtime: Runtime) -> Path:
    """Run `visual_changenet inference` and give its `inference.csv`."""
    return run_stage("visual_changenet", "inference", spec, runtime).path("inference.csv")


def _newest(stage: StageResult, prefix: str) -> Path:
    names = sorted(name for name in stage.artifacts if name.startswith(prefix))
    if not names:
        raise StageFailed(f"{stage.stage} left no checkpoint {prefix}*.pth; see its log in {stage.folder}")
    return stage.path(names[-1])
