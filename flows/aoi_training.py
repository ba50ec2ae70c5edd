"""A trial of the AOI profile: train the classifier, keep its best checkpoint, judge it on validation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocks.runtime import Runtime
from flows.profiles import Data
from tasks.artifacts import sha256_of
from tasks.automl.judging import Judgement, judge
from tasks.automl.trial import Outcome, Report, SweepMetric
from tasks.automl.watching import watched
from tasks.changenet.task import infer, train_model
from tasks.dataset.specs import inference_spec, training_spec
from tasks.dataset.workspace import Workspace
from tasks.errors import InputError
from tasks.gap_analysis.scores import read_scores
from tasks.keys import flat

VALIDATION = "validation"
IN_STATUS = {"far_pct": "val_far", "val_loss": "val_loss"}
"""What the training calls the metrics of a sweep."""


@dataclass(frozen=True)
class AoiTrainer:
    """Trains and judges specs on one set of rows.

    Attributes:
        workspace: with the validation set; its KPI set is kept out of sight.
        data: the training rows.
        warm_start: the checkpoint that every trial starts from.
        metric: of the sweep.
        runtime: where actions run.
        concurrency: trials at a time; in one process they share its cores.
    """

    workspace: Workspace
    data: Data
    warm_start: Path | None
    metric: SweepMetric
    runtime: Runtime
    concurrency: int

    def __call__(self, spec: dict[str, Any], folder: Path, report: Report) -> Outcome:
        """Train in `folder`, measure the checkpoint of the best epoch on the validation set."""
        job = self.job(spec, folder)
        with watched(folder / "train", IN_STATUS[self.metric.name], report):
            model = train_model(job, self.runtime)
        checkpoints = [(model.best_val, model.val_loss_best_val)]
        if self.runtime.runs_nvidia and sha256_of(model.best_val) != sha256_of(model.latest):
            # That engine ranks epochs by val_loss alone, so the last one is worth a look.
            checkpoints.append((model.latest, model.val_loss_latest))
        outcomes = [self._outcome(job, folder, *checkpoint) for checkpoint in checkpoints]
        return min(outcomes, key=lambda outcome: (bool(outcome.collapse), outcome.target))

    def job(self, spec: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """The spec as it is trained: rows, places and checkpoint rule written into it, the KPI set left out.

        Raises:
            InputError: the spec names the KPI set.
        """
        job = training_spec(
            dict(spec), self.workspace, self.data.csv, self.data.images_dir, folder, self.warm_start
        )
        for name in ("test_dataset", "infer_dataset"):
            del job["dataset"]["classify"][name]
        train = job["train"]
        epochs = int(train.get("num_epochs") or 10)
        for name in ("checkpoint_interval", "validation_interval"):
            train[name] = min(int(train.get(name) or 1), epochs)
        if not self.runtime.runs_nvidia:
            # The checkpoint that is kept is the one whose figure is reported.
            train["validation_interval"] = 1
            train["checkpointer"] = {
                "enable_topk": True,
                "monitor": IN_STATUS[self.metric.name],
                "mode": "min",
                "save_top_k": 1,
            }
            self._share_cores(job)
        refuse_kpi_set(job, self.workspace.kpi_csv)
        return job

    def _share_cores(self, job: dict[str, Any]) -> None:
        native = job.get("native") or {}
        if self.concurrency > 1 and not native.get("threads"):
            cores = len(os.sched_getaffinity(0))
            job["native"] = {**native, "threads": max(1, cores // self.concurrency)}

    def _outcome(
        self, job: dict[str, Any], folder: Path, checkpoint: Path, val_loss: float | None
    ) -> Outcome:
        judged = judged_on_validation(
            job, self.workspace, checkpoint, folder / VALIDATION / checkpoint.stem, self.runtime
        )
        by_loss = self.metric.name == "val_loss"
        score = val_loss if by_loss else judged.far_pct
        if score is None:
            raise InputError(
                f"{checkpoint}: its training reports no {self.metric.name}; choose another metric"
            )
        epoch, step = position_of(checkpoint)
        return Outcome(
            score=score,
            target=score if by_loss else judged.target,
            checkpoint=checkpoint,
            epoch=epoch,
            step=step,
            epochs=int(job["train"].get("num_epochs") or 10),
            threshold=judged.threshold,
            facts={"far_pct": judged.far_pct, "auc": judged.auc, "val_loss": val_loss},
            predicted=judged.at_margin,
            collapse=judged.collapse,
            warnings=list(judged.warnings),
        )


def judged_on_validation(
    spec: dict[str, Any], workspace: Workspace, checkpoint: Path | None, folder: Path, runtime: Runtime
) -> Judgement:
    """What a checkpoint, or without one the untrained backbone, makes of the validation set."""
    place = checkpoint or Path("none")
    inference = inference_spec(spec, workspace.validation_csv, workspace.images_dir, place, folder)
    inference["inference"] = {
        "checkpoint": str(checkpoint) if checkpoint else None,
        "results_dir": str(folder),
    }
    if checkpoint is None:
        inference["native"] = {**inference.get("native", {}), "zero_shot": True}
    rows = read_scores(infer(inference, runtime))
    margin = (spec["model"].get("classify") or {}).get("eval_margin", 2.0)
    return judge(rows.scores, ~rows.is_pass, float(margin))


def position_of(checkpoint: Path) -> tuple[int, int]:
    """Zero-based epoch and step in a checkpoint's name; what it does not say is 0."""
    numbers = [int(part) for part in checkpoint.stem.split("_") if part.isdigit()]
    epoch, step, *_ = [*numbers, 0, 0]
    return epoch, step


def refuse_kpi_set(spec: Mapping[str, Any], kpi_csv: Path) -> None:
    """Check that no value of a sweep's spec is the KPI set, by path or by content.

    Raises:
        InputError: one is; a sweep that sees the KPI set makes its figure worthless.
    """
    for key, value in flat(spec).items():
        path = Path(value) if isinstance(value, str) and value.endswith(".csv") else None
        if path and path.is_file() and _is_same(path, kpi_csv):
            raise InputError(f"{key}: {path} is the KPI set, which no sweep may see; give another set")


def _is_same(path: Path, other: Path) -> bool:
    """Whether two files hold the same; `other` is read only where that is not plain without it."""
    if path.resolve() == other.resolve():
        return True
    return path.stat().st_size == other.stat().st_size and sha256_of(path) == sha256_of(other)
