"""The search algorithms by name, as samplers and pruners of Optuna (spec automl 5).

Optuna's TPE and GP both begin with ten random trials, which would make a sweep of five to ten trials a
random search; here they begin with a third of the budget, four at most, the base spec included. The GP's
are drawn around the base spec, which a person has thought about, rather than anywhere in a wide box.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, PercentilePruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from tasks.errors import InputError

REDUCTION = 3
"""One in so many trials goes on from a rung to the next."""
PRUNED_AFTER, KEPT = 4, 75.0
"""Whole trials before one is stopped, and the percentile of them that it must not be behind at half time.

FAR at full recall jumps from epoch to epoch: on DeepPCB a stop at the median after a quarter of the epochs
ended all of the last four trials of eight, among them some whose neighbours were among the best.
"""
SPREAD = 0.2
"""Standard deviation of the first trials around the base spec, as a share of each dimension."""


@dataclass(frozen=True)
class Algorithm:
    """How an algorithm proposes, and how it stops trials early."""

    sampler: str
    pruner: str


ALGORITHMS = {
    "bayesian": Algorithm("gp", "percentile"),
    "bfbo": Algorithm("gp", "percentile"),
    "random": Algorithm("random", "none"),
    "hyperband": Algorithm("random", "hyperband"),
    "asha": Algorithm("tpe", "halving"),
    "bohb": Algorithm("tpe", "hyperband"),
    "llm": Algorithm("gp", "percentile"),
}
"""`bfbo` is `bayesian` by another name; `llm` proposes itself, and what stands here is its fallback."""

NEAREST = {"pbt": "asha", "dehb": "bohb", "hyperband_es": "hyperband", "hybrid": "llm", "autoresearch": "llm"}
"""Algorithms of NVIDIA's package that are not here, each with the one that comes nearest."""


def known(name: str) -> Algorithm:
    """The algorithm of that name.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    if name in NEAREST:
        raise InputError(f"algorithm {name} is not offered; the nearest choice is {NEAREST[name]}")
    if name not in ALGORITHMS:
        raise InputError(f"unknown algorithm {name!r}; choose one of: {', '.join(ALGORITHMS)}")
    return ALGORITHMS[name]


def startup_trials(budget: int) -> int:
    """How many trials are drawn at random before the model proposes, the base spec included."""
    return max(2, min(4, budget // 3))


def sampler_of(name: str, budget: int, seed: int, base: Mapping[str, Any] | None = None) -> BaseSampler:
    """The sampler that proposes one trial.

    Args:
        name: of the algorithm.
        budget: how many trials there will be.
        seed: of this proposal.
        base: the base spec's value of each dimension, where they lie in the box.

    Raises:
        InputError: no such algorithm.
    """
    kind, first = known(name).sampler, startup_trials(budget)
    if kind == "random":
        return RandomSampler(seed=seed)
    if kind == "tpe":
        return TPESampler(seed=seed, n_startup_trials=first)
    return GPSampler(
        seed=seed,
        n_startup_trials=first,
        deterministic_objective=False,
        independent_sampler=AroundBase(base, seed) if base else None,
    )


class AroundBase(BaseSampler):
    """Draws each value from a normal distribution around the base spec's, cut off at the ends of the box.

    A choice stays as it is in every second trial.
    """

    def __init__(self, base: Mapping[str, Any], seed: int) -> None:
        self._base, self._random = base, np.random.default_rng(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: each dimension is drawn for itself."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing: each dimension is drawn for itself."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A value near the base spec's."""
        base, box = self._base[param_name], param_distribution
        if isinstance(box, CategoricalDistribution):
            stays = self._random.random() < 0.5
            return base if stays else box.choices[self._random.integers(len(box.choices))]
        assert isinstance(box, FloatDistribution | IntDistribution)
        low, centre, high = (math.log(end) if box.log else end for end in (box.low, base, box.high))
        drawn = self._random.normal(centre, SPREAD * (high - low))
        value = min(max(math.exp(drawn) if box.log else drawn, box.low), box.high)
        return round(value) if isinstance(box, IntDistribution) else value


def pruner_of(name: str, budget: int, epochs: int) -> BasePruner:
    """The pruner for trials of so many epochs; raises `InputError` as `known` does."""
    kind = known(name).pruner
    if kind == "none" or epochs < 3:
        return NopPruner()
    if kind == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=REDUCTION)
    if kind == "halving":
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION)
    # Steps are counted from 1, and Optuna may stop a trial at the step that is named here.
    return PercentilePruner(KEPT, n_startup_trials=PRUNED_AFTER, n_warmup_steps=max(3, epochs // 2))


def seed_of(*parts: object) -> int:
    """A seed that is the same in every process, unlike Python's own hash."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
