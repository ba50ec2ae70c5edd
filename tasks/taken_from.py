"""The line in the log of a stage whose result an earlier run had: written and read here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tasks.artifacts import log_text

_LINE = re.compile(r"^unchanged inputs: taken from (.+), computed by (.+)$", re.MULTILINE)


class TakenFrom(NamedTuple):
    """The folder of an earlier equal result, and the flow run that computed it."""

    folder: Path
    computed_by: str

    def __str__(self) -> str:
        """The line."""
        return f"unchanged inputs: taken from {self.folder}, computed by {self.computed_by}"


def taken_from(log: Path) -> TakenFrom | None:
    """What the log of a stage says; None where it was computed here, or has left no log."""
    found = _LINE.search(log_text(log))
    return TakenFrom(Path(found[1]), found[2]) if found else None
