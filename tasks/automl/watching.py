"""Watching a training from outside: what it reaches after each epoch, and asking it to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.automl.trial import Report, Stopped
from tasks.errors import StageFailed
from tasks.status import STATUS_FILE, STOP_FILE, status_lines

EVERY_SECONDS = 0.2


@contextmanager
def watched(folder: Path, metric: str, report: Report) -> Iterator[None]:
    """Report each validated epoch of a training whose `status.json` lies in `folder`, while it runs.

    When a report answers that it should stop, the file `stop` asks the training to; one that does not know
    the file trains on to its end, and is then taken as stopped where it should have been.

    Raises:
        Stopped: the training was asked to stop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    watch = _Watch(folder, metric, report)
    thread = threading.Thread(target=watch.run, daemon=True)
    thread.start()
    try:
        yield
    except StageFailed:
        if not watch.stopped:
            raise
    finally:
        watch.over.set()
        thread.join()
        watch.look()
    if watch.stopped:
        raise Stopped(f"{folder}: stopped because it was clearly behind")


class _Watch:
    def __init__(self, folder: Path, metric: str, report: Report) -> None:
        self.over = threading.Event()
        self.stopped = False
        self._folder, self._metric, self._report = folder, metric, report
        self._seen: set[int] = set()

    def run(self) -> None:
        while not self.over.wait(EVERY_SECONDS):
            self.look()

    def look(self) -> None:
        """Report the epochs that are new; after the one that stops it nothing counts."""
        file = self._folder / STATUS_FILE
        for line in status_lines(file) if file.is_file() else []:
            kpi = line.get("kpi") or {}
            epoch, value = kpi.get("epoch"), kpi.get(self._metric)
            if epoch is None or value is None or int(epoch) in self._seen or self.stopped:
                continue
            self._seen.add(int(epoch))
            if self._report(int(epoch), float(value)):
                self.stopped = True
                (self._folder / STOP_FILE).touch()
