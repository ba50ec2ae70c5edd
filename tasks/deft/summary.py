"""`iterN_summary.md`: one iteration in at most 300 words (spec deft-loop 9.2)."""

from __future__ import annotations

from pathlib import Path

from tasks.artifacts import read_json, write_text
from tasks.deft.stages import LOOP_STOP, previous_label
from tasks.deft.state import DeftState, Phase
from tasks.errors import listed
from tasks.evaluation.contract import MetricContract, MetricResult

MOST_DEFECTS = 5


def write_summary(folder: Path, state: DeftState, label: str) -> Path:
    """Write `iterN_summary.md` into the run folder."""
    return write_text(folder / f"{label}_summary.md", iteration_summary(state, label))


def iteration_summary(state: DeftState, label: str) -> str:
    """What went into an iteration, what it changed, and what comes next; absent figures are `—`."""
    before, phase = state.phase(previous_label(label)), state.phase(label)
    contract = MetricContract.of(state.metric_contract)
    rows = [
        (
            "Worked on",
            f"{_defects(before)} (from {previous_label(label)}, threshold {_number(before.threshold)})",
        ),
        (
            "Routed",
            _routed(phase),
        ),
        ("Synthetic pairs", _synthetic(phase)),
        ("Mined samples", _mined(phase)),
        ("Training rows", f"{_number(before.training_rows)} → {_number(phase.training_rows)}"),
        (contract.display_name, f"{_metric(before)} → {_metric(phase)} (target {state.kpi_target})"),
        ("Threshold", f"{_number(before.threshold)} → {_number(phase.threshold)}"),
        ("Checkpoint", _checkpoint(state, phase)),
        ("Next", _next(state, label)),
    ]
    lines = [f"# Iteration {label.removeprefix('iter')} of {state.max_iterations}", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {_escaped(text)} |" for name, text in rows)]
    warnings = _warnings(state, label, phase, contract)
    lines += ["", "Warnings:" if warnings else "No warnings.", *(f"- {text}" for text in warnings)]
    return "\n".join(lines) + "\n"


def _defects(before: Phase) -> str:
    return listed(before.rca_target_defects or ["—"], MOST_DEFECTS)


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.4g}" if isinstance(value, float) else f"{value:,}"


def _routed(phase: Phase) -> str:
    to_mining, to_generation = _number(phase.routed_to_mining), _number(phase.routed_to_generation)
    return f"{to_mining} to mining, {to_generation} to generation"


def _synthetic(phase: Phase) -> str:
    if phase.anomalygen_skipped and phase.sdg_count is None:
        return "none (stage skipped)"
    asked, placed = _number(phase.anomalygen_amp_requested), _number(phase.anomalygen_amp_allocated)
    return f"{asked} asked for, {placed} placed, {_number(phase.sdg_count)} admitted"


def _mined(phase: Phase) -> str:
    if phase.data_mining_skipped:
        return "none (stage skipped)"
    found, kept = _number(phase.mined_raw_count), _number(phase.mined_candidate_count)
    return f"{found} neighbours, {kept} similar enough, {_number(phase.mined_count)} new samples"


def _metric(phase: Phase) -> str:
    if phase.metric_result is None:
        return "—"
    result = MetricResult.model_validate(phase.metric_result)
    return f"{result.value:.4g} {result.unit}"


def _checkpoint(state: DeftState, phase: Phase) -> str:
    path = phase.best_ckpt_path
    if path is None:
        return "—"
    shown = path.relative_to(state.results_dir) if path.is_relative_to(state.results_dir) else path
    return f"{shown} ({phase.best_ckpt_kind or '—'}, validation loss {_number(phase.val_loss)})"


def _next(state: DeftState, label: str) -> str:
    step = state.next_step()
    if step is None or step.stage == LOOP_STOP:
        reason = "the metric is met" if state.phase(label).passed else "no iteration is left"
        return f"the loop stops: {reason}"
    return f"{step.stage} of {step.label}"


def _warnings(state: DeftState, label: str, phase: Phase, contract: MetricContract) -> list[str]:
    warnings = list(phase.mining_warnings or [])
    asked, placed = phase.anomalygen_amp_requested or 0, phase.anomalygen_amp_allocated or 0
    if placed < asked:
        warnings.append(f"generation placed {placed} of {asked} defects")
    if phase.ingest_summary and (blocked := read_json(phase.ingest_summary)["guardrail_blocked"]):
        warnings.append(f"the guard-rail blocked {blocked} synthetic pairs")
    before = [state.phase(name).metric_result for name in state.measured() if name != label]
    if phase.metric_result and before:
        here = MetricResult.model_validate(phase.metric_result)
        earlier = contract.best([MetricResult.model_validate(result) for result in before])
        if contract.better(earlier, here):
            warnings.append(f"worse than the best before ({earlier.value:.4g} {earlier.unit})")
    restarts = len(state.restarts)
    if restarts:
        warnings.append(f"the run went back {restarts} times after an audit; see restarts in deft_state.json")
    return warnings


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
