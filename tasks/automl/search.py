"""The search: which values to try next, and what became of those that were tried.

Optuna's journal in the run folder is the truth. A trial enters it in one line, with its row, so that a
process that is killed leaves a trial whole or not at all. Each proposal is drawn from a copy of the study
in memory, with a seed of its own: a search that was killed proposes what an undisturbed one would have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from tasks.automl.algorithms import known, pruner_of, sampler_of, seed_of
from tasks.automl.space import Space

ROW = "row"
ATTEMPTS = 20
NEAR = 0.05
"""Distance, as a share of each dimension, up to which a point counts as next to another one."""
STRETCH = 9.0
"""A value that is as far from the best as the median one stands at log(1 + this), the best one at 0."""
STOPPED_AT = 0.75
"""Share of the whole trials that a stopped one counts as worse than."""
CONSTRAINT = "constraints:collapse"
"""Optuna's name for what makes a trial infeasible."""


@dataclass(frozen=True)
class Tried:
    """A trial in the journal: its number, its row as it was written last, and whether it was told."""

    number: int
    row: dict[str, Any]
    told: bool


class Search:
    """One study on disk. Whoever opens it holds the lock of its folder."""

    def __init__(
        self, journal: Path, name: str, space: Space, algorithm: str, budget: int, epochs: int, seed: int
    ) -> None:
        """Open the journal, or begin one.

        Args:
            journal: the file; made when absent.
            name: of the study; decides the brackets of hyperband.
            space: the dimensions.
            algorithm: a name of `tasks.automl.algorithms`.
            budget: how many trials there will be.
            epochs: of a whole trial.
            seed: of all proposals.

        Raises:
            InputError: no such algorithm.
        """
        known(algorithm)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        _mend(journal)
        self._space, self._algorithm, self._budget, self._seed = space, algorithm, budget, seed
        self._attempts: dict[int, tuple[int, dict[str, Any]]] = {}
        self._storage = JournalStorage(JournalFileBackend(str(journal)))
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=name,
            direction="minimize",
            pruner=pruner_of(algorithm, budget, epochs),
            load_if_exists=True,
        )

    def tried(self) -> list[Tried]:
        """Every trial of the journal, in order."""
        return [
            Tried(trial.number, dict(trial.user_attrs[ROW]), trial.state != TrialState.RUNNING)
            for trial in self._trials()
        ]

    def propose(self, number: int, avoid: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any] | None:
        """Values for the trial of that number; None when every point has been tried.

        Args:
            number: with the seed of the search it decides the draw.
            avoid: values that failed; a point next to two of them is drawn again.
        """
        study, base = self._copy(), self._space.base
        near = base if self._space.holds(base) else None
        seen = [trial.params for trial in self._trials()]
        failed = [self._space.unit(params) for params in avoid if self._space.holds(params)]
        proposal = None
        for attempt in range(ATTEMPTS):
            name = self._algorithm if attempt < ATTEMPTS // 2 else "random"
            study.sampler = sampler_of(name, self._budget, seed_of(self._seed, number, attempt), near)
            trial = study.ask(self._space.distributions)
            study.tell(trial, state=TrialState.FAIL)
            if trial.params in seen:
                continue
            proposal = proposal or dict(trial.params)
            point = self._space.unit(trial.params)
            if sum(_near(point, other) for other in failed) < 2:
                return dict(trial.params)
        return proposal

    def begin(self, params: Mapping[str, Any], row: Mapping[str, Any]) -> None:
        """Write a new trial with its row, in one line of the journal.

        Values outside the box (the base spec's may be) stay in the row and are not shown to the sampler.
        """
        inside = self._space.holds(params)
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=dict(params) if inside else {},
                distributions=self._space.distributions if inside else {},
                user_attrs={ROW: dict(row)},
            )
        )

    def write(self, number: int, row: Mapping[str, Any]) -> None:
        """Write the row of a trial anew."""
        self._storage.set_trial_user_attr(self._id_of(number), ROW, dict(row))

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Say what a trial has reached after a zero-based epoch; gives whether it should stop.

        The pruner looks at a copy in which the trial has what this attempt reached and noted so far: what
        an attempt before it left, one that was killed, would make it judge an epoch that is yet to come.
        """
        trial_id, step = self._id_of(number), epoch + 1
        self._storage.set_trial_intermediate_value(trial_id, step, value)
        last, rungs = self._attempts.get(number, (0, {}))
        rungs = rungs if last < step else {}
        study = optuna.create_study(study_name=self._study.study_name, direction="minimize")
        study.add_trials(
            _so_far(trial, step, rungs) if trial.number == number else trial for trial in self._trials()
        )
        stop = self._study.pruner.prune(study, study.trials[number])
        noted = study.trials[number].system_attrs
        for name in noted.keys() - rungs.keys():
            self._storage.set_trial_system_attr(trial_id, name, noted[name])
        self._attempts[number] = (step, noted)
        return bool(stop)

    def tell(
        self, number: int, value: float | None, *, collapsed: bool = False, pruned: bool = False
    ) -> None:
        """Say what a trial gave; without a value it failed."""
        self._storage.set_trial_system_attr(self._id_of(number), CONSTRAINT, 1.0 if collapsed else 0.0)
        if pruned:
            self._study.tell(number, state=TrialState.PRUNED)
        elif value is None:
            self._study.tell(number, state=TrialState.FAIL)
        else:
            self._study.tell(number, value)

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _id_of(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)

    def _copy(self) -> optuna.Study:
        """The study in memory, for the sampler to look at.

        The GP sees neither pruned nor failed trials, and would go there again; so a pruned one stands
        among those that ended badly, a failed or collapsed one with the worst that was seen.
        """
        study = optuna.create_study(study_name=self._study.study_name, direction="minimize")
        trials = [trial for trial in self._trials() if trial.params]
        ended = [trial for trial in trials if trial.state != TrialState.RUNNING]
        shown = iter(stretched(_reached(ended)))
        study.add_trials(
            trial
            if trial.state == TrialState.RUNNING
            else create_trial(value=next(shown), params=trial.params, distributions=trial.distributions)
            for trial in trials
        )
        return study


def stretched(values: Sequence[float | None]) -> list[float]:
    """Values to minimise on a scale that is finer the better they are; None stands with the worst.

    A training that diverges can be a hundred times worse than all others. On the scale as it is, the rest
    would then look alike to a model; here it is the logarithm of the distance to the best, in units of
    the median distance (of the mean one where half of them are as good as the best).
    """
    known = np.array([value for value in values if value is not None] or [0.0])
    filled = np.array([known.max() if value is None else value for value in values])
    distances = known - known.min()
    unit = np.median(distances) or distances.mean() or 1.0
    return [float(value) for value in np.log1p(STRETCH * (filled - known.min()) / unit)]


def _reached(trials: Sequence[FrozenTrial]) -> list[float | None]:
    """What each trial that has ended stands with; none for one that failed or collapsed.

    What a stopped trial had reached after a few epochs is no match for what others reached in the end, and
    would drive the search away from it. It was in their worst quarter, so it stands where that begins.
    """
    done = [trial.value for trial in trials if trial.value is not None and _whole(trial)]
    behind = float(np.quantile(done, STOPPED_AT)) if done else None
    reached: list[float | None] = []
    for trial in trials:
        if trial.state == TrialState.PRUNED and trial.last_step is not None:
            last = trial.intermediate_values[trial.last_step]
            reached.append(last if behind is None else min(last, behind))
        else:
            reached.append(trial.value if _whole(trial) else None)
    return reached


def _whole(trial: FrozenTrial) -> bool:
    """Whether a trial ran to its end and did not collapse."""
    return trial.state == TrialState.COMPLETE and not trial.system_attrs.get(CONSTRAINT, 0.0) > 0


def _so_far(trial: FrozenTrial, step: int, notes: Mapping[str, Any]) -> FrozenTrial:
    values = {at: value for at, value in trial.intermediate_values.items() if at <= step}
    return create_trial(state=trial.state, intermediate_values=values, system_attrs=dict(notes))


def _near(a: Mapping[str, float | str], b: Mapping[str, float | str]) -> bool:
    return all(
        abs(left - right) <= NEAR if isinstance(left, float) and isinstance(right, float) else left == right
        for left, right in ((a[name], b[name]) for name in a)
    )


def _mend(journal: Path) -> None:
    """Make a journal whole that a killed process left: its last line cut short, its lock held."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.with_name(journal.name + ".lock").unlink(missing_ok=True)
    if not journal.is_file():
        return
    content = journal.read_bytes()
    if content and not content.endswith(b"\n"):
        with journal.open("r+b") as stream:
            stream.truncate(content.rfind(b"\n") + 1)
