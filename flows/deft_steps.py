"""The steps of the DEFT loop: each does one stage of a phase and says what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blocks.runtime import Runtime
from flows.deft_mining import mine_new_rows
from tasks.artifacts import read_json, sha256_of, timestamp_folder, write_json, write_yaml
from tasks.changenet.task import infer, train_model
from tasks.dataset.specs import inference_spec, read_spec, training_spec
from tasks.dataset.table import read_table
from tasks.deft.run import Run, previous_label
from tasks.deft.state import BASELINE, LOOP_STOP, Step
from tasks.evaluation.contract import MetricResult
from tasks.gap_analysis.task import analyse_vcn_gaps
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
        _base_spec(run),
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
            "best_ckpt_path": model.best_val,
            "latest_ckpt_path": model.latest,
            "training_spec": spec_file,
            "training_rows": rows,
        },
    )


def evaluate(run: Run, step: Step, runtime: Runtime) -> Done:
    """Score the KPI set with both checkpoints and keep the one that the metric contract prefers."""
    phase = run.state.phase(step.label)
    kinds = {"best_val": _set(phase.best_ckpt_path), "latest": _set(phase.latest_ckpt_path)}
    if _same_file(kinds["best_val"], kinds["latest"]):
        kinds.pop("latest")
    scored = {kind: _measure(run, step, kind, path, runtime) for kind, path in kinds.items()}
    best = run.contract.best([result for _, result, _ in scored.values()])
    kind = next(kind for kind, (_, result, _) in scored.items() if result is best)
    inference_csv, result, result_file = scored[kind]
    before = run.best(run.state)[1].metric_result if run.state.measured() else None
    change = f"{before['value']:.4g} → " if before else ""
    return Done(
        f"{run.contract.display_name} {change}{result.value:.4g} {result.unit} ({kind})",
        {
            "best_ckpt_path": kinds[kind],
            "best_ckpt_kind": kind,
            "inference_csv": inference_csv,
            "metric_result": result.model_dump(mode="json"),
            "metric_result_file": result_file,
            "threshold": result.threshold,
            "passed": run.contract.passed(result),
        },
    )


def _measure(
    run: Run, step: Step, kind: str, checkpoint: Path, runtime: Runtime
) -> tuple[Path, MetricResult, Path]:
    space = run.workspace
    spec = inference_spec(
        _base_spec(run), space.kpi_csv, space.images_dir, checkpoint, run.place(step.label, "inference", kind)
    )
    spec["inference"]["results_dir"] = str(run.place(step.label, "inference", kind))
    inference_csv = infer(spec, runtime)
    stage = run_stage(
        "evaluation",
        "far_at_recall",
        {
            "inference_csv": inference_csv,
            "results_dir": run.place(step.label, "evaluate", kind),
            "metric_contract": run.settings.metric,
        },
        runtime,
    )
    file = stage.path("metric_result.json")
    return inference_csv, MetricResult.model_validate(read_json(file)), file


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
        runtime=runtime,
    )
    return Done(
        f"threshold {gaps.threshold:.4g}, weakest defects: {', '.join(gaps.target_defects[:3])}",
        {
            "rca_gaps_parquet": gaps.gaps_parquet,
            "rca_metrics": gaps.metrics_json,
            "rca_threshold": gaps.threshold,
            "rca_target_defects": gaps.target_defects,
        },
    )


def route(run: Run, step: Step, runtime: Runtime) -> Done:
    """Decide which weak samples of the phase before go to mining and which to generation."""
    before = run.state.phase(previous_label(step.label))
    stage = run_stage(
        "routing",
        "route",
        {
            "gaps_parquet": _set(before.rca_gaps_parquet),
            "metrics_json": _set(before.rca_metrics),
            "pool": run.workspace.pool_csv,
            "results_dir": timestamp_folder(run.place(step.label, "routing_results")),
        },
        runtime,
    )
    counts = read_json(stage.path("routing.json"))
    return Done(
        f"{counts['to_mining']} weak images to mining, {counts['to_generation']} to generation",
        {
            "routing_mining_parquet": stage.path("mining_gaps"),
            "routing_anomalygen_parquet": stage.path("anomalygen_gaps"),
        },
    )


def generate(run: Run, step: Step, runtime: Runtime) -> Done:
    """Make synthetic pairs; this version has no generator, which the record says."""
    return Done(
        "no synthetic pairs: no generator is configured",
        {"anomalygen_skipped": True},
        skip_reason="sdg_source=none",
    )


def mine(run: Run, step: Step, runtime: Runtime) -> Done:
    """Find pool samples that look like the weak ones and have not been used before."""
    if run.workspace.pool_csv is None:
        return Done("no mining pool", {"data_mining_skipped": True}, skip_reason="no pool configured")
    mined = mine_new_rows(run, step, runtime)
    return Done(
        f"{mined.raw_count} neighbours, {mined.candidate_count} similar enough, {mined.count} new samples",
        {
            "mined_parquet": mined.parquet,
            "mined_rows_csv": mined.rows_csv,
            "mined_raw_count": mined.raw_count,
            "mined_candidate_count": mined.candidate_count,
            "mined_count": mined.count,
        },
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
            "new_rows_csv": _set(state.phase(step.label).mined_rows_csv),
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
    """Name the best model of the run."""
    state = run.state
    label, phase = run.best(state)
    reason = "metric_met" if state.phase(step.label).passed else "max_iterations"
    file = write_json(
        run.folder / "best_model.json",
        {
            "checkpoint": str(phase.best_ckpt_path),
            "threshold": phase.threshold,
            "metric_contract": state.metric_contract,
            "metric_result": phase.metric_result,
            "iteration": label,
            "images_dir": str(run.workspace.images_dir),
            "training_spec": str(phase.training_spec),
        },
    )
    return Done(
        f"{reason}; best model: {label}",
        final_artifacts={"best_model": str(file), "stop_reason": reason},
    )


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


def _base_spec(run: Run) -> dict[str, Any]:
    """The workspace's spec with the epochs and the seed that the person chose."""
    spec = read_spec(run.workspace.baseline_spec)
    train_keys = spec.setdefault("train", {})
    train_keys["seed"] = run.settings.seed
    if run.settings.num_epochs is not None:
        train_keys["num_epochs"] = run.settings.num_epochs
        train_keys["checkpoint_interval"] = run.settings.num_epochs
    return spec


def _set(path: Path | None) -> Path:
    """A path of the state that an earlier commit has set; its evidence was checked then."""
    if path is None:
        raise AssertionError("the state machine let a step run before the one it needs")
    return path


def _same_file(one: Path, other: Path) -> bool:
    return sha256_of(one) == sha256_of(other)
