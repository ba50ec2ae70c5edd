"""What is checked of a routing and of its report."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.reports.checks import (
    Finding,
    Section,
    file_findings,
    log_findings,
    section_findings,
    word_findings,
)
from tasks.reports.markdown import cell, sections, table_rows
from tasks.routing.report.facts import STAGE, RoutingFacts

WORDS = (400, 800)
LABELS = "Per-Label Routing Decisions"
SECTIONS = (
    Section(heading="Verdict", keywords=("total", "mining", "generation", "both", "dropped"), rows=5),
    Section(heading="Inputs", keywords=("pool", "gaps"), rows=3),
    Section(heading=LABELS),
    Section(heading="Module-Level Summaries", keywords=("4.1", "4.2", "next step"), rows=8),
    Section(heading="Dropped Labels", keywords=("label", "suggested fix")),
    Section(heading="Recommended Actions", keywords=("mining", "generation")),
)
FILES = ("mining_gaps.parquet", "anomalygen_gaps.parquet", "routing_summary.txt")


def findings(facts: RoutingFacts, report: str) -> list[Finding]:
    """All that is amiss with the report or with what it reports on."""
    return [
        *file_findings(facts.folder, FILES),
        *(Finding(level="error", check="counts", text=text) for text in _sums(facts)),
        *section_findings(report, _expected(facts)),
        *(Finding(level="warn", check="labels", text=text) for text in _told(facts, report)),
        *word_findings(report, *WORDS),
        *log_findings([facts.folder / f"{STAGE}.log"]),
    ]


def _expected(facts: RoutingFacts) -> Iterator[Section]:
    for section in SECTIONS:
        rows = len(facts.split.labels) if section.heading == LABELS else section.rows
        yield section.model_copy(
            update={"rows": rows, "words": 25 if rows or section.heading != LABELS else 0}
        )


def _sums(facts: RoutingFacts) -> Iterator[str]:
    """Counts that contradict each other."""
    split = facts.split
    sums = {
        "total": (split.total, sum(one.count for one in split.labels)),
        "to mining": (split.to_mining, sum(one.count for one in split.labels if one.mining)),
        "to generation": (split.to_generation, sum(one.count for one in split.labels if one.generation)),
        "to both": (split.to_both, sum(one.count for one in split.labels if one.mining and one.generation)),
        "dropped": (split.dropped, sum(one.count for one in split.labels if one.dropped)),
        "used and dropped": (
            split.total, split.to_mining + split.to_generation - split.to_both + split.dropped
        ),
        "mining_gaps.parquet": (split.to_mining, facts.mining_rows),
        "anomalygen_gaps.parquet": (split.to_generation, facts.generation_rows),
    }  # fmt: skip
    for what, (one, other) in sums.items():
        if other is not None and one != other:
            yield f"{what}: {one} in routing.json, but the parts make {other}"


def _told(facts: RoutingFacts, report: str) -> Iterator[str]:
    """Labels and counts that the report leaves out."""
    found = sections(report)
    rows = {tuple(row[:2]) for row in table_rows(found.get(LABELS, ""))}
    for one in facts.split.labels:
        if (cell(one.label), cell(one.count)) not in rows:
            yield f"{LABELS} does not tell {one.label!r} with its count {one.count}"
    if f"{facts.split.total:,}" not in found.get("Verdict", ""):
        yield f"Verdict does not tell the total {facts.split.total}"
    if "| Label | Count | Why | Suggested fix |" not in found.get("Dropped Labels", ""):
        yield "Dropped Labels has no table"
