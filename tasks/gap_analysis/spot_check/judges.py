"""What a judge of the spot check says of one sample, and the words that it may use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

MEANINGS = {
    "mislabeled": "the picture contradicts its label",
    "edge case": "really ambiguous, on the border",
    "data quality": "corrupt, dark, a wrong crop or framing",
    "systematic": "plainly of its label; the model learned a wrong cue",
}
"""The four verdicts, and what each says of a picture."""

VERDICTS = tuple(MEANINGS)

OF_EACH = 5
"""Samples looked at of the PASS rows, and as many of all others."""

PENDING = "pending review"
"""Stands where a person has not looked yet."""

Row = Mapping[Any, Any]
"""One of the samples looked at, with `label`, `first_filepath`, `weakness` and what else it has."""


class Verdict(NamedTuple):
    """What was said of a sample, who said it, and why in a few words where that is known."""

    verdict: str | None
    origin: str
    reason: str | None = None


Judge = Callable[[Row], Verdict]

NOBODY = Verdict(None, "none")
LATER = Verdict(PENDING, "manual")
