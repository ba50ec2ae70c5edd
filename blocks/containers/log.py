"""What a container says, on its way to a file and to the log of the run."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from blocks.containers import secrets

logger = logging.getLogger("deft")
progress = logging.getLogger("deft.progress")

LINE_END = re.compile(rb"\r?\n|\r(?=[^\n])")
EPOCH = re.compile(r"epoch \d+", re.IGNORECASE)


class Log:
    """The log of one attempt: each line goes, without secrets, to the file and to the run's log.

    A line that ends in a carriage return (a progress bar) goes to the file only.
    """

    def __init__(self, file: Path, hidden: Iterable[str] = ()) -> None:
        self.file = file
        self._hidden = tuple(hidden)
        self._rest = b""

    def __enter__(self) -> Log:
        self._stream: TextIO = self.file.open("w", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        if self._rest:
            self.take(b"\n")
        self._stream.close()

    def take(self, chunk: bytes) -> None:
        """Take what the container has said."""
        self._rest += chunk
        done = 0
        for end in LINE_END.finditer(self._rest):
            line = self._shown(self._rest[done : end.start()])
            done = end.end()
            self._stream.write(line + "\n")
            if line.strip() and end[0] != b"\r":
                forward(line)
        self._rest = self._rest[done:]
        self._stream.flush()

    def _shown(self, line: bytes) -> str:
        text = line.decode("utf-8", "replace")
        for value in self._hidden:
            text = text.replace(value, "***")
        return secrets.mask(text)


def forward(line: str) -> None:
    """Say a line of a container in the log of the run, at its own level."""
    if line.startswith("ERROR: "):
        logger.error("%s", line)
    elif line.startswith("WARNING: "):
        logger.warning("%s", line)
    else:
        (progress if EPOCH.match(line) else logger).info("%s", line)
