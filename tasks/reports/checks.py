"""What is checked of a finished report, and `validation.json`, which says how it went."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tasks.artifacts import log_text, write_json
from tasks.errors import StageFailed, listed
from tasks.reports.markdown import sections, table_rows, word_count

logger = logging.getLogger("deft")

VALIDATION = "validation.json"

LOG_PATTERNS: dict[str, tuple[Literal["error", "warn"], re.Pattern[str]]] = {
    "traceback": ("error", re.compile(r"^Traceback \(most recent call last\)", re.MULTILINE)),
    "no image": ("error", re.compile(r"(no such image|pull access denied|manifest unknown)", re.IGNORECASE)),
    "no docker": ("error", re.compile(r"cannot connect to the docker daemon", re.IGNORECASE)),
    "no GPU": ("error", re.compile(r"(no CUDA GPUs are available|could not select device driver)", re.I)),
    "file missing": ("error", re.compile(r"(FileNotFoundError|No such file or directory)")),
    "NaN": ("warn", re.compile(r"\bnan\b", re.IGNORECASE)),
    "empty frame": ("warn", re.compile(r"empty (data)?frame", re.IGNORECASE)),
}


class Finding(BaseModel):
    """A check that did not hold: an error fails the stage, a warning does not."""

    model_config = ConfigDict(frozen=True)

    level: Literal["error", "warn"]
    check: str
    text: str


class Section(BaseModel):
    """What a section of a report must hold.

    Attributes:
        heading: without its number.
        keywords: words of which each must occur, in any case.
        rows: rows of tables, at least.
        words: words, at least, where it has no table.
    """

    model_config = ConfigDict(frozen=True)

    heading: str
    keywords: tuple[str, ...] = ()
    rows: int = 0
    words: int = 25


def section_findings(report: str, expected: Iterable[Section]) -> list[Finding]:
    """Sections that are missing (errors), too short, or without what they must tell (warnings)."""
    found, findings = sections(report), []
    for one in expected:
        if one.heading not in found:
            findings.append(
                Finding(level="error", check="sections", text=f"section {one.heading!r} is missing")
            )
            continue
        text = found[one.heading]
        rows = len(table_rows(text))
        faults = [f"no word of {word!r}" for word in one.keywords if word.lower() not in text.lower()]
        if rows < one.rows:
            faults.append(f"{rows} rows in its tables, expected {one.rows}")
        if not rows and word_count(text) < one.words:
            faults.append(f"{word_count(text)} words and no table, expected {one.words} words")
        findings += [
            Finding(level="warn", check="sections", text=f"{one.heading}: {fault}") for fault in faults
        ]
    return findings


def word_findings(report: str, fewest: int, most: int) -> list[Finding]:
    """Whether the report is longer or shorter than it should be; tables do not count as too long."""
    total, prose = word_count(report), word_count(report, tables=False)
    if total >= fewest and prose <= most:
        return []
    text = f"{total} words, {prose} outside of tables; expected {fewest} to {most}"
    return [Finding(level="warn", check="words", text=text)]


def file_findings(folder: Path, names: Iterable[str]) -> list[Finding]:
    """Files that are missing or empty."""
    return [
        Finding(level="error", check="files", text=f"{folder / name} is missing or empty")
        for name in names
        if not (folder / name).is_file() or not (folder / name).stat().st_size
    ]


def log_findings(logs: Iterable[Path]) -> list[Finding]:
    """What the logs say that a report must not pass over in silence; a stage in this process leaves none."""
    findings = []
    for log in logs:
        text = log_text(log)
        if log.is_file() and not text.strip():
            findings.append(Finding(level="warn", check="log", text=f"{log.name} is empty"))
        findings += [
            Finding(level=level, check="log", text=f"{log.name}: {name}")
            for name, (level, pattern) in LOG_PATTERNS.items()
            if pattern.search(text)
        ]
    return findings


def write_validation(
    folder: Path, findings: Sequence[Finding], figures: Mapping[str, object] | None = None
) -> Path:
    """Write `validation.json`, tell the warnings, and refuse a report with errors.

    Raises:
        StageFailed: an error is among the findings; the file says all of them.
    """
    errors = [one.text for one in findings if one.level == "error"]
    status = "error" if errors else "warn" if findings else "ok"
    content = {
        "status": status, "findings": [one.model_dump() for one in findings], **(figures or {})
    }  # fmt: skip
    path = write_json(folder / VALIDATION, content)
    if errors:
        raise StageFailed(f"{folder}: the report does not hold: {listed(errors, most=3)}; see {path}")
    for one in findings:
        logger.info("report check %s: %s", one.check, one.text)
    return path
