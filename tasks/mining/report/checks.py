"""What is checked of a mining's output and of its report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from tasks.mining.report.facts import SEARCH, SIDES, MiningFacts, has_vectors
from tasks.reports.checks import (
    Finding,
    Section,
    file_findings,
    log_findings,
    section_findings,
    word_findings,
)

WORDS = (600, 1200)
FIRST = 5
SECTIONS = (
    Section(heading="Verdict", keywords=("targets in", "pool in", "mined out", "mined.parquet"), rows=7),
    Section(heading="Inputs", keywords=("target parquet", "pool"), rows=5),
    Section(heading="Encoder Consistency", keywords=("match:", "model path", "dimension"), rows=8),
    Section(heading="Mining Run", keywords=("tmm nearest_neighbors", "duplicates", "no-op:"), rows=8),
    Section(heading="Per-Label Breakdown", keywords=("label",), words=30),
    Section(heading="Output Sanity", keywords=("schema", "duplicate"), rows=5),
    Section(heading="Recommended Actions", keywords=("concatenate",), words=30),
)


@dataclass(frozen=True)
class Check:
    """One check of the output: what, what was found, and whether it is good."""

    what: str
    found: str
    good: bool


def sanity(facts: MiningFacts) -> list[Check]:
    """Whether later steps can use the mined images."""
    if facts.mined is None:
        return [Check("Schema", f"{facts.mined_parquet} is missing", False)]
    names = pq.read_schema(facts.mined_parquet).names
    first = facts.mined[:FIRST]
    existing = sum(Path(path).is_file() for path in first)
    checks = [
        Check("Schema", f"columns {', '.join(names)}", names[0] == "filepath"),
        Check("First paths exist", f"{existing} of the first {len(first)}", existing == len(first)),
        *(_paths(facts.mined, what, fault) for what, fault in PATH_FAULTS.items()),
        _number("Duplicates", len(facts.mined) - len(set(facts.mined))),
        _number("Mined images that are not in the pool", _strangers(facts)),
        *(_embedded(facts, side) for side in SIDES),
    ]
    if facts.loop:
        committed = facts.loop.selection.selected_count
        text = f"{committed:,} in the ledger, {facts.count:,} in mined.parquet"
        checks.append(Check("Rows as committed", text, committed == facts.count))
    else:
        text = f"{facts.summary.unique_saved:,} in the summary, {facts.count:,} in mined.parquet"
        checks.append(Check("Rows as summarised", text, facts.summary.unique_saved == facts.count))
    return checks


def findings(facts: MiningFacts, report: str) -> list[Finding]:
    """All that is amiss with the report or with what it reports on."""
    artifacts = ["target_embeddings.parquet", "source_embeddings.parquet", "mining_summary.txt"]
    found = [
        *file_findings(facts.folder, artifacts),
        *file_findings(facts.mined_parquet.parent, ["mined.parquet"]),
        *section_findings(report, SECTIONS),
        *word_findings(report, *WORDS),
        *log_findings(logs(facts)),
    ]
    if "match: yes" not in report.lower():
        found.append(Finding(level="warn", check="encoder", text="the report does not say Match: yes"))
    for side in (facts.targets, facts.pool):
        if side.rows is not None and not has_vectors(side):
            text = f"{side.parquet} has no column embedding"
            found.append(Finding(level="warn", check="embedding", text=text))
    if facts.mined is not None:
        found += [
            Finding(level="warn", check="output", text=f"{one.what}: {one.found}")
            for one in sanity(facts)
            if not one.good
        ]
    return found


def logs(facts: MiningFacts) -> list[Path]:
    """The logs of the three steps, in their order."""
    return [facts.folder / f"{stem}.log" for stem in (*SIDES.values(), SEARCH)]


def _paths(paths: list[str], what: str, fault: Callable[[str], bool]) -> Check:
    count = sum(map(fault, paths))
    return Check(what, f"{count:,} paths of {len(paths):,} are not" if count else "all paths", not count)


def _number(what: str, count: int) -> Check:
    return Check(what, f"{count:,}", not count)


def _strangers(facts: MiningFacts) -> int:
    if not facts.pool.parquet.is_file():
        return 0
    pool = set(pq.read_table(facts.pool.parquet, columns=["filepath"])["filepath"].to_pylist())
    return sum(path not in pool for path in facts.mined or ())


def _embedded(facts: MiningFacts, side: str) -> Check:
    one = facts.targets if side == "target" else facts.pool
    what = f"Rows embedded, {'weak samples' if side == 'target' else 'pool'}"
    if one.rows is None:
        return Check(what, "the file is missing", False)
    noted = one.sidecar.rows if one.sidecar else None
    text = f"{one.rows:,}" + (f", {noted:,} in the sidecar" if noted is not None else "")
    return Check(what, text, noted in (None, one.rows) and has_vectors(one))


PATH_FAULTS: dict[str, Callable[[str], bool]] = {
    "Path encoding: ASCII only": lambda path: not path.isascii(),
    "Path encoding: without blanks": lambda path: any(character.isspace() for character in path),
    "Path encoding: without backslashes": lambda path: "\\" in path,
}
