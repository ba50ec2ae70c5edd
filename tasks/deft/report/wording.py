"""What the figures of a loop mean, in words: its status, its insights, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tasks.deft.report.files import LoopFiles, Scored
from tasks.deft.stages import BASELINE
from tasks.errors import listed
from tasks.evaluation.contract import Bound, MetricResult

SYNTHETIC_WARNING = 0.5
FEW = 10
"""Fewer samples of a defect type than this say little of how it is found."""
MANY_LABELS = 5
THIN = 0.05
"""A gap of scores smaller than this share of their range is thin."""


@dataclass(frozen=True)
class Status:
    """Where the loop stands, as its badge says it, and a sentence that explains it.

    Attributes:
        banner: whether it is shouted at the top: the metric is met, or the run had to stop.
    """

    text: str
    kind: Literal["met", "stop", "plain"]
    sentence: str
    banner: bool = False


def status(files: LoopFiles) -> Status:
    """`MET`, `HARD STOP`, `IN PROGRESS`, or how far from the target it ended."""
    best, state = files.best, files.state
    if state.status == "failed":
        last = state.events[-1] if state.events else None
        where = f"{last.iter}, stage {last.stage}: {last.summary}" if last else "no stage was committed"
        return Status("HARD STOP", "stop", f"The run stopped at {where}", banner=True)
    if best and state.phase(best).passed:
        value = f"{files.contract.display_name} {measure(files.measured[best])}"
        return Status("MET", "met", f"{best} reaches {value}; the target is {state.kpi_target}.", banner=True)
    reached = f"{files.contract.display_name} {measure(files.measured[best])}" if best else None
    if state.status == "complete" and best:
        sentence = (
            f"The loop has done its {state.max_iterations} iterations. The best model is that of {best} "
            f"with {reached}; the target is {state.kpi_target}."
        )
        return Status(gap(files, best), "plain", sentence)
    step = state.next_step()
    upcoming = f"Next: {step.stage} of {step.label}." if step else ""
    so_far = (
        f"Best so far: {best} with {files.contract.display_name} {measure(files.measured[best])}. "
        if best
        else ""
    )
    return Status("IN PROGRESS", "plain", f"{so_far}{upcoming}")


def measure(result: MetricResult) -> str:
    """The primary metric with its unit."""
    return f"{result.value:.4g} {result.unit}".rstrip()


def gap(files: LoopFiles, label: str) -> str:
    """How far a phase is from the target, positive where it is on the wrong side of it."""
    contract, result = files.contract, files.measured[label]
    missed = [bound for bound in contract.constraints if not bound.holds(result.constraints[bound.name])]
    if missed and contract.holds(result.value):
        bound = missed[0]
        distance = _distance(bound, result.constraints[bound.name])
        return f"{distance} from target of {bound.display_name}"
    return f"{_distance(contract, result.value)} from target"


def _distance(bound: Bound, value: float) -> str:
    size = value - bound.target if bound.operator in ("<", "<=") else bound.target - value
    return f"{size:.4g}{'pp' if bound.unit == '%' else bound.unit}"


def direction(files: LoopFiles) -> str:
    """Which way is better."""
    better = "lower" if files.contract.operator in ("<", "<=") else "higher"
    return f"{better.capitalize()} is better."


def evaluator(files: LoopFiles) -> str:
    """Who measures the metric."""
    who = files.contract.evaluator
    if who.type == "builtin":
        return f"built in ({who.id}): the share of good samples that would be called defects"
    if who.type == "command":
        return f"the program {who.executable}"
    return f"the producer {who.producer}, awaited at {who.path}"


def recommendations(files: LoopFiles) -> list[str]:
    """What to do next, by rules over what was measured; each says what it rests on."""
    advice = [*_of_state(files)]
    if files.best:
        advice += [*_of_target(files), *_of_metric(files, files.best), *_of_data(files)]
    return advice or ["Nothing stands out; go on."]


def _of_state(files: LoopFiles) -> list[str]:
    state, best = files.state, files.best
    if state.status == "failed" and state.events:
        last = state.events[-1]
        return [
            f"Repair what stopped {last.stage} of {last.iter}, then start the same command again: it goes on "
            "with that stage."
        ]
    if best is None:
        return ["Nothing is measured yet; recommendations come after the first evaluation."]
    if state.phase(best).passed:
        threshold = state.phase(best).threshold
        at = f" with threshold {threshold:.4g}" if threshold is not None else ""
        return [f"Ship the model of {best}{at}: best_model_inference_spec.yaml in the run folder runs it."]
    return []


def _of_target(files: LoopFiles) -> list[str]:
    contract = files.contract
    lowest = contract.operator == "<" and contract.target <= 0
    highest = contract.operator == ">" and contract.target >= 100
    if contract.unit == "%" and (lowest or highest):
        return [
            f"No model can reach {contract.display_name} {contract.operator} {contract.target:g} %: a share "
            "has no such value. Choose a target that can be reached."
        ]
    return []


def _of_metric(files: LoopFiles, best: str) -> list[str]:
    advice, result, scored = [], files.measured[best], files.scored(best)
    second = result.diagnostics.get("far_pct_at_2nd_lowest_defect")
    if files.contract.name == "far_pct" and isinstance(second, float | int) and result.value - second >= 1:
        advice.append(
            f"One defect decides the metric: without the lowest-scoring one FAR of {best} would be "
            f"{second:.4g} % and not {result.value:.4g} %. Look at it below (weakest samples): is its label "
            "right, is the defect visible?"
        )
    if scored and (text := _thin(scored, best)):
        advice.append(text)
    ends = interval(result)
    if files.contract.name == "far_pct" and ends and ends[0] <= files.contract.target <= ends[1]:
        passes = int(scored.is_pass.sum()) if scored else None
        of = f" of {passes:,} PASS samples" if passes else ""
        advice.append(
            f"The measurement{of} does not tell {result.value:.4g} % from the target: the 95 % interval goes "
            f"from {ends[0]:.3g} to {ends[1]:.3g} %. More PASS samples in the KPI set make it narrower."
        )
    loop = [label for label in files.training_phases if label in files.measured]
    if len(loop) > 1 and best == BASELINE:
        advice.append(
            "No iteration is better than the baseline: what was added did not help. Look at the mined "
            "samples and the synthetic pairs before more is added."
        )
    elif len(loop) > 2 and loop[-1] != best and best in loop:
        advice.append(f"{loop[-1]} is not the best: {best} is, and is what was kept. Small sets vary.")
    return advice


def _thin(scored: Scored, best: str) -> str | None:
    """Whether good samples and defects lie close together although no error is made."""
    if scored.is_pass.all() or not scored.is_pass.any():
        return None
    top, bottom = float(scored.scores[scored.is_pass].max()), float(scored.scores[~scored.is_pass].min())
    whole = float(scored.scores.max() - scored.scores.min())
    if not 0 < bottom - top < THIN * whole:
        return None
    return (
        f"{best} makes no error on this set, but by little: the highest PASS sample scores {top:.4g}, the "
        f"lowest defect {bottom:.4g}. Expect some errors in production, and watch these two samples."
    )


def _of_data(files: LoopFiles) -> list[str]:
    advice = []
    for label in files.iterations:
        origins, phase = files.origins(label) or {}, files.state.phase(label)
        total = sum(origins.values())
        if total and origins.get("sdg", 0) / total > SYNTHETIC_WARNING:
            advice.append(
                f"More than half of the training rows of {label} are synthetic: mine or label more real ones."
            )
        advice += [f"{label}: {text}" for text in phase.mining_warnings or []]
        asked, placed = phase.anomalygen_amp_requested, phase.anomalygen_amp_allocated
        if asked is not None and placed is not None and placed < asked:
            advice.append(
                f"{label}: generation placed {placed} of {asked} defects; give it more clean pictures "
                "or larger free regions."
            )
    labels = [label for label in files.kpi_labels or () if label != "PASS"]
    rare = sorted({label for label in labels if labels.count(label) < FEW}) if len(set(labels)) < 200 else []
    if rare:
        advice.append(
            f"Fewer than {FEW} KPI samples of {listed(rare, most=MANY_LABELS)}: what is said of them is "
            "uncertain; collect more."
        )
    if files.state.config.get("mining_pool_csv") is None:
        advice.append("There is no pool of production samples to mine; with one the loop adds real samples.")
    return advice


def interval(result: MetricResult) -> tuple[float, float] | None:
    """The 95 % interval of FAR in per cent, where the evaluator gives one."""
    found = result.diagnostics.get("far_wilson_95_pct")
    if not (isinstance(found, list) and len(found) == 2):
        return None
    low, high = found
    if isinstance(low, float | int) and isinstance(high, float | int):
        return float(low), float(high)
    return None
