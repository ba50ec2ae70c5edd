"""The summary as markdown, for a terminal, a file and Prefect's UI."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tasks.artifacts import write_json, write_text
from tasks.preflight.registry import ITEM_VALUE, SECTIONS, Finding
from tasks.preflight.subject import PHASES_OF
from tasks.preflight.summary import Summary, flat

MARKDOWN, JSON = "preflight_summary.md", "preflight_summary.json"
MARKS = {
    "ok": "ok",
    "warn": "**WARN**",
    "block": "**BLOCK**",
    "not_applicable": "n/a",
    "failed": "**NOT LOOKED**",
}


def write(folder: Path, summary: Summary) -> tuple[Path, Path]:
    """Write the summary as markdown and as JSON, and give both files."""
    head = {"token": summary.token, "gate_valid": summary.gate_valid, "blockers": list(summary.blockers)}
    text = write_text(folder / MARKDOWN, render(summary))
    return text, write_json(folder / JSON, {**head, "summary": summary.model_dump(mode="json")})


def render(summary: Summary) -> str:
    """The nine sections as tables, blockers first, the token last."""
    lines = [f"# Preflight: {summary.mode}, {summary.profile}", "", *_verdict(summary)]
    for number, title in SECTIONS.items():
        lines += ["", f"## {number}. {title}", "", *_section(summary, number)]
    lines += ["", "## Approved with it", "", *_covers(summary)]
    done = sum(one.outcome != "failed" for one in summary.findings)
    total = len({*(one.id for one in summary.findings), *summary.missing_checks})
    lines += [
        "",
        f"{done} of {total} checks executed. Nothing was changed.",
        "",
        f"Token: `{summary.token}`",
        "",
    ]
    return "\n".join(lines)


def _verdict(summary: Summary) -> Iterator[str]:
    if not summary.gate_valid:
        yield f"**Not valid**: {len(summary.missing_checks)} checks are missing, so this cannot be approved."
        yield ""
        yield from _missing(summary)
        yield ""
    if summary.blockers:
        yield f"**Blocked**: {len(summary.blockers)} things must be mended first."
        yield ""
        yield from (f"- {_text(line)}" for line in summary.blockers)
    elif summary.gate_valid:
        yield f"**Ready for approval.** {len(summary.warnings)} warnings."
    if summary.warnings:
        yield from ("", "Warnings:", "")
        yield from (f"- {_text(line)}" for line in summary.warnings)


def _missing(summary: Summary) -> Iterator[str]:
    """The missing checks, those of one reason in one line."""
    reasons: dict[str, list[str]] = {}
    said = {one.id: one.text for one in summary.findings}
    for one in summary.missing_checks:
        reasons.setdefault(said.get(one, "not executed"), []).append(f"`{one}`")
    yield from (f"- {', '.join(ids)}: {_text(reason)}" for reason, ids in reasons.items())


def _section(summary: Summary, number: int) -> Iterator[str]:
    findings = [one for one in summary.findings if one.section == number]
    if not findings:
        yield f"Not part of mode {summary.mode} ({', '.join(PHASES_OF[summary.mode])})."
        return
    if all(one.outcome == "not_applicable" for one in findings) and len({one.text for one in findings}) == 1:
        yield _sentence(findings[0].text)
        return
    narrow = [one for one in findings if one.columns == ITEM_VALUE]
    wide = [one for one in findings if one.columns != ITEM_VALUE]
    if narrow:
        yield from _table((*ITEM_VALUE, "Check"), (row for one in narrow for row in _rows(one)))
    for place, one in enumerate(wide):
        if narrow or place:
            yield ""
        yield from (f"{_sentence(one.text)} ({_mark(one)})", "", *_table(one.columns, one.rows))


def _rows(one: Finding) -> Iterator[tuple[str, str, str]]:
    """The rows of a finding with its mark at the first; what is not simply fine also says its line."""
    mark = _mark(one)
    rows = list(one.rows)
    if not rows or one.outcome not in ("ok", "not_applicable"):
        rows.append((one.id.partition(".")[2].replace("_", " ") or one.id, one.text))
    for number, (item, value) in enumerate(rows):
        yield item, value, "" if number else mark


def _mark(one: Finding) -> str:
    return f"{MARKS[one.outcome]} `{one.id}`"


def _covers(summary: Summary) -> Iterator[str]:
    covers = summary.covers
    parameters = (
        (key, json.dumps(value, ensure_ascii=False)) for key, value in flat(covers.parameters).items()
    )
    yield from _table(("Parameter", "Value"), parameters)
    yield ""
    files = ((name, str(one.path), one.sha256[:16]) for name, one in covers.files.items())
    images = ((f"images of the {name}", "", digest[:16]) for name, digest in covers.images.items())
    yield from _table(("Data", "Path", "SHA-256"), [*files, *images])


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    yield from (f"| {' | '.join(map(_text, row))} |" for row in rows)


def _text(value: str) -> str:
    """Text for a cell: one line, no column mark, and no beginning of a tag."""
    one_line = " ".join(value.split()).replace("|", "\\|")
    return re.sub(r"<(?=[A-Za-z/!?])", "\\<", one_line)


def _sentence(text: str) -> str:
    return _text(text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."))
