"""Which labels can be mined, and which can be generated."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class LabelRoute:
    """Where the weak samples of a label go."""

    label: str
    count: int
    mining: bool
    generation: bool

    def facts(self) -> dict[str, object]:
        """The route as plain values, with the words of the report."""
        ways = [way for way, goes in (("mining", self.mining), ("anomalygen", self.generation)) if goes]
        both_or_none = " + ".join(ways) or "neither (DROPPED)"
        return {**asdict(self), "routed_to": f"{ways[0]} only" if len(ways) == 1 else both_or_none}


@dataclass(frozen=True)
class Routing:
    """One decision per weak sample and way, and one line per label, the most frequent first."""

    to_mining: list[bool]
    to_generation: list[bool]
    labels: list[LabelRoute]
    has_pool: bool


def compared(label: str) -> str:
    """The spelling under which labels are compared: stripped, upper case, `_` for blanks and hyphens."""
    return re.sub(r"[\s-]+", "_", label.strip().upper())


def route(labels: Sequence[str], pool_labels: Sequence[str] | None, supported: Sequence[str]) -> Routing:
    """Decide for every weak sample, by its label, both ways independently.

    Args:
        labels: the labels of the weak samples.
        pool_labels: the labels of the pool's rows, None without a pool.
        supported: the labels that the generator can make.
    """
    in_pool = {compared(label) for label in pool_labels or ()}
    generated = {compared(label) for label in supported}
    keys = [compared(label) for label in labels]
    return Routing(
        to_mining=[key in in_pool for key in keys],
        to_generation=[key in generated for key in keys],
        labels=[
            LabelRoute(label, count, label in in_pool, label in generated)
            for label, count in sorted(Counter(keys).items(), key=lambda item: (-item[1], item[0]))
        ],
        has_pool=pool_labels is not None,
    )


def routing_text(routing: Routing, mining_path: str, generation_path: str) -> str:
    """`routing_summary.txt`."""
    lines = [
        "Routing summary",
        f"Total weak samples: {len(routing.to_mining)}",
        f"Mining subset: {sum(routing.to_mining)} -> {mining_path}",
        f"AnomalyGen subset: {sum(routing.to_generation)} -> {generation_path}",
    ]
    if not routing.has_pool:
        lines.append("No source pool: mining=no for every label")
    lines.append("Per label:")
    lines += [
        f"  {item.label}: {item.count}  mining={_yes(item.mining)}  anomalygen={_yes(item.generation)}"
        for item in routing.labels
    ]
    return "\n".join(lines) + "\n"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
