"""Training one trial to its end: again where its failure says so, and with its outcome on disk at the end."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from threading import Event, RLock

from pydantic import ValidationError

from tasks.artifacts import now, read_json, write_json
from tasks.automl.failures import RULES, classify, halved
from tasks.automl.plan import Plan
from tasks.automl.search import Search
from tasks.automl.trial import Failure, Row, State, Stopped
from tasks.errors import DeftError
from tasks.keys import merged, nested, value_at
from tasks.spec import digest

logger = logging.getLogger("deft.flow")

OUTCOME = "outcome.json"
BATCH = ("dataset.classify.batch_size", "dataset.batch_size")


class Attempts:
    """Trains trials, each in a thread of its own; what they say goes into the journal.

    Attributes:
        lock: held while the journal is read or written.
        closing: set when the sweep has to end: trainings stop, and none is tried again.
    """

    def __init__(self, plan: Plan, search: Search) -> None:
        self.plan, self.search = plan, search
        self.lock, self.closing = RLock(), Event()

    def trained(self, row: Row) -> Row:
        """Train a trial to its end, again where the failure says so; its outcome lies on disk then."""
        row.state, row.started_at = "running", row.started_at or now()
        retried = 0
        while not row.ended and not self.closing.is_set():
            row.attempts += 1
            row.curve = {}
            self.write(row)
            try:
                self._train_once(row)
            except Stopped:
                row.state, row.pruned_at, row.failure = "pruned", max(row.curve, default=0), None
            except (DeftError, OSError, RuntimeError, MemoryError) as error:
                row.failure = classify(error)
                retried += 1
                if not self._may_retry(row, row.failure, retried):
                    row.state = "failed"
        return row

    def _train_once(self, row: Row) -> None:
        spec, folder = self.plan.spec_of(row), self.plan.place(row)
        self.plan.check(spec)

        def report(epoch: int, value: float) -> bool:
            row.curve[epoch] = value
            with self.lock:
                behind = self.search.report(row.number, epoch, self.plan.metric.key(value))
            last = self.plan.epochs - 1
            # Trial 0 is what all are held against, and a rerun answers a question of its own.
            may_stop = self.plan.settings.prune and row.source not in ("base", "rerun")
            return self.closing.is_set() or (behind and epoch < last and may_stop)

        shutil.rmtree(folder, ignore_errors=True)
        began = time.monotonic()
        try:
            outcome = self.plan.trainer(spec, folder, report)
        finally:
            row.seconds += time.monotonic() - began
        state: State = "collapsed" if outcome.collapse else "complete"
        done = row.model_copy(update={"outcome": outcome, "failure": None, "state": state})
        write_json(folder / OUTCOME, done.model_dump(mode="json"))
        row.outcome, row.failure, row.state = outcome, None, state

    def _may_retry(self, row: Row, failure: Failure, retried: int) -> bool:
        rule = RULES[failure.kind]
        if self.closing.is_set() or retried > len(rule.waits):
            return False
        if rule.halves_batch and not self._halve_batch(row):
            return False
        wait_for = rule.waits[retried - 1]
        logger.warning("%s: %s; trying again in %.0f s", row.rec_id, failure.message, wait_for)
        return not self.closing.wait(wait_for)

    def _halve_batch(self, row: Row) -> bool:
        spec = self.plan.spec_of(row)
        for key in BATCH:
            smaller = halved(spec, key)
            if smaller is not None:
                row.specs = merged(row.specs, nested({key: value_at(smaller, key)}))
                row.adjustments.append(
                    f"{key} {value_at(spec, key)} -> {value_at(smaller, key)}: out of memory"
                )
                row.spec_sha256 = digest(smaller)
                return True
        return False

    def write(self, row: Row) -> None:
        """Write the row of a trial into the journal."""
        with self.lock:
            self.search.write(row.number, row.model_dump(mode="json"))


def done_in(folder: Path) -> Row | None:
    """The row of a trial that had ended; none where it is absent or its checkpoint is gone."""
    file = folder / OUTCOME
    if not file.is_file():
        return None
    try:
        row = Row.model_validate(read_json(file))
    except (DeftError, ValidationError):
        return None
    return row if row.outcome and row.outcome.checkpoint.is_file() else None
