"""The steps of the DEFT loop: each does one stage of a phase and says what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blocks.runtime import Runtime
from flows.deft_generation import make_pairs, supported_defects
from flows.deft_measuring import best_checkpoint, hold_regression_gate, same_threshold_expected
from flows.deft_mining import join_new_rows, mine_new_rows
from tasks.artifacts import timestamp_folder, write_yaml
from tasks.changenet.task import train_model
from tasks.dataset.specs import training_spec
from tasks.dataset.table import read_table
from tasks.deft.handover import hand_over
from tasks.deft.run import Run
from tasks.deft.stages import BASELINE, LOOP_STOP, Step, previous_label
from tasks.evaluation.kpi import check_threshold_agrees
from tasks.gap_analysis.task import analyse_vcn_gaps
from tasks.routing.task import route_gaps
from tasks.stage import run_stage


@dataclass(frozen=True)
class Done:
    """What a step leaves: one line for people, and the fields of its phase."""

    summary: str
    fields: dict[str, Any] = field(default_factory=dict)
    skip_reason: str | None = None
    final_artifacts: dict[str, str] | None = None


def train(run: Run, step: Step, runtime: Runtime) -> Done:
    """Train on the phase's rows; an iteration starts from the best model so far."""
    state, space = run.state, run.workspace
    is_baseline = step.label == BASELINE
    training_csv = space.training_csv if is_baseline else _set(state.phase(step.label).combined_training_csv)
    spec = training_spec(
        run.spec(),
        space,
        training_csv,
        training_images_dir=space.images_dir if is_baseline else space.root,
        results_dir=run.place(step.label),
        pretrained_model_path=None if is_baseline else run.best(state)[1].best_ckpt_path,
    )
    spec_file = write_yaml(run.place(step.label, f"{step.label}_spec.yaml"), spec)
    model = train_model(spec, runtime)
    rows = len(read_table(training_csv))
    return Done(
        f"trained on {rows} rows",
        {
            "best_val_ckpt_path": model.best_val,
            "latest_ckpt_path": model.latest,
            "training_spec": spec_file,
            "training_rows": rows,
            "val_loss_best_val": model.val_loss_best_val,
            "val_loss_latest": model.val_loss_latest,
        },
    )


def evaluate(run: Run, step: Step, runtime: Runtime) -> Done:
    """Score the KPI set with both checkpoints and keep the one that the metric contract prefers."""
    best = best_checkpoint(run, step, runtime)
    result = best.candidate.result
    before = run.best(run.state)[1] if run.state.measured() else None
    if before is not None:
        hold_regression_gate(run, step, before, result)
    change = f"{(before.metric_result or {})['value']:.4g} → " if before else ""
    return Done(
        f"{run.contract.display_name} {change}{result.value:.4g} {result.unit} ({best.candidate.kind})",
        {
            "best_ckpt_path": best.checkpoint,
            "best_ckpt_kind": best.candidate.kind,
            "val_loss": best.candidate.val_loss,
            "inference_csv": best.inference_csv,
            "metric_result": result.model_dump(mode="json"),
            "metric_result_file": best.result_file,
            "threshold": result.threshold,
            "passed": run.contract.passed(result),
        },
    )


def rca(run: Run, step: Step, runtime: Runtime) -> Done:
    """Find the KPI samples that the phase's model is weakest on."""
    phase = run.state.phase(step.label)
    gaps = analyse_vcn_gaps(
        inference_results_dir=_set(phase.inference_csv).parent,
        train_config=run.workspace.baseline_spec,
        kpi_media_path=str(run.workspace.images_dir),
        results_dir=timestamp_folder(run.place(step.label, "rca_results")),
        min_recall=run.settings.min_recall,
        top_k_per_label=run.settings.top_k_per_label,
        spot_check=run.spot_check,
        runtime=runtime,
    )
    if same_threshold_expected(run):
        check_threshold_agrees(phase.threshold, gaps.threshold)
    return Done(
        f"threshold {gaps.threshold:.4g}, weakest defects: {', '.join(gaps.target_defects[:3])}",
        {
            "rca_gaps_parquet": gaps.gaps_parquet,
            "rca_metrics": gaps.metrics_json,
            "rca_threshold": gaps.threshold,
            "rca_target_defects": gaps.target_defects,
            "rca_report": gaps.report,
        },
    )


def route(run: Run, step: Step, runtime: Runtime) -> Done:
    """Decide which weak samples of the phase before go to mining and which to generation."""
    before = run.state.phase(previous_label(step.label))
    gaps = _set(before.rca_gaps_parquet)
    supported = supported_defects(run, gaps)
    routed = route_gaps(
        {
            "gaps_parquet": gaps,
            "metrics_json": _set(before.rca_metrics),
            "pool": run.workspace.pool_csv,
            **({"supported_defects": supported} if supported else {}),
            "results_dir": timestamp_folder(run.place(step.label, "routing_results")),
        },
        runtime,
    )
    return Done(
        f"{routed.to_mining} weak images to mining, {routed.to_generation} to generation",
        {
            "routing_mining_parquet": routed.mining_gaps,
            "routing_anomalygen_parquet": routed.anomalygen_gaps,
            "routing_summary": routed.summary,
            "routed_to_mining": routed.to_mining,
            "routed_to_generation": routed.to_generation,
            "routing_report": routed.report,
        },
    )


def generate(run: Run, step: Step, runtime: Runtime) -> Done:
    """Make synthetic pairs of the defects that were routed to generation."""
    source = run.settings.sdg_source
    reason = None
    if source == "none":
        reason = "sdg_source=none"
    elif not run.state.phase(step.label).routed_to_generation:
        reason = "nothing was routed to generation"
    elif source == "pregenerated" and step.iteration > 1:
        reason = "sdg_source=pregenerated: the pairs came in with iteration 1"
    if reason:
        return Done(f"no synthetic pairs: {reason}", {"anomalygen_skipped": True}, skip_reason=reason)
    pairs = make_pairs(run, step, runtime)
    fields = {
        "anomalygen_sdg_csv": pairs.sdg_csv,
        "anomalygen_allocation_json": pairs.allocation_json,
        "anomalygen_amp_requested": pairs.requested,
        "anomalygen_amp_allocated": pairs.allocated,
        "anomalygen_skipped": source == "pregenerated",
        "sdg_rows_csv": pairs.rows_csv,
        "ingest_summary": pairs.ingest_summary,
        "sdg_count": pairs.count,
    }
    if source == "pregenerated":
        return Done(f"{pairs.count} pregenerated pairs", fields, skip_reason="sdg_source=pregenerated")
    placed = f"{pairs.requested} asked for, {pairs.allocated} placed"
    return Done(f"{pairs.count} synthetic pairs ({placed})", fields)


def mine(run: Run, step: Step, runtime: Runtime) -> Done:
    """Find pool samples that look like the weak ones and have not been used before; join the new rows."""
    reason = None
    if run.workspace.pool_csv is None:
        reason = "no pool configured"
    elif run.settings.max_new_rows == 0:
        reason = "max_new_rows=0"
    elif not run.state.phase(step.label).routed_to_mining:
        reason = "nothing was routed to mining"
    if reason:
        fields = {
            "data_mining_skipped": True,
            "mined_count": 0,
            "new_rows_csv": join_new_rows(run, step, None),
        }
        return Done(f"nothing mined: {reason}", fields, skip_reason=reason)
    mined, rows_csv = mine_new_rows(run, step, runtime)
    return Done(
        f"{mined.mined_raw_count} neighbours, {mined.mined_candidate_count} similar enough, "
        f"{mined.mined_count} new samples",
        {**mined.model_dump(), "new_rows_csv": join_new_rows(run, step, rows_csv)},
    )


def merge(run: Run, step: Step, runtime: Runtime) -> Done:
    """Add the new rows to the training set of the phase before, with provenance and leakage checks."""
    state, space = run.state, run.workspace
    is_first = step.iteration == 1
    before = state.phase(previous_label(step.label))
    stage = run_stage(
        "dataset",
        "assemble",
        {
            "previous_csv": space.training_csv if is_first else _set(before.combined_training_csv),
            "first": is_first,
            "new_rows_csv": _set(state.phase(step.label).new_rows_csv),
            "workspace": space.root,
            "images_dir": space.images_dir,
            "train_yaml": space.baseline_spec,
            "validation_csv": space.validation_csv,
            "kpi_csv": space.kpi_csv,
            "iteration": step.iteration,
            "results_dir": run.place(step.label, "dataset"),
        },
        runtime,
    )
    combined = stage.path(f"train_combined_{step.label}.csv")
    return Done(
        f"training set has {len(read_table(combined))} rows",
        {
            "combined_training_csv": combined,
            "provenance_csv": stage.path(f"train_combined_{step.label}_provenance.csv"),
            "merge_validation_report": stage.path("merge_validation.json"),
        },
    )


def stop(run: Run, step: Step, runtime: Runtime) -> Done:
    """Hand over the best model of the run."""
    state = run.state
    label = run.best(state)[0]
    reason = "metric_met" if state.phase(step.label).passed else "max_iterations"
    files = hand_over(run.folder, state, label, run.workspace.images_dir)
    return Done(f"{reason}; best model: {label}", final_artifacts={**files, "stop_reason": reason})


STEPS: dict[str, Callable[[Run, Step, Runtime], Done]] = {
    "train": train,
    "evaluate": evaluate,
    "rca": rca,
    "routing": route,
    "anomalygen": generate,
    "data_mining": mine,
    "data_merge": merge,
    LOOP_STOP: stop,
}
"""What does each stage of the state machine."""


def _set(path: Path | None) -> Path:
    """A path of the state that an earlier commit has set; its evidence was checked then."""
    if path is None:
        raise AssertionError("the state machine let a step run before the one it needs")
    return path
