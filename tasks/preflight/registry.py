"""The register of checks. A check looks, says what it found, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from tasks.preflight.subject import PHASES_OF, Mode, Outcome, Phase, Profile

if TYPE_CHECKING:
    from tasks.preflight.look import Look

SECTIONS = {
    1: "Workspace, host, platform, network",
    2: "Credentials",
    3: "Container images",
    4: "Dataset",
    5: "Phase 1: sweep on base data",
    6: "Phase 2: DEFT loop",
    7: "Phase 3: sweep on combined data",
    8: "Compute estimate",
    9: "Confirmation",
}
ITEM_VALUE = ("Item", "Value")
EVERY_PROFILE: tuple[Profile, ...] = ("aoi_changenet", "image_classifier")


class Answer(BaseModel):
    """What a check says: an outcome, one line for a person, and rows of a table.

    `block` is for what a person must mend first, `failed` is set for a check that could not look.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    outcome: Outcome
    text: str
    columns: tuple[str, ...] = ITEM_VALUE
    rows: tuple[tuple[str, ...], ...] = ()


class Finding(Answer):
    """The answer of a check, by its id and section."""

    id: str
    section: int


@dataclass(frozen=True)
class Check:
    """An entry of the register; the same id may stand once for each profile."""

    id: str
    section: int
    phase: Phase | None
    profiles: tuple[Profile, ...]
    run: Callable[[Look], Answer]


CHECKS: list[Check] = []
"""In the order of registration; the modules of checks add to it when they are imported."""


def check(
    check_id: str, section: int, phase: Phase | None = None, profiles: tuple[Profile, ...] = EVERY_PROFILE
) -> Callable[[Callable[[Look], Answer]], Callable[[Look], Answer]]:
    """Register a check; `phase` ties it to the modes that have this phase.

    Raises:
        ValueError: the id is taken for one of the profiles.
    """

    def register(run: Callable[[Look], Answer]) -> Callable[[Look], Answer]:
        taken = [one for one in CHECKS if one.id == check_id and set(one.profiles) & set(profiles)]
        if taken:
            raise ValueError(f"two checks are called {check_id}")
        CHECKS.append(Check(check_id, section, phase, profiles, run))
        return run

    return register


def checks_for(mode: Mode, profile: Profile) -> list[Check]:
    """The registered checks of a mode and a profile, in the order of their sections."""
    chosen = [
        one
        for one in CHECKS
        if profile in one.profiles and (one.phase is None or one.phase in PHASES_OF[mode])
    ]
    return sorted(chosen, key=lambda one: one.section)


def answer(
    outcome: Outcome,
    text: str,
    rows: Iterable[Sequence[object]] = (),
    columns: tuple[str, ...] = ITEM_VALUE,
) -> Answer:
    """An answer whose cells may be any values; each row has one for each column."""
    cells = tuple(tuple(str(cell) for cell in row) for row in rows)
    assert all(len(row) == len(columns) for row in cells)
    return Answer(outcome=outcome, text=text, columns=columns, rows=cells)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The gravest of some outcomes; `ok` when there are none."""
    order: list[Outcome] = ["ok", "warn", "block", "failed"]
    return max((one for one in outcomes if one in order), key=order.index, default="ok")
