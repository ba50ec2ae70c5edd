"""Sections 5 and 7: the two sweeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tasks.errors import InputError
from tasks.preflight.look import Look
from tasks.preflight.registry import Answer, answer, check
from tasks.preflight.sets import KPI, VALIDATION, content_digest
from tasks.preflight.subject import SweepPhase

SPACE_COLUMNS = ("Parameter", "Role", "Range or value", "Scale", "Reason")


def _phase(look: Look, name: str) -> SweepPhase:
    phase = getattr(look.subject, name)
    assert isinstance(phase, SweepPhase)
    return phase


@check("phase1.config", 5, "phase1")
def config_of_first(look: Look) -> Answer:
    """What the first sweep is asked to do."""
    return answer("ok", "sweep on the base data", _rows(_phase(look, "phase1")))


@check("phase3.config", 7, "phase3")
def config_of_last(look: Look) -> Answer:
    """What the last sweep is asked to do."""
    return answer("ok", "sweep on the combined data", _rows(_phase(look, "phase3")))


def _rows(phase: SweepPhase) -> Iterator[tuple[str, object]]:
    yield "algorithm", phase.algorithm
    yield "trials", phase.trials
    yield "at the same time", phase.concurrency
    yield "metric", f"{phase.metric}, {phase.direction}"
    if phase.selection:
        yield "selection", phase.selection
    yield "training set", phase.training_set
    yield "validation set", phase.validation_set
    yield "warm start", phase.warm_start or "none"
    yield "spec of trial 0", phase.spec_source
    yield "results", phase.results_dir
    yield "seed", "not given" if phase.seed is None else phase.seed
    yield from phase.more.items()


@check("phase1.space", 5, "phase1")
def space_of_first(look: Look) -> Answer:
    """What is searched, pinned, and left out for lack of effect."""
    return _space(_phase(look, "phase1"))


@check("phase3.space", 7, "phase3")
def space_of_last(look: Look) -> Answer:
    """What is searched, pinned, and left out for lack of effect."""
    found = _space(_phase(look, "phase3"))
    shapes = [row.parameter for row in _phase(look, "phase3").space if row.role == "searched"]
    shapes = [name for name in shapes if name.startswith("model.")]
    if shapes and found.outcome == "ok":
        text = f"searched with a warm start, whose weights may then not load: {', '.join(shapes)}; pin them"
        return found.model_copy(update={"outcome": "warn", "text": text})
    return found


def _space(phase: SweepPhase) -> Answer:
    rows = [(row.parameter, row.role, row.range, row.scale, row.reason) for row in phase.space]
    if not any(row.role == "searched" for row in phase.space):
        return answer("block", "no hyper-parameter is searched; add one with an effect", rows, SPACE_COLUMNS)
    return answer("ok", "search space", rows, SPACE_COLUMNS)


@check("phase1.validation", 5, "phase1")
def validation_is_not_kpi(look: Look) -> Answer:
    """The sweep is ranked on the validation set, which is not the KPI set by path nor by content."""
    return _ranked_on(look, _phase(look, "phase1"))


def _ranked_on(look: Look, phase: SweepPhase) -> Answer:
    given, kpi = phase.validation_set, look.sets.files[KPI]
    try:
        if _same(given, kpi):
            return answer("block", f"{given} is the KPI set; a sweep must never see it")
    except InputError as error:
        return answer("block", str(error))
    if not _same(given, look.sets.files[VALIDATION]):
        return answer("warn", f"{given} is not the validation set that was checked for leakage")
    return answer(
        "ok", "ranked on the validation set, never on the KPI set", [("KPI set", "not touched by sweeps")]
    )


@check("phase3.consistency", 7, "phase3")
def same_as_first(look: Look) -> Answer:
    """Metric, direction and validation set are those of the first sweep, else scores do not compare."""
    last, first = _phase(look, "phase3"), look.subject.phase1
    ranked = _ranked_on(look, last)
    if ranked.outcome == "block":
        return ranked
    validation = first.validation_set if first else look.sets.files[VALIDATION]
    problems = []
    if first and (last.metric, last.direction) != (first.metric, first.direction):
        problems.append(
            f"metric {last.metric}, {last.direction}; phase 1 has {first.metric}, {first.direction}"
        )
    if not _same(last.validation_set, validation):
        problems.append(f"validation set {last.validation_set} is not {validation}")
    if problems:
        return answer("block", f"phase 3 differs from phase 1: {'; '.join(problems)}")
    return answer("ok", "metric and validation set as in phase 1")


def _same(one: Path, other: Path) -> bool:
    """Whether two sets are one, by path or by content; raises `InputError` where one is not there."""
    return one.resolve() == other.resolve() or content_digest(one) == content_digest(other)


@check("phase3.warm_start", 7, "phase3")
def warm_start(look: Look) -> Answer:
    """Every trial starts from the loop's best model; a cold start has too few epochs to catch up."""
    start = _phase(look, "phase3").warm_start
    if not start:
        return answer(
            "block", "phase 3 without a warm start regresses; start its trials from the loop's best model"
        )
    return answer("ok", f"mandatory, and set: {start}")
