"""What a finished assembly is about."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tasks.action import Headline
from tasks.artifacts import read_json
from tasks.dataset.assembly import PROVENANCE
from tasks.dataset.table import read_table
from tasks.reports.words import counted

ORIGINS = {"base": "the rows at the start", "sdg": "generated", "mined": "mined from the pool"}


def headline(merge_validation: Path, provenance_csv: Path) -> Headline:
    """How many rows there are to train on, and where they came from."""
    facts = read_json(merge_validation)
    rows = read_table(provenance_csv, PROVENANCE, "provenance")
    counts = Counter(zip(rows["origin_iter"], rows["origin"], strict=True))
    dropped = (
        f", {counted(facts['dedup_dropped'], 'repeated row')} left out" if facts["dedup_dropped"] else ""
    )
    return Headline(
        f"Iteration {facts['iteration']} trains on {counted(facts['rows_checked'], 'row')}: "
        f"{facts['previous_rows']:,} from before, {facts['new_rows']:,} new{dropped}. "
        "None shows an image of the validation or the KPI set.",
        ("Added in", "Origin", "Rows"),
        [
            (
                "the start" if iteration == "0" else f"iteration {iteration}",
                ORIGINS.get(origin, origin),
                count,
            )
            for (iteration, origin), count in counts.items()
        ],
    )
