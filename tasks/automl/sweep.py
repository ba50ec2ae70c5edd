"""The sweep: proposes trials, has them trained, and writes down what came of each before the next step.

A trial is in the journal before its training begins, and its outcome lies in its folder before the journal
is told. A sweep that was killed anywhere goes on: a trial with an outcome is told, one without is trained
again under its own number, and no trial is lost or trained twice to its end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import Any

from tasks.automl.attempts import Attempts, done_in
from tasks.automl.failures import RULES, shared_cause
from tasks.automl.llm import LlmProposer, ProposerFailed
from tasks.automl.plan import Plan
from tasks.automl.ranking import ranked
from tasks.automl.search import Search
from tasks.automl.table import line_of, remaining, write_tables
from tasks.automl.trial import Row, Source, SweepMetric
from tasks.errors import InputError, StageFailed
from tasks.keys import merged, nested, value_at
from tasks.spec import digest
from tasks.status import STOP_FILE

logger = logging.getLogger("deft.flow")

JOURNAL = "study.log"
SEED = "train.seed"

Submit = Callable[[Callable[[], Row]], "Future[Row]"]
"""Starts work on a thread of its own."""


class Sweep:
    """A sweep on disk; `run` brings it to its end, `rerun` repeats a trial with another seed."""

    def __init__(self, plan: Plan, submit: Submit) -> None:
        """Open the sweep and settle what an earlier process left. The caller holds the folder's lock."""
        self.plan, self._submit = plan, submit
        settings = plan.settings
        self._search = Search(
            plan.folder / JOURNAL,
            f"phase{plan.phase}",
            plan.space,
            settings.algorithm,
            settings.trials,
            plan.epochs,
            settings.seed,
        )
        self._attempts = Attempts(plan, self._search)
        self._proposer = LlmProposer(settings.llm, plan.space, plan.metric) if settings.llm else None
        self._settle()

    @property
    def rows(self) -> list[Row]:
        """Every trial, in order."""
        with self._attempts.lock:
            return [Row.model_validate(tried.row) for tried in self._search.tried()]

    def run(self) -> list[Row]:
        """Train until the budget is used up; gives every trial.

        Raises:
            DeftError: three trials in a row failed for one reason, or no trial gave an outcome.
        """
        running: dict[Future[Row], int] = {}
        try:
            while True:
                while len(running) < self.plan.settings.concurrency and (row := self._next(running.values())):
                    running[self._submit(partial(self._attempts.trained, row))] = row.number
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    del running[future]
                    self._finish(future.result())
        except BaseException:
            self._close(running)
            raise
        if not any(row.outcome for row in self.rows):
            reasons = [row.failure.message for row in self.rows if row.failure]
            raise StageFailed(
                f"{self.plan.folder}: no trial gave a model; {reasons[-1] if reasons else 'all were stopped'}"
            )
        return self.rows

    def rerun(self, of: Row, seed: int) -> Row:
        """The trial repeated with another training seed; taken from the journal where it was done already."""
        note = f"{of.rec_id} with another seed"
        # Not known by its spec: memory that runs out changes the batch in it.
        found = next((row for row in self.rows if row.note == note and row.seed == seed), None)
        if found and found.ended:
            return found
        row = found or self._begin(of.params, merged(of.specs, nested({SEED: seed})), "rerun", note)
        future = self._submit(partial(self._attempts.trained, row))
        try:
            self._finish(future.result())
        except BaseException:
            self._close({future: row.number})
            raise
        return self.rows[row.number]

    def _close(self, running: Mapping[Future[Row], int]) -> None:
        """Ask the trainings that still run to end: something has stopped the sweep."""
        self._attempts.closing.set()
        rows = self.rows
        for future, number in running.items():
            if not future.cancel():
                folder = self.plan.place(rows[number]) / "train"
                if folder.is_dir():
                    (folder / STOP_FILE).touch()

    def _next(self, running: Any) -> Row | None:
        """The trial to train now: one that waits, else a new one while there is budget."""
        rows, busy = self.rows, set(running)
        for row in rows:
            if not row.ended and row.number not in busy and row.source != "rerun":
                return row
        reason = self._enough(rows)
        if reason is None:
            return self._proposed(rows)
        if not busy:
            logger.info("sweep ends: %s", reason)
        return None

    def _enough(self, rows: Sequence[Row]) -> str | None:
        settings, metric = self.plan.settings, self.plan.metric
        counted = [row for row in rows if row.source != "rerun" and counts(row)]
        open_ = [row for row in rows if row.source != "rerun" and not row.ended]
        scores = [row.outcome.score for row in counted if row.state == "complete" and row.outcome]
        if len(counted) + len(open_) >= settings.trials:
            return f"{len(counted)} trials"
        failed = [row for row in rows if row.state == "failed"]
        if settings.max_failures is not None and len(failed) >= settings.max_failures:
            return f"{len(failed)} trials failed (max_failures)"
        if settings.max_hours is not None:
            hours = sum(row.seconds for row in rows) / 3600 / settings.concurrency
            if hours >= settings.max_hours:
                return f"{hours:.1f} hours of training (max_hours)"
        if settings.target is not None and any(
            metric.key(score) <= metric.key(settings.target) for score in scores
        ):
            return f"a trial reached {settings.target:g} (target)"
        if settings.patience is not None and _since_best(scores, metric) >= settings.patience:
            return f"{settings.patience} trials without a better one (patience)"
        return None

    def _proposed(self, rows: Sequence[Row]) -> Row | None:
        if not rows:
            return self._begin(self.plan.space.base, {}, "base")
        source: Source = "sampler"
        params = None
        if self._proposer is not None:
            try:
                params, source = self._proposer.propose(rows), "llm"
            except ProposerFailed as error:
                if self._proposer.settings.on_error == "stop":
                    raise
                logger.warning("proposer failed: %s; the sampler proposes instead", error)
                source = "fallback"
        if params is None:
            failed = [row.params for row in rows if row.state in ("failed", "collapsed")]
            params = self._search.propose(len(rows), failed)
        if params is None:
            logger.info("sweep ends: every point of the space has been tried")
            return None
        return self._begin(params, self.plan.space.specs_of(params), source)

    def _begin(self, params: dict[str, Any], specs: dict[str, Any], source: Source, note: str = "") -> Row:
        spec = merged(self.plan.base, specs)
        with self._attempts.lock:
            row = Row(
                number=len(self._search.tried()),
                phase=self.plan.phase,
                source=source,
                seed=int(value_at(spec, SEED) or 0),
                params=params,
                specs=specs,
                spec_sha256=digest(spec),
                note=note,
            )
            self._search.begin(params, row.model_dump(mode="json"))
        return row

    def _finish(self, row: Row) -> None:
        """Tell the journal what a trial gave, in this order: the row, then Optuna; then tidy up."""
        assert row.ended
        with self._attempts.lock:
            self._attempts.write(row)
            outcome = row.outcome
            self._search.tell(
                row.number,
                outcome.target if outcome else None,
                collapsed=row.state == "collapsed",
                pruned=row.state == "pruned",
            )
        logger.info("%s", line_of(row, self.plan.metric))
        rows = self.rows
        if row.number == 0 and row.state == "complete":
            logger.info("%s", remaining(row, self.plan.settings))
        self._tidy(rows)
        cause = shared_cause(rows)
        if cause:
            raise StageFailed(f"{self.plan.folder}: three trials in a row failed for one reason: {cause}")

    def _settle(self) -> None:
        """Bring journal and tables up to date with what lies on disk, after a process that was killed."""
        for tried in self._search.tried():
            row = Row.model_validate(tried.row)
            self._check_same(row)
            if tried.told:
                continue
            if not row.ended and (done := done_in(self.plan.place(row))):
                row = done
                logger.info("%s had ended when the sweep was interrupted; taken as it is", row.rec_id)
            if row.ended:
                self._finish(row)
            else:
                logger.info("%s was interrupted; it is trained again", row.rec_id)
        if rows := self.rows:
            self._tidy(rows)

    def _check_same(self, row: Row) -> None:
        plan = self.plan
        if row.params.keys() != plan.space.base.keys() or row.spec_sha256 != digest(plan.spec_of(row)):
            raise InputError(
                f"{plan.folder} is a sweep of another base spec or search space; give another results folder"
            )

    def _tidy(self, rows: Sequence[Row]) -> None:
        self._drop_weights(rows)
        write_tables(self.plan.folder, rows, self.plan.metric)

    def _drop_weights(self, rows: Sequence[Row]) -> None:
        """Remove the weights of all but the best trials; scores, curves and logs stay."""
        settings = self.plan.settings
        best = ranked(rows, self.plan.metric, settings.selection)[: settings.keep]
        kept = {row.number for row in best}
        kept |= {row.number for row in rows if row.source == "rerun"}
        for row in rows:
            if row.ended and row.number not in kept:
                for pattern in ("*.pth", "*.safetensors"):
                    for file in self.plan.place(row).rglob(pattern):
                        file.unlink()


def counts(row: Row) -> bool:
    """Whether a trial uses up budget: failures that are not its own fault do not."""
    return row.ended and not (row.failure and not RULES[row.failure.kind].counted)


def _since_best(scores: Sequence[float], metric: SweepMetric) -> int:
    if not scores:
        return 0
    keys = [metric.key(score) for score in scores]
    return len(keys) - 1 - keys.index(min(keys))
