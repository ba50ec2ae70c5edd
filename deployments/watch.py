"""Waiting for a run: its states, the lines that it logs, and when it waits for a person."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from deployments.api_models import LogRecord, Run
from deployments.connection import ServerAway
from tasks.errors import DeftError

if TYPE_CHECKING:
    from deployments.api import DeftClient

LATE_RECORDS = timedelta(seconds=60)
"""Several processes send records in batches: one can come this much later than a newer one of another."""
SETTLE_SECONDS = 3.0
"""A process sends records every two seconds, the last ones after its run has ended."""
LONGEST_SETTLING_SECONDS = 20.0


class WaitedTooLong(DeftError):
    """A run had not ended when the time to wait for it was over; it goes on."""

    exit_status = 124


class Watch:
    """One wait for the end of a run.

    Args:
        client: of the server that has the run.
        run_id: the run.
        say: told each line.
        with_logs: also tell what the run and those that it started log.
        timeout: seconds after which to wait no longer.
        poll: seconds between two looks.
    """

    def __init__(
        self,
        client: DeftClient,
        run_id: str,
        say: Callable[[str], None],
        *,
        with_logs: bool,
        timeout: float | None,
        poll: float,
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._told_to = say
        self._with_logs = with_logs
        self._timeout = math.inf if timeout is None else timeout
        self._poll = poll
        self._told: dict[str, str | None] = {}
        self._seen: dict[str, datetime] = {}

    def to_the_end(self) -> Run:
        """Wait, tell, and give the run as it ended.

        Raises:
            WaitedTooLong: the time was over before.
        """
        deadline = time.monotonic() + self._timeout
        run = None
        while run is None or not run.ended:
            if run is not None:
                self._pause(run, deadline)
            try:
                run = self._look(deadline)
            except ServerAway as error:
                if run is None or time.monotonic() < deadline:
                    raise
                raise WaitedTooLong(f"run {run.name} was {run.state} when last heard of; {error}") from error
        return run

    def _pause(self, run: Run, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            text = f"run {run.name} is still {run.state} after {self._timeout:g} s"
            raise WaitedTooLong(f"{text}; it goes on: 'deft cancel {run.name}' ends it")
        time.sleep(min(self._poll, left))

    def _look(self, deadline: float) -> Run:
        runs = self._client.tree(self._run_id, until=deadline)
        ids = [run.id for run in runs]
        if self._with_logs:
            self._tell_logs(ids, deadline)
            if runs[0].ended:
                self._tell_last_logs(ids)
        for run in runs:
            told = self._told.get(run.id) == run.state_id
            if not told and (run is runs[0] or run.kind == "PAUSED"):
                self._told[run.id] = run.state_id
                self._say(f"run {run.name} {self._situation(run)}")
        return runs[0]

    def _situation(self, run: Run) -> str:
        if run.kind == "PAUSED":
            page = f"the Resume button at {self._client.link(run.id)}"
            until = f" until {run.until.astimezone():%Y-%m-%d %H:%M}" if run.until else ""
            how = f"deft approve {run.name}, or {page}" if run.form else page
            return f"is {run.state}: it waits for a person{until}: {how}"
        if run.state == "Late":
            pool = f" of work pool {run.pool}" if run.pool else ""
            return f"is Late: nobody has taken it yet; see that a worker{pool} runs"
        return f"is {run.state}" + (f": {run.message}" if run.message else "")

    def _say(self, text: str) -> None:
        """Tell a line without control characters, so that nothing that was logged steers the terminal."""
        self._told_to("".join(letter for letter in text if letter.isprintable() or letter in "\n\t"))

    def _tell_logs(self, ids: list[str], until: float) -> int:
        """Tell the records that are new, and give how many these are."""
        newest = max(self._seen.values(), default=None)
        after = newest and newest - LATE_RECORDS
        records = self._client.logs(ids, after, until=until)
        fresh = [record for record in records if record.id not in self._seen]
        for record in fresh:
            self._say(_line(record))
            self._seen[record.id] = record.timestamp
        return len(fresh)

    def _tell_last_logs(self, ids: list[str]) -> None:
        now = time.monotonic()
        limit, quiet = now + LONGEST_SETTLING_SECONDS, now + SETTLE_SECONDS
        while now < min(quiet, limit):
            time.sleep(0.5)
            now = time.monotonic()
            if self._tell_logs(ids, math.inf):
                quiet = now + SETTLE_SECONDS


def _line(record: LogRecord) -> str:
    level = f"{logging.getLevelName(record.level)} " if record.level >= logging.WARNING else ""
    return f"{record.timestamp.astimezone():%H:%M:%S}  {level}{record.message}"
