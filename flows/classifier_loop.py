"""The data loop for image classifiers: mine what the model is weakest on, retrain, measure, repeat."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from blocks.reaping import reap
from blocks.runtime import Runtime
from flows.approved import hold_to
from flows.named import workspace_root
from tasks.artifacts import sha256_of, write_yaml
from tasks.classifier.loop import BASELINE, LoopOutcome, LoopPhase, LoopRun, LoopSettings, opened_loop
from tasks.classifier.metrics import measured, read_scores
from tasks.classifier.task import mine, score, train_classifier
from tasks.classifier.workspace import check_disjoint, read_baseline, read_list, training_values, write_rows
from tasks.stage import load_runtime

logger = logging.getLogger("deft.flow")

DEFAULT_METRIC = {"name": "error_pct", "display_name": "Error", "operator": "<", "target": 5, "unit": "%"}


@flow(name="classifier-loop", on_cancellation=[reap])
def classifier_loop(
    workspace: Path,
    max_iterations: Annotated[int, Field(ge=1)] = 2,
    metric: dict[str, Any] = DEFAULT_METRIC,
    num_weak: Annotated[int, Field(ge=1)] = 50,
    topn: Annotated[int, Field(ge=1)] = 5,
    max_new_rows: Annotated[int, Field(ge=1)] | None = None,
    num_epochs: Annotated[int, Field(ge=1)] | None = None,
    seed: Annotated[int, Field(ge=0)] = 1234,
    results_dir: Path | None = None,
    runtime: str = "inline",
    baseline_checkpoint: Path | None = None,
    approved: Path | None = None,
    approval_token: str | None = None,
) -> LoopOutcome:
    """Train a baseline, then add look-alikes of its weakest samples and retrain until the metric is met.

    The baseline is trained, or given, and measured on the KPI set. Each iteration takes the KPI samples
    of whose label the best model so far is least sure, finds the pool images of that label whose
    features are nearest, adds those that no earlier iteration has had to the training set, trains from
    the best model so far and measures again. The loop stops when the metric contract passes, after
    `max_iterations`, or when the pool has nothing new. The same call with the same `results_dir` goes on
    after the last complete phase.

    Args:
        workspace: folder with specs, train, validation, kpi and, to mine from, pool, or workspace/NAME.
        max_iterations: rounds of improvement at most, 1 or more.
        metric: fields of a metric contract over error_pct or worst_recall_pct.
        num_weak: weakest KPI samples to look up in each iteration.
        topn: nearest pool images looked up for each weak sample.
        max_new_rows: at most so many new images per iteration; none means all.
        num_epochs: epochs of each training; none takes the number in the workspace's spec.
        seed: seed of training.
        results_dir: folder of the run; none makes a new one under the workspace's results.
        runtime: where actions run: inline, or the type/name of a saved runtime block.
        baseline_checkpoint: a model that stands for the trained baseline; none trains one.
        approved: summary of the pipeline's preflight that this loop is part of.
        approval_token: the hash with which it was approved.
    """
    workspace = workspace_root(workspace)
    hold_to(approved, approval_token, "loop", dict(locals()))
    settings = LoopSettings(
        metric=metric,
        max_iterations=max_iterations,
        num_weak=num_weak,
        topn=topn,
        max_new_rows=max_new_rows,
        num_epochs=num_epochs,
        seed=seed,
    )
    place = load_runtime(runtime)
    with opened_loop(workspace, settings, results_dir, baseline_checkpoint) as run:
        logger.info("run folder: %s", run.folder)
        if not run.phases:
            _commit(run, BASELINE, run.lists.train, place, given=baseline_checkpoint)
        while run.goes_on:
            combined = _enlarged_training_set(run, place)
            if combined is None:
                break
            _commit(run, f"iter{run.iteration}", combined, place)
        outcome = run.finish()
        logger.info("%s; best model: %s, %s", outcome.status, outcome.best_label, outcome.checkpoint)
        return outcome


def _commit(
    run: LoopRun, label: str, training_csv: Path, runtime: Runtime, given: Path | None = None
) -> None:
    """Train a phase, or take the given model, measure it on the KPI set, and commit it."""
    spec, folder = read_baseline(run.workspace), run.folder / label
    values = training_values(
        spec,
        run.workspace,
        training_csv=training_csv,
        validation_csv=run.lists.validation,
        results_dir=folder,
        pretrained_model_path=run.best.checkpoint if run.phases else None,
        num_epochs=run.settings.num_epochs,
        seed=run.settings.seed,
    )
    training_spec = write_yaml(folder / f"{label}_spec.yaml", values)
    checkpoint = given.absolute() if given else train_classifier(values, runtime).path("best")
    scored = score(checkpoint, spec, run.workspace, run.lists.kpi, folder, runtime)
    result = measured(read_scores(scored.inference_csv), run.contract)
    phase = LoopPhase(
        label=label,
        checkpoint=checkpoint,
        checkpoint_sha256=sha256_of(checkpoint),
        training_csv=training_csv,
        rows=len(read_list(training_csv)),
        training_spec=training_spec,
        inference_csv=scored.inference_csv,
        features=scored.features,
        metric_result=result,
        passed=run.contract.passed(result),
        trained=given is None,
    )
    run.commit(phase)
    shown = f"{run.contract.display_name} {result.value:.4g} {result.unit}"
    logger.info("%s: %s on the KPI set, %d training rows", label, shown, phase.rows)


def _enlarged_training_set(run: LoopRun, runtime: Runtime) -> Path | None:
    """The training set with what is mined for the next iteration; None when nothing is new.

    Raises:
        InputError: a mined image is in the validation or the KPI set.
    """
    label = f"iter{run.iteration}"
    mined = mine(run, run.folder / label / "mining", runtime)
    if not mined:
        logger.info("%s: the pool has no new look-alikes of the weakest samples", label)
        return None
    new = [{**row, "origin": label} for row in mined]
    check_disjoint(run.workspace, new, read_list(run.lists.validation), read_list(run.lists.kpi))
    logger.info("%s: %d new images", label, len(new))
    before = read_list(run.phases[-1].training_csv)
    return write_rows(run.folder / label / "dataset" / f"train_combined_{label}.csv", [*before, *new])
