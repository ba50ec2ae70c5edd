"""Which trial wins: the ranking, and the doubt about a winner that is too good (spec automl 8.3, pipeline 4).

One configuration scores differently from seed to seed, by a factor of two or three. So a configuration far
ahead of the others is trained again with other seeds, and from then on stands with the median of its runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from pathlib import Path
from statistics import median_high
from typing import Literal

from pydantic import BaseModel, Field, FiniteFloat

from tasks.automl.algorithms import seed_of
from tasks.automl.failures import RULES
from tasks.automl.ranking import CANDIDATES, Selection, decided_by, figure, ranked, refusal
from tasks.automl.trial import Outcome, Row, SweepMetric
from tasks.errors import DeftError, listed
from tasks.spec import SpecModel

Rerun = Callable[[Row, int], Row]
"""Trains the configuration of a row again with another seed and gives the row of that run."""

MOST_DOUBTED = 2
"""How many configurations are trained again at most."""
LARGE_GAP = 0.25
LARGE_SPREAD = 3.0


class Policy(SpecModel):
    """How a winner is chosen.

    Attributes:
        selection: `far_direct` ranks by the metric of the sweep; `val_loss_guarded` by the validation loss,
            without models that predict one class; `topk_by_far` takes the `top_k` of the lowest validation
            loss and ranks those by FAR.
        top_k: of `topk_by_far`.
        suspicious_gap: so many times better than the second is suspicious.
        reruns: how often a suspicious configuration is trained again; 0 believes it.
    """

    selection: Selection = "far_direct"
    top_k: int = Field(3, ge=1)
    suspicious_gap: float = Field(2.0, gt=1)
    reruns: int = Field(2, ge=0)


class Candidate(BaseModel):
    """A trial as the quality check saw it; one without a rank could not win."""

    rank: int | None
    rec_id: str
    score: FiniteFloat | None
    predicted: dict[str, int]
    collapsed: bool
    refused: str


class RerunResult(BaseModel):
    """A further run of a configuration; without a score it gave no model."""

    rec_id: str
    run_id: str
    seed: int
    score: FiniteFloat | None
    reason: str


class QualityCheck(BaseModel):
    """What stands in `quality_check.json`.

    Attributes:
        metric: what decided; not the sweep's own where the selection says otherwise.
        candidates: the best trials in order, then those that were measured and could not win.
        chosen_rec: the configuration that won.
        chosen_run: the run of it whose checkpoint is taken: the trial itself, or a rerun.
        score: of the configuration: the median where it was trained again.
        outcome: of the chosen run, with its checkpoint.
        decision: whether the best of the ranking won, or one behind it.
        reruns: further runs, in order.
        zero_shot: the figure of the model without training, if there is one.
        gain: whether the winner is strictly better than that; None if there is none.
        reasons: what was found and done, for people.
    """

    metric: SweepMetric
    candidates: list[Candidate]
    chosen_rec: str
    chosen_run: str
    score: FiniteFloat
    outcome: Outcome
    decision: Literal["best", "fallback"]
    reruns: list[RerunResult]
    zero_shot: FiniteFloat | None
    gain: bool | None
    reasons: list[str]

    @property
    def checkpoint(self) -> Path:
        """The checkpoint of the chosen run."""
        return self.outcome.checkpoint


class NoWinner(DeftError):
    """No trial can be handed on; the message says of each why not."""


def suspicious(scores: Sequence[float], metric: SweepMetric, step: float = 0.0, gap: float = 2.0) -> str:
    """Why the first score is too good to be believed; empty if it is not.

    Too good is one that is `gap` times better than the second; or, with three trials or more, better by
    more than two steps and a quarter of the second. Where one of the two is not above 0 there is no ratio:
    then the distance is held against three times the spread of ranks 2 to 5, or three steps.

    Args:
        scores: best first.
        metric: whose scores they are.
        step: the smallest difference that the metric can show; 0 where it moves freely.
        gap: the ratio.
    """
    if len(scores) < 2:
        return ""
    best, second, *others = scores
    ahead = metric.key(second) - metric.key(best)
    if ahead <= 0:
        return ""
    text = f"{metric.name} {best:.6g} against {second:.6g} of the second"
    if min(best, second) > 0:
        if max(best, second) >= gap * min(best, second):
            return f"{text} is better by a factor of {gap:g} or more"
    else:
        spread = max(scores[1:5]) - min(scores[1:5])
        if ahead > LARGE_SPREAD * max(spread, step):
            return f"{text} is ahead by more than {LARGE_SPREAD:g} times the spread behind it"
    if others and ahead > max(2 * step, LARGE_GAP * abs(second)):
        return f"{text} is ahead by more than two steps and {LARGE_GAP:.0%} of the second"
    return ""


def gain_over(zero_shot: float | None, winner: float, metric: SweepMetric) -> bool | None:
    """Whether the winner is strictly better than the model without training; None if that is not known."""
    return None if zero_shot is None else metric.better(winner, zero_shot)


def choose(
    rows: Sequence[Row],
    metric: SweepMetric,
    rerun: Rerun,
    policy: Policy,
    *,
    step: float = 0.0,
    zero_shot: float | None = None,
) -> QualityCheck:
    """Choose the winner of a sweep.

    The best of the first three whose checkpoint is there wins, unless it is suspicious: then it is trained
    again, stands with the median of its runs (the worse of the middle two where they are even; a run that
    gave no model is worse than any, one that failed for reasons outside does not count), and the ranking
    is made anew. On a tie the configuration that was trained again stays ahead: its figure is the surer one.
    At most two configurations are trained again.

    Args:
        rows: of the sweep.
        metric: of the sweep.
        rerun: trains a configuration again; the seeds are the same whenever the choice is made again.
        policy: how to choose.
        step: the smallest difference of the metric that decides, see `suspicious`.
        zero_shot: that metric of the model without training.

    Raises:
        NoWinner: none of the first three gave a model that is there.
        InputError: as `ranked`.
    """
    doubt = _Doubt(metric, decided_by(metric, policy.selection), policy, step)
    order = ranked(rows, metric, policy.selection, policy.top_k)
    configs = [_Config(rank, row, [doubt.key(row)], [row]) for rank, row in enumerate(order, 1)]
    candidates = [config for config in configs[:CANDIDATES] if _is_there(config.row)]
    listing = _listing(rows, configs, doubt)
    doubt.reasons += [f"{one.rec_id}: {one.refused}" for one in listing if one.rank and one.refused]
    best = doubt.settled(configs, candidates, rerun)
    if best is None:
        table = [f"{one.rec_id}: {one.refused or 'gave no model when trained again'}" for one in listing]
        raise NoWinner(f"no trial gave a model to hand on; {listed(table) or 'none was run'}")
    score, run = best.score(doubt.decider), best.typical_run()
    assert run.outcome is not None
    gain = gain_over(zero_shot, score, doubt.decider)
    if gain is False:
        doubt.reasons.append(f"{score:.6g} is no better than {zero_shot:.6g} before the sweep")
    return QualityCheck(
        metric=doubt.decider,
        candidates=[one for one in listing if one.rank or one.score is not None],
        chosen_rec=best.row.rec_id,
        chosen_run=run.rec_id,
        score=score,
        outcome=run.outcome,
        decision="best" if best.rank == 1 else "fallback",
        reruns=doubt.reruns,
        zero_shot=zero_shot,
        gain=gain,
        reasons=doubt.reasons,
    )


@dataclass
class _Config:
    """A configuration with its runs, the sweep's own first, and a key for each: inf without a model."""

    rank: int
    row: Row
    keys: list[float]
    runs: list[Row]
    doubted: bool = False

    def key(self) -> float:
        return median_high(self.keys)

    def score(self, decider: SweepMetric) -> float:
        return decider.key(self.key())  # the key of a key is the value

    def typical_run(self) -> Row:
        """The run nearest to the median whose checkpoint is there; the sweep's own always is."""
        there = [
            index for index, run in enumerate(self.runs) if _is_there(run) and isfinite(self.keys[index])
        ]
        return self.runs[min(there, key=lambda index: abs(self.keys[index] - self.key()))]


@dataclass
class _Doubt:
    """The search for a winner that is believed, and what is written down on the way."""

    metric: SweepMetric
    decider: SweepMetric
    policy: Policy
    step: float
    reruns: list[RerunResult] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def key(self, row: Row) -> float:
        value = figure(row, self.metric, self.decider.name)
        return inf if value is None or refusal(row, self.decider) else self.decider.key(value)

    def settled(self, configs: list[_Config], candidates: list[_Config], rerun: Rerun) -> _Config | None:
        """The best candidate once nothing about it is suspicious, or nothing more may be trained."""
        while True:
            usable = [config for config in candidates if isfinite(config.key())]
            if not usable:
                return None
            best = min(usable, key=lambda config: (config.key(), not config.doubted, config.rank))
            reason = "" if best.doubted else self._suspicion(best, configs)
            if not reason:
                return best
            self.reasons.append(f"{best.row.rec_id}: {reason}")
            if not self.policy.reruns or sum(config.doubted for config in configs) == MOST_DOUBTED:
                self.reasons.append(f"{best.row.rec_id} is taken as it is: nothing more is trained again")
                return best
            self._train_again(best, rerun)

    def _suspicion(self, best: _Config, configs: list[_Config]) -> str:
        behind = sorted(config.key() for config in configs if config is not best)
        scores = [self.decider.key(key) for key in (best.key(), *filter(isfinite, behind))]
        return suspicious(scores, self.decider, self.step, self.policy.suspicious_gap)

    def _train_again(self, config: _Config, rerun: Rerun) -> None:
        rec = config.row.rec_id
        config.doubted = True
        for number in range(1, self.policy.reruns + 1):
            seed = seed_of(config.row.seed, rec, "rerun", number)
            run = rerun(config.row, seed)
            counts = run.failure is None or RULES[run.failure.kind].counted
            if counts:
                config.keys.append(self.key(run))
                config.runs.append(run)
            why = refusal(run, self.decider) + ("" if counts else "; does not count")
            score = None if why else figure(run, self.metric, self.decider.name)
            self.reruns.append(RerunResult(rec_id=rec, run_id=run.rec_id, seed=seed, score=score, reason=why))
        found = f"{config.score(self.decider):.6g}" if isfinite(config.key()) else "no model"
        self.reasons.append(f"{rec} was trained {len(config.runs)} times, median: {found}")


def _is_there(row: Row) -> bool:
    checkpoint = row.outcome.checkpoint if row.outcome else None
    return checkpoint is not None and checkpoint.is_file() and checkpoint.stat().st_size > 0


def _listing(rows: Sequence[Row], configs: Sequence[_Config], doubt: _Doubt) -> list[Candidate]:
    """The first of the ranking, then all trials that are not in it."""
    in_ranking = {config.row.number for config in configs}
    outside = [row for row in rows if row.source != "rerun" and row.number not in in_ranking]
    return [
        *(_candidate(config.rank, config.row, doubt) for config in configs[:CANDIDATES]),
        *(_candidate(None, row, doubt) for row in outside),
    ]


def _candidate(rank: int | None, row: Row, doubt: _Doubt) -> Candidate:
    if rank is None:
        otherwise = f"not among the first {doubt.policy.top_k} by validation loss"
    else:
        otherwise = "" if _is_there(row) else "its checkpoint is missing or empty"
    return Candidate(
        rank=rank,
        rec_id=row.rec_id,
        score=figure(row, doubt.metric, doubt.decider.name),
        predicted=row.outcome.predicted if row.outcome else {},
        collapsed=bool(row.outcome and row.outcome.collapse),
        refused=refusal(row, doubt.decider) or otherwise,
    )
