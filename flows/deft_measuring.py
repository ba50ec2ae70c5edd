"""The measurement in the DEFT loop: two checkpoints, one metric, and what happens when it gets worse."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from blocks.runtime import Runtime
from tasks.artifacts import read_json, sha256_of
from tasks.changenet.task import infer
from tasks.dataset.specs import inference_spec
from tasks.deft.run import Run
from tasks.deft.stages import Step
from tasks.deft.state import Phase
from tasks.errors import StageFailed
from tasks.evaluation.action import min_recall_of
from tasks.evaluation.contract import Candidate, MetricResult
from tasks.evaluation.evaluator import Builtin, CheckpointKind
from tasks.stage import run_stage

logger = logging.getLogger("deft.flow")


@dataclass(frozen=True)
class Measured:
    """One checkpoint, its scores on the KPI set, and what the evaluator made of them."""

    checkpoint: Path
    inference_csv: Path
    result_file: Path
    candidate: Candidate


def best_checkpoint(run: Run, step: Step, runtime: Runtime) -> Measured:
    """Measure the checkpoints of lowest validation loss and of the last epoch; give the better one.

    Raises:
        DeftError: scoring failed, or the evaluator gave no answer to the metric contract.
    """
    phase = run.state.phase(step.label)
    best_val, latest = phase.best_val_ckpt_path, phase.latest_ckpt_path
    assert best_val is not None
    assert latest is not None
    measured = [measured_checkpoint(run, step.label, "best_val", best_val, phase.val_loss_best_val, runtime)]
    if sha256_of(best_val) != sha256_of(latest):
        measured.append(
            measured_checkpoint(run, step.label, "latest", latest, phase.val_loss_latest, runtime)
        )
    chosen = run.contract.choose([one.candidate for one in measured])
    return next(one for one in measured if one.candidate is chosen)


def measured_checkpoint(
    run: Run, label: str, kind: CheckpointKind, checkpoint: Path, val_loss: float | None, runtime: Runtime
) -> Measured:
    """Score the KPI set with a checkpoint of the phase `label` and measure it by the metric contract."""
    space = run.workspace
    folder = run.place(label, "inference", kind)
    spec = inference_spec(run.spec(), space.kpi_csv, space.images_dir, checkpoint, folder)
    spec["inference"]["results_dir"] = str(folder)
    inference_csv = infer(spec, runtime)
    stage = run_stage(
        "evaluation",
        "measure",
        {
            "inference_csv": inference_csv,
            "results_dir": run.place(label, "evaluate", kind),
            "metric_contract": run.settings.metric,
            "iter_label": label,
            "checkpoint_kind": kind,
        },
        runtime,
        # What somebody else's program reads is not in the cache key.
        refresh=not isinstance(run.contract.evaluator, Builtin),
    )
    file = stage.path("metric_result.json")
    result = MetricResult.model_validate(read_json(file))
    return Measured(checkpoint, inference_csv, file, Candidate(result, val_loss, kind))


def hold_regression_gate(run: Run, step: Step, before: Phase, result: MetricResult) -> None:
    """Say, or refuse, that the metric got worse than the best before by more than is let through.

    Raises:
        StageFailed: it did, and the gate is there to stop the run.
    """
    gate, best = run.settings.regression_gate, MetricResult.model_validate(before.metric_result)
    if not gate.enabled or not run.contract.better(best, result):
        return
    if run.contract.feasible(result) and abs(result.value - best.value) <= gate.max_worse:
        return
    text = f"{step.label} is worse than the best before: {best.value:.4g} → {result.value:.4g} {result.unit}"
    if gate.action == "stop":
        raise StageFailed(f"{text}; regression_gate.action is stop: look at {run.place(step.label)}")
    logger.warning("%s", text)


def same_threshold_expected(run: Run) -> bool:
    """Whether gap analysis sweeps the same candidates by the same rule as the evaluator: no miss allowed."""
    if not isinstance(run.contract.evaluator, Builtin):
        return False
    return run.settings.min_recall == 1.0 and min_recall_of(run.contract) == 1.0
