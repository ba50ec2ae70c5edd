"""`RCA_Report.md`: where a model is wrong or nearly so, and what to do about it (spec gap-analysis A.8)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tasks.artifacts import write_text
from tasks.gap_analysis.report import actions, samples, threshold, unreachable
from tasks.gap_analysis.report.chart import write_chart
from tasks.gap_analysis.report.facts import Facts, experiment, read_facts
from tasks.gap_analysis.vcn_files import UNREACHABLE
from tasks.reports.markdown import escaped, word_count

REPORT = "RCA_Report.md"
FEWEST_WORDS, MOST_WORDS = 1000, 1800

SECTIONS: dict[str, Callable[[Facts], str]] = {
    "Verdict": threshold.verdict,
    "Threshold Selection": threshold.selection,
    "Weakness Distribution": samples.distribution,
    "Top-K Weakest Samples": samples.weakest,
    "Visual Spot Check": samples.spot_check,
    "Per-Label Breakdown": samples.breakdown,
    "Recommended Actions": actions.actions,
}


def render(folder: Path) -> Path:
    """Write the report of an analysis from the files of its folder; the same files give the same text.

    The chart of scores is drawn where the CSV that was analysed is still there; else an earlier one stays.

    Raises:
        InputError: `folder` holds no analysis, or a file of it cannot be read.
    """
    reasons = folder / UNREACHABLE
    title = f"# VCN Gap Analysis Report: {escaped(experiment(folder))}"
    if reasons.is_file():
        text = unreachable.text(reasons.read_text(encoding="utf-8"))
    else:
        facts = read_facts(folder)
        write_chart(facts)
        text = reached(facts)
    return write_text(folder / REPORT, f"{title}\n\n{text}")


def reached(facts: Facts) -> str:
    """The seven sections; where they say little, with a line for each label."""
    parts = {heading: section(facts) for heading, section in SECTIONS.items()}
    if word_count("\n".join(parts.values())) < FEWEST_WORDS:
        parts["Per-Label Breakdown"] += "\n\n" + samples.narrative(facts)
    numbered = [
        f"## {number}. {heading}\n\n{text}\n" for number, (heading, text) in enumerate(parts.items(), 1)
    ]
    return "\n".join(numbered)
