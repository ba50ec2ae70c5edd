"""The defects that can be painted, by name, and the spellings of their labels."""

from __future__ import annotations

import re

DEFECTS = (
    *("missing", "bridge", "excess_solder"),  # on a component
    *("open", "short", "mousebite", "spur", "copper", "pin_hole"),  # on a bare board
)
ALIASES = {
    "missingcomponent": "missing",
    "missingpart": "missing",
    "solderbridge": "bridge",
    "bridging": "bridge",
    "opencircuit": "open",
    "shortcircuit": "short",
    "spuriouscopper": "copper",
}
"""Other names of a defect, letters and digits only."""


def _letters(label: str) -> str:
    return re.sub(r"[^a-z0-9]", "", label.lower())


def painter_of(label: str) -> str | None:
    """The name in `DEFECTS` of a label in any spelling; None when nothing here paints it."""
    names = {_letters(name): name for name in DEFECTS} | ALIASES
    return names.get(_letters(label))
