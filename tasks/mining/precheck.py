"""Early and late warnings of mining: labels that the pool lacks, and a yield that breaks down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

WORTH_A_WARNING = 0.5


def precheck(target_labels: Sequence[str], pool_labels: Sequence[str] | None) -> list[str]:
    """One warning for every target label that no pool row has; it never stops a run.

    Without pool labels there is nothing to compare, which is a warning as well.
    """
    if pool_labels is None:
        return ["the pool has no labels: whether it holds the weak labels is not checkable"]
    in_pool = {_compared(label) for label in pool_labels}
    counts = Counter(_compared(label) for label in target_labels)
    return [
        f"no pool row is labelled {label}, which {count} weak samples are; add such images to the pool"
        for label, count in counts.most_common()
        if label not in in_pool
    ]


def yield_warning(kept: int, mined_before: int) -> str | None:
    """A warning when fewer than half as many images were kept as in the iteration before."""
    if kept >= WORTH_A_WARNING * mined_before:
        return None
    drop = 100 * (1 - kept / mined_before)
    return (
        f"mining kept {kept} images after {mined_before} in the iteration before, {drop:.0f} % fewer; "
        "raise topn, enlarge the pool, or lower min_similarity"
    )


def _compared(label: str) -> str:
    return label.strip().upper()
