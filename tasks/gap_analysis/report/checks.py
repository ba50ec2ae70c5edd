"""What must hold of an RCA folder with its report (spec gap-analysis A.9)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.artifacts import log_text, read_json
from tasks.dataset.table import PASS
from tasks.errors import InputError
from tasks.gap_analysis.report import FEWEST_WORDS, MOST_WORDS, REPORT
from tasks.gap_analysis.report.facts import Facts, read_facts
from tasks.gap_analysis.report.inputs import LOG
from tasks.gap_analysis.report.unreachable import HEADINGS
from tasks.gap_analysis.spot_check.judges import OF_EACH, PENDING, VERDICTS
from tasks.gap_analysis.vcn_files import BREAKDOWN, GAPS, METRICS, SAMPLES, SPOT_CHECK, THRESHOLD, UNREACHABLE
from tasks.reports.checks import (
    Finding,
    Section,
    file_findings,
    log_findings,
    section_findings,
    word_findings,
)
from tasks.reports.markdown import escaped, sections, table_rows

COLUMNS = ("filepath", "label", "siamese_score", "weakness")
FIGURES = ("precision", "recall", "f1", "confusion_matrix", "per_label")
NUMBER = re.compile(r"^-?\d+(\.\d+)?([eE][+-]?\d+)?$")

_THRESHOLD = re.compile(r"threshold[ |]*`([^`]+)`", re.IGNORECASE)
_NO_THRESHOLD = re.compile(r"no threshold achieves", re.IGNORECASE)

Level = Literal["error", "warn"]


def findings_of(folder: Path) -> list[Finding]:
    """Everything that does not hold; nothing where all is well."""
    logs = log_findings([folder / LOG])
    if (folder / UNREACHABLE).exists():
        return [*_unreachable(folder), *logs]
    missing = file_findings(folder, [GAPS, SAMPLES, METRICS, BREAKDOWN, REPORT])
    if missing:
        return [*missing, *logs]
    found = [*_metrics(folder), *_parquet(folder)]
    if any(one.level == "error" for one in found):
        return [*found, *logs]
    facts = read_facts(folder)
    report = (folder / REPORT).read_text(encoding="utf-8")
    return [
        *found,
        *_threshold(facts, report),
        *_sums(facts),
        *_spot_check(facts),
        *section_findings(report, _expected(facts)),
        *_coverage(facts, report),
        *word_findings(report, FEWEST_WORDS, MOST_WORDS),
        *_said_unreachable(folder),
        *logs,
    ]


def _finding(check: str, text: str, level: Level = "error") -> Finding:
    return Finding(level=level, check=check, text=text)


def _unreachable(folder: Path) -> Iterator[Finding]:
    yield from file_findings(folder, [UNREACHABLE, REPORT])
    for name in (GAPS, METRICS, THRESHOLD):
        if (folder / name).exists():
            yield _finding("files", f"{name} stands beside {UNREACHABLE}; one of them is of another analysis")
    if (folder / REPORT).is_file():
        report = (folder / REPORT).read_text(encoding="utf-8")
        yield from section_findings(report, [Section(heading=heading, words=15) for heading in HEADINGS])


def _metrics(folder: Path) -> Iterator[Finding]:
    try:
        metrics: dict[str, Any] = read_json(folder / METRICS)
    except InputError as error:
        yield _finding("metrics", str(error))
        return
    for key in FIGURES:
        if not metrics.get(key) and metrics.get(key) != 0:
            yield _finding("metrics", f"{METRICS} has no {key}")
    if metrics.get("threshold_origin") == "pinned":
        return
    yield from file_findings(folder, [THRESHOLD])
    file = folder / THRESHOLD
    if file.is_file() and not NUMBER.match(file.read_text(encoding="utf-8").strip()):
        yield _finding("threshold", f"{THRESHOLD} is not one number")


def _parquet(folder: Path) -> Iterator[Finding]:
    try:
        file = pq.ParquetFile(folder / GAPS)
    except (pa.ArrowInvalid, OSError) as error:
        yield _finding("parquet", f"{GAPS} cannot be read: {error}")
        return
    with file:
        names, rows = file.schema_arrow.names, file.metadata.num_rows
    if missing := [name for name in COLUMNS if name not in names]:
        yield _finding("parquet", f"{GAPS} lacks {', '.join(missing)}")
    if not rows:
        # In filter mode a model without a fault leaves none, and the analysis has warned of it.
        filtered = read_json(folder / METRICS).get("mode") == "filter"
        yield _finding("parquet", f"{GAPS} has no rows", "warn" if filtered else "error")


def _threshold(facts: Facts, report: str) -> Iterator[Finding]:
    file = facts.folder / THRESHOLD
    true = file.read_text(encoding="utf-8").strip() if file.is_file() else facts.exact_threshold
    parts = sections(report)
    for heading in ("Verdict", "Threshold Selection"):
        said = _THRESHOLD.search(parts.get(heading, ""))
        if said is None or said[1] != true:
            told = said[1] if said else "none"
            yield _finding("threshold", f"{heading} says threshold {told}, {THRESHOLD} says {true}")


def _sums(facts: Facts) -> Iterator[Finding]:
    counts, total = facts.counts, facts.metrics["n_total"]
    if sum(counts.values()) != total:
        yield _finding("sums", f"the confusion matrix adds up to {sum(counts.values())}, not to {total}")
    by_label = sum(one["total"] for one in facts.labels.values())
    if by_label != total:
        yield _finding("sums", f"the totals of the labels add up to {by_label}, not to {total}")
    wrong = counts["fp"] + counts["fn"] - facts.metrics["n_boundary"]
    if facts.misclassified != wrong:
        yield _finding(
            "sums", f"{facts.misclassified} misclassified by label, {wrong} by the confusion matrix"
        )


def _spot_check(facts: Facts) -> Iterator[Finding]:
    if facts.spot is None:
        yield _finding("spot check", f"no {SPOT_CHECK}: nobody looked at the pictures", "warn")
        return
    pictures = sum(bool(row["image"]) and (facts.folder / row["image"]).is_file() for row in facts.spot_rows)
    if pictures < _available(facts):
        text = f"{pictures} pictures of the spot check, expected {_available(facts)}"
        yield _finding("spot check", text, "warn")
    judge = facts.spot["judge"]
    allowed = {*VERDICTS, *([PENDING] if judge == "manual" else [])}
    for row in facts.spot_rows:
        if row["verdict"] not in allowed and not (judge == "none" and not row["verdict"]):
            yield _finding("spot check", f"{row['object_name']}: {row['verdict']!r} is no verdict")


def _available(facts: Facts) -> int:
    every = {(one["input_path"], one["object_name"]) for one in facts.samples}
    good = {(one["input_path"], one["object_name"]) for one in facts.kept.get(PASS, [])}
    return min(len(good), OF_EACH) + min(len(every - good), OF_EACH)


def _expected(facts: Facts) -> list[Section]:
    kept, looked = len(facts.samples), len(facts.spot_rows)
    return [
        Section(heading="Verdict", keywords=("threshold", "kpi", "weak"), words=40),
        Section(
            heading="Threshold Selection",
            keywords=("recall", "precision", "f1", "confusion"),
            rows=4,
            words=40,
        ),
        Section(heading="Weakness Distribution", keywords=("mean weakness", "misclassified"), rows=1),
        Section(
            heading="Top-K Weakest Samples",
            keywords=("weakness", "siamese_score"),
            rows=min(kept, OF_EACH),
            words=40,
        ),
        Section(
            heading="Visual Spot Check",
            keywords=("verdict", *(["!["] if any(row["image"] for row in facts.spot_rows) else [])),
            rows=min(looked, OF_EACH),
            words=30,
        ),
        Section(heading="Per-Label Breakdown", keywords=("misclassified", "marginal"), words=40),
        Section(heading="Recommended Actions", keywords=("relabel", "augment", GAPS), words=40),
    ]


def _coverage(facts: Facts, report: str) -> Iterator[Finding]:
    parts = {heading: table_rows(text) for heading, text in sections(report).items()}
    statistics = {row[0].upper(): row for row in parts.get("Weakness Distribution", [])}
    shown = {row[0].upper() for row in parts.get("Top-K Weakest Samples", [])}
    for name, one in facts.labels.items():
        written = escaped(name).upper()
        row = statistics.get(written)
        if row is None:
            yield _finding("labels", f"{name} is not in the table of weakness", "warn")
        elif row[1] != f"{one['total']:,}" or not all(map(_is_number, row[1:])):
            yield _finding("labels", f"{name}: its row is not its {one['total']} samples and figures", "warn")
        if name in facts.kept and written not in shown:
            yield _finding("labels", f"{name} is not among the weakest samples", "warn")
    looked = {row[0].upper() for row in parts.get("Visual Spot Check", [])}
    if facts.spot_rows and len(looked) < min(2, len(facts.kept)):
        yield _finding("labels", f"the spot check shows {len(looked)} label", "warn")


def _is_number(text: str) -> bool:
    return bool(NUMBER.match(text.replace(",", "")))


def _said_unreachable(folder: Path) -> Iterator[Finding]:
    if _NO_THRESHOLD.search(log_text(folder / LOG)):
        yield _finding("log", f"{LOG} says that no threshold achieves the target, yet {METRICS} has one")
