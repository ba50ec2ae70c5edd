"""How many samples of which defect (spec deft-loop 7.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction

from tasks.dataset.table import PASS, normalised_label
from tasks.errors import InputError, listed
from tasks.routing.eligibility import compared


def chosen_defects(
    wanted: Sequence[str], weak: Sequence[str], others: Iterable[str], paintable: Callable[[str], bool]
) -> list[str]:
    """The labels to generate, normalised, each once.

    Args:
        wanted: as the spec lists them; empty = by default.
        weak: labels of the weak samples; their spelling counts.
        others: labels that the data set knows, used when the weak samples that can be helped are PASS.
        paintable: whether the generator can make a label.

    Raises:
        InputError: a wanted label cannot be painted, or there is no label to generate.
    """
    defects = _defects(weak)
    if wanted:
        spelled = {compared(label): label for label in reversed(defects)}
        named = _defects(spelled.get(compared(label), label) for label in wanted)
        unknown = [label for label in named if not paintable(label)]
        if unknown or not named:
            raise InputError(
                f"defects: the open generator cannot paint {listed(unknown) or 'PASS'}; remove it"
            )
        return named
    chosen = [label for label in defects if paintable(label)]
    if not chosen and any(normalised_label(label) == PASS for label in weak):
        chosen = [label for label in _defects(others) if paintable(label)]
    if not chosen:
        raise InputError(
            f"no defect to generate: the weak samples have the labels {listed(sorted(set(weak)))} and the "
            "data set names none that the open generator can paint; list some in defects"
        )
    return chosen


def _defects(labels: Iterable[str]) -> list[str]:
    normalised = (normalised_label(label) for label in labels)
    return [label for label in dict.fromkeys(normalised) if label != PASS]


def uniform(total: int, defects: Sequence[str]) -> dict[str, int]:
    """`total` spread evenly; the first `total` mod D defects get one more."""
    base, rest = divmod(total, len(defects))
    return {defect: base + (number < rest) for number, defect in enumerate(defects)}


def proportional(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """`total` spread in proportion to `shares` by largest remainder; of equal remainders the first.

    Raises:
        InputError: no share is above 0.
    """
    exact = {defect: Fraction(share) for defect, share in shares.items()}
    whole = sum(exact.values())
    if not whole:
        raise InputError(f"allocation: the shares of {listed(list(shares))} are all 0; give one above 0")
    ideal = {defect: total * share / whole for defect, share in exact.items()}
    counts = {defect: int(value) for defect, value in ideal.items()}
    by_remainder = sorted(ideal, key=lambda defect: counts[defect] - ideal[defect])
    for defect in by_remainder[: total - sum(counts.values())]:
        counts[defect] += 1
    return counts


def counted(defects: Sequence[str], weak: Iterable[str]) -> dict[str, int]:
    """How many weak samples each defect has."""
    counts = Counter(compared(label) for label in weak)
    return {defect: counts[compared(defect)] for defect in defects}


def matched(values: Mapping[str, float], defects: Sequence[str], what: str) -> dict[str, float]:
    """The values of the defects, 0 for one that is absent; spelling as in `compared`.

    Raises:
        InputError: a key is none of the defects, or two keys are one defect.
    """
    given = {compared(label): value for label, value in values.items()}
    known = {compared(defect) for defect in defects}
    unknown = [label for label in values if compared(label) not in known]
    if unknown:
        raise InputError(
            f"{what}: {listed(unknown)} is not among the defects to generate: {listed(list(defects))}"
        )
    if len(given) < len(values):
        raise InputError(f"{what}: {listed(list(values))} name one defect twice; keep one")
    return {defect: given.get(compared(defect), 0) for defect in defects}


def turns(request: Mapping[str, int]) -> list[str]:
    """The defect of every sample: in rounds, so that no defect has the best clean pictures for itself."""
    most = max(request.values(), default=0)
    return [defect for turn in range(most) for defect, count in request.items() if turn < count]
