"""What a finished routing is about."""

from __future__ import annotations

from pathlib import Path

from tasks.action import Headline
from tasks.artifacts import read_json
from tasks.reports.words import counted


def headline(routing_json: Path) -> Headline:
    """How many weak samples go where, label by label."""
    facts = read_json(routing_json)
    lost = facts["dropped"]
    dropped = f"; {counted(lost, 'sample')} can go nowhere" if lost else ""
    return Headline(
        f"Of {counted(facts['total'], 'weak sample')} {facts['to_mining']:,} go to mining and "
        f"{facts['to_generation']:,} to generation, {facts['to_both']:,} of them to both{dropped}.",
        ("Label", "Weak samples", "To mining", "To generation"),
        [(one["label"], one["count"], one["mining"], one["generation"]) for one in facts["labels"]],
    )
