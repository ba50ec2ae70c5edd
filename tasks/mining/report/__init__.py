"""`Mining_Report.md`: what was mined, from which files, and what to do about it."""

from __future__ import annotations

from pathlib import Path

from tasks.artifacts import write_text
from tasks.mining.report import results as results
from tasks.mining.report import sections as sections
from tasks.mining.report.checks import SECTIONS, findings, logs
from tasks.mining.report.facts import INPUTS, MiningFacts
from tasks.mining.report.pictures import pictures
from tasks.mining.report.reading import read_facts
from tasks.reports.checks import write_validation
from tasks.reports.packaging import package

REPORT = "Mining_Report.md"
CONFIG = "mining_config"


def render(folder: Path) -> Path:
    """Write the report of the mining in `folder` from its files alone; gives its path.

    In the loop the folder is `<iteration>/mining_results/<clock>`; floor and ledger are found beside it.

    Raises:
        InputError: the search has not ended there, or a file is not what it must be.
    """
    return _write(read_facts(folder.absolute()))


def write_report(folder: Path) -> Path:
    """Render the report, check it, and lay its settings and its log beside it; gives its path.

    Raises:
        InputError: as `render` does.
        StageFailed: a file or a section of the report is missing.
    """
    facts = read_facts(folder.absolute())
    report = _write(facts)
    text = report.read_text(encoding="utf-8")
    figures = {"targets": facts.summary.target_queries, "pool": facts.pool.rows, "mined": facts.count}
    write_validation(facts.folder, findings(facts, text), figures)
    specs = (facts.targets.spec, facts.pool.spec, facts.search_spec)
    settings = [facts.folder / INPUTS, *(spec for spec in specs if spec)]
    package(facts.folder, CONFIG, settings, logs(facts))
    return report


def _write(facts: MiningFacts) -> Path:
    bodies = (
        sections.verdict(facts), sections.inputs(facts), sections.encoders(facts), results.run(facts),
        "\n\n".join([results.labels(facts), *pictures(facts)]), results.output(facts),
        results.recommended(facts),
    )  # fmt: skip
    parts = [
        f"## {number}. {section.heading}\n\n{body}"
        for number, (section, body) in enumerate(zip(SECTIONS, bodies, strict=True), 1)
    ]
    return write_text(facts.folder / REPORT, "\n\n".join(["# Mining Report", *parts]) + "\n")
