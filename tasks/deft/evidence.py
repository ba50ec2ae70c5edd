"""Whether the files that a stage left say what the stage claims (spec deft-loop 2.3).

A stage that reports success is not believed: its files are opened. The same checks run when a step is
committed and when a run is taken up again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from tasks.anomalygen.tree import counts_in
from tasks.artifacts import read_json, sha256_of
from tasks.dataset.specs import read_spec
from tasks.dataset.table import read_table
from tasks.deft.stages import BASELINE, FINAL, LOOP_STOP, STAGES, Step, previous_label
from tasks.deft.state import DeftState, Phase
from tasks.errors import DeftError, InputError, StageFailed
from tasks.evaluation.contract import MetricContract, MetricResult
from tasks.spec import explained
from tasks.status import STATUS_FILE, failures, status_lines

FINAL_ARTIFACTS = ("best_model", "best_model_inference_spec")
DISABLED_SOURCES = ("none", "pregenerated")


def check_evidence(state: DeftState, step: Step, phase: Phase) -> None:
    """Check what a step leaves before it is committed.

    Raises:
        StageFailed: a file is absent or contradicts the claim; the first such file is named.
    """
    for problem in problems(state, step, phase):
        raise StageFailed(f"{step}: {problem}; the stage must be run again")


def check_skip(state: DeftState, step: Step, phase: Phase) -> None:
    """Check that a step may be left out, and that files which it names all the same exist.

    Raises:
        DeftError: the stage may not be skipped here.
    """
    if not _may_skip(state, step, phase):
        raise DeftError(f"{step} cannot be skipped; run the stage")
    for problem in _absent(phase.evidence_of(step.stage)):
        raise StageFailed(f"{step}: {problem}; the stage must be run again")


def problems(state: DeftState, step: Step, phase: Phase, *, skipped: bool = False) -> Iterator[str]:
    """What is wrong with the files of a step, one line each."""
    if skipped:
        yield from _absent(phase.evidence_of(step.stage))
        if not _may_skip(state, step, phase):
            yield "this stage may not be skipped here"
        return
    absent = list(_absent({name: getattr(phase, name) for name in STAGES[step.stage].evidence}))
    if absent:
        yield from absent
        return
    try:
        yield from CHECKS[step.stage](state, step, phase)
    except DeftError as error:
        yield str(error)


def _absent(files: Mapping[str, Path | None]) -> Iterator[str]:
    for name, path in files.items():
        if path is None:
            yield f"it names no {name}"
        elif not path.is_file():
            yield f"{name} {path} does not exist"


def _may_skip(state: DeftState, step: Step, phase: Phase) -> bool:
    """The legal skips: pre-seeded baseline, nothing routed, generator or mining switched off."""
    if step.stage == "train":
        seeded = phase.best_val_ckpt_path
        return (
            step.label == BASELINE and bool(phase.source and seeded) and not list(_train(state, step, phase))
        )
    if step.stage == "anomalygen":
        disabled = state.config.get("settings", {}).get("sdg_source") in DISABLED_SOURCES
        return disabled or _rows(_file(phase.routing_anomalygen_parquet)) == 0
    if step.stage == "data_mining":
        disabled = state.config.get("settings", {}).get("max_new_rows") == 0
        no_pool = state.config.get("mining_pool_csv") is None
        return disabled or no_pool or _rows(_file(phase.routing_mining_parquet)) == 0
    return False


def _train(state: DeftState, step: Step, phase: Phase) -> Iterator[str]:
    folder = state.results_dir / step.label / "train"
    checkpoints = [_file(phase.best_val_ckpt_path), phase.latest_ckpt_path or _file(phase.best_val_ckpt_path)]
    for path in checkpoints:
        if not path.is_file() or not path.is_relative_to(folder):
            yield f"checkpoint {path} does not lie in {folder}"
    status = folder / STATUS_FILE
    for reason in failures(status_lines(status)) if status.is_file() else []:
        yield f"{status} says FAILURE: {reason}"
    if phase.training_spec is None:
        return
    start = (read_spec(phase.training_spec).get("train") or {}).get("pretrained_model_path")
    if start and Path(start).is_file():
        for path in checkpoints:
            if path.is_file() and sha256_of(path) == sha256_of(Path(start)):
                yield f"checkpoint {path} is the one that training started from: no step was done"


def _evaluate(state: DeftState, step: Step, phase: Phase) -> Iterator[str]:
    contract = MetricContract.of(state.metric_contract)
    file = _file(phase.metric_result_file)
    try:
        measured = MetricResult.model_validate(read_json(file))
        passed = contract.passed(measured)
    except ValidationError as error:
        yield f"{file} is no metric result: {explained(error)}"
        return
    except DeftError as error:
        yield f"{file}: {error}"
        return
    if measured.model_dump(mode="json") != phase.metric_result:
        yield f"{file} measures {measured.value} {measured.unit}, the state says {phase.metric_result}"
    if phase.passed != passed:
        yield f"{file} passes: {passed}, the state says {phase.passed}"
    if contract.evaluator.type == "builtin" and phase.threshold is None:
        yield f"{file} has no threshold"
    offered = (phase.best_val_ckpt_path, phase.latest_ckpt_path)
    if step.stage == "evaluate" and phase.best_ckpt_path not in offered:
        yield f"checkpoint {phase.best_ckpt_path} is none that the training left"


def _rca(state: DeftState, step: Step, phase: Phase) -> Iterator[str]:
    if not _rows(_file(phase.rca_gaps_parquet)):
        yield f"{phase.rca_gaps_parquet} has no rows"
    if phase.rca_threshold is None or phase.rca_target_defects is None:
        yield f"{phase.rca_metrics} gives no threshold or no target defects"


def _routing(state: DeftState, step: Step, phase: Phase) -> Iterator[str]:
    counts = [
        (_file(phase.routing_mining_parquet), phase.routed_to_mining),
        (_file(phase.routing_anomalygen_parquet), phase.routed_to_generation),
    ]
    for file, claimed in counts:
        if _rows(file) != claimed:
            yield f"{file} has {_rows(file)} rows, not {claimed}"
    if not any(_rows(file) for file, _ in counts):
        yield f"{counts[0][0]} and {counts[1][0]} are both empty"


def _anomalygen(state: DeftState, step: Step, phase: Phase) -> Iterator[str]:
    placed = sum(counts_in(_file(phase.anomalygen_allocation_json)).values())
    made = _csv_rows(phase.anomalygen_sdg_csv)
    if not placed:
        yield f"{phase.anomalygen_allocation_json} allocates nothing"
    if placed != made:
        yield f"{phase.anomalygen_sdg_csv} has {made} rows, {phase.anomalygen_allocation_json} says {placed}"
    admitted = _csv_rows(phase.sdg_rows_csv)
    if admitted != phase.sdg_count:
        yield f"{phase.sdg_rows_csv} has {admitted} rows, not {phase.sdg_count}"


def _data_mining(state: DeftState, step: Step, phase: Phase) -> Iterator[str]:
    kept = _rows(_file(phase.mined_candidates_parquet))
    if kept != phase.mined_candidate_count:
        yield f"{phase.mined_candidates_parquet} has {kept} rows, not {phase.mined_candidate_count}"
    summary = read_json(_file(phase.mining_history_summary))
    mined = _rows(_file(phase.mined_parquet))
    if summary.get("selected_count") != mined:
        yield f"{phase.mining_history_summary} selects {summary.get('selected_count')}, not {mined}"
    origins = Counter(read_table(_file(phase.new_rows_csv), ("origin",))["origin"])
    wanted = {"sdg": phase.sdg_count or 0, "mined": phase.mined_count or 0}
    if any(origins[origin] != count for origin, count in wanted.items()):
        yield f"{phase.new_rows_csv} has {dict(origins)}, not {wanted}"
    if not any(wanted.values()):
        yield f"{phase.new_rows_csv} has no new row"


def _data_merge(state: DeftState, step: Step, phase: Phase) -> Iterator[str]:
    file = _file(phase.merge_validation_report)
    report = read_json(file)
    if report.get("status") != "ok":
        yield f"{file} has status {report.get('status')}"
    overlap = [name for name in report if name.endswith("_leakage_overlap_count")]
    for name in ("missing_file_count", *overlap):
        if report.get(name) != 0:
            yield f"{file} has {name} {report.get(name)}"
    rows = _csv_rows(phase.combined_training_csv)
    before = state.phase(previous_label(step.label)).combined_training_csv
    grown = rows > _csv_rows(before) if before else report.get("new_rows", 0) > 0
    if not grown or rows != report.get("rows_checked"):
        yield f"{phase.combined_training_csv} has {rows} rows; checked were {report.get('rows_checked')}"
    given = _csv_rows(phase.new_rows_csv)
    accounted = report.get("new_rows", 0) + report.get("dedup_dropped", 0)
    if accounted != given:
        yield f"{file} accounts for {accounted} of {given} new rows"
    if _csv_rows(phase.provenance_csv) != rows:
        yield f"{phase.provenance_csv} does not have the {rows} rows of {phase.combined_training_csv}"


def _loop_stop(state: DeftState, step: Step, phase: Phase) -> Iterator[str]:
    final = state.final_artifacts or {}
    for name in FINAL_ARTIFACTS:
        if not Path(final.get(name, "")).is_file():
            yield f"{name} {final.get(name)} does not exist"
    met = bool(phase.passed)
    if final.get("stop_reason") != ("metric_met" if met else "max_iterations"):
        yield f"stop_reason {final.get('stop_reason')} although the metric is {'met' if met else 'not met'}"
    if not met and step.iteration < state.max_iterations:
        yield f"iteration {step.iteration} is not the last of {state.max_iterations}"


CHECKS: dict[str, Callable[[DeftState, Step, Phase], Iterator[str]]] = {
    "train": _train,
    "evaluate": _evaluate,
    "rca": _rca,
    "routing": _routing,
    "anomalygen": _anomalygen,
    "data_mining": _data_mining,
    "data_merge": _data_merge,
    LOOP_STOP: _loop_stop,
    FINAL: _evaluate,
}


def _file(path: Path | None) -> Path:
    if path is None or not path.is_file():
        raise InputError(f"the file {path} does not exist")
    return path


def _rows(parquet: Path) -> int:
    try:
        return int(pq.read_metadata(parquet).num_rows)
    except pa.ArrowInvalid as error:
        raise InputError(f"{parquet} is not a parquet file: {' '.join(str(error).split())}") from error


def _csv_rows(path: Path | None) -> int:
    return len(read_table(_file(path), ()))
