"""Sections 8 and 9: what it may cost, and what is approved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from tasks.preflight.look import Look
from tasks.preflight.registry import Answer, answer, check
from tasks.preflight.sets import TRAINING
from tasks.preflight.subject import PHASE_NAMES, Subject

COLUMNS = ("Part", "Formula", "Minutes")
NO_GAIN = "no_gain"
"""The parameter of the pipeline that says what happens when phase 1 gained nothing."""


@dataclass(frozen=True)
class Part:
    """A term of the estimate.

    Attributes:
        jobs: trainings one after another, if every trial and iteration runs whole; None where there are none.
    """

    name: str
    formula: str
    jobs: int | None


def parts_of(subject: Subject) -> Iterator[Part]:
    """The terms of the cost model (spec pipeline 8) for the phases that are on.

    Trainings at the same time divide the trials of a sweep, rounded up.
    """
    first, loop, last = subject.phase1, subject.loop, subject.phase3
    if first:
        rounds = ceil(first.trials / first.concurrency)
        yield Part("phase 1", f"{_trials(first.trials, first.concurrency)} × t_rec1 + quality", rounds)
    if loop:
        iterations = int(loop.settings.get("max_iterations") or 1)
        if not first:
            yield Part("baseline", "t_train at most (0 with a given checkpoint)", None)
        yield Part("phase 2", "t_eval0", None)
        yield Part("phase 2, training", f"{iterations} × t_train", iterations)
        yield Part("phase 2, data", f"{iterations} × (t_rca + t_sdg + t_mine)", None)
    if last:
        rounds = ceil(last.trials / last.concurrency)
        formula = f"{_trials(last.trials, last.concurrency)} × t_rec1 × rows_combined / rows_base"
        yield Part("phase 3", formula, rounds)


def _trials(trials: int, concurrency: int) -> str:
    return str(trials) if concurrency == 1 else f"{trials} / {concurrency}"


@check("estimate.cost", 8)
def cost(look: Look) -> Answer:
    """The cost model with minutes where a training's time is known, else in symbols; nothing is invented."""
    minutes = look.subject.per_job_minutes
    parts = [*parts_of(look.subject)]
    rows: list[tuple[object, ...]] = [(one.name, one.formula, _minutes(one.jobs, minutes)) for one in parts]
    jobs = sum(one.jobs or 0 for one in parts)
    rows.append(("total", " + ".join(one.formula for one in parts), _minutes(jobs, minutes)))
    rows.append(("rows_base", len(look.sets.labels(TRAINING)), ""))
    if minutes is None:
        text = "the time of one training is not known: give per_job_minutes to have minutes here"
        return answer("ok", text, rows, COLUMNS)
    text = (
        f"t_rec1 = t_train = {minutes:g} min as given; terms without a known time and the growth of the "
        "training set come on top, trials and iterations that end early cost less"
    )
    return answer("ok", text, rows, COLUMNS)


def _minutes(jobs: int | None, minutes: float | None) -> str:
    return f"about {jobs * minutes:g}" if jobs and minutes else "not known"


@check("confirmation", 9)
def confirmation(look: Look) -> Answer:
    """What the one approval means, and the pauses that it leaves (spec pipeline 2.4)."""
    subject = look.subject
    if not subject.phases:
        return answer("block", f"no phase of mode {subject.mode} is on; there is nothing to approve")
    named = ", ".join(PHASE_NAMES[phase] for phase in subject.phases)
    rows = [("approved", f"{named}, with the parameters and data that are listed at the end")]
    rows += _gates(subject)
    rows.append(("second confirmation", "none: every inner flow takes this approval"))
    return answer("ok", f"approve {named}; afterwards no pause until a hard stop or the end", rows)


def _gates(subject: Subject) -> Iterator[tuple[str, str]]:
    gate = subject.loop and subject.loop.settings.get("regression_gate")
    if gate:
        stops = gate.get("action") == "stop" and gate.get("enabled", True)
        yield _kind(stops, "only a warning"), "loop: an iteration is worse than the best before it"
    if subject.starts_images:
        yield _kind(True), "a CPU or GPU that an image turns out not to support after its pull"
    if subject.phase1:
        stops = subject.parameters.get(NO_GAIN, "pause") in ("pause", "stop")
        yield (
            _kind(stops, "only a warning"),
            "quality check of phase 1: no gain over a model without training",
        )
    yield _kind(True), "any stage without its evidence: missing file, leakage, FAILURE in its status"


def _kind(stops: bool, otherwise: str = "") -> str:
    return "hard stop" if stops else otherwise
