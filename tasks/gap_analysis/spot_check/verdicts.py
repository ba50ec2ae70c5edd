"""`spot_check_verdicts.csv`: the table that a person fills, and what they wrote into it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tasks.artifacts import write_csv
from tasks.errors import InputError
from tasks.gap_analysis.spot_check.judges import PENDING, VERDICTS, Verdict

VERDICTS_CSV = "spot_check_verdicts.csv"
COLUMNS = ("label", "object_name", "input_path", "image", "verdict", "by")
UNFILLED = ("", PENDING)

Entry = dict[str, str]


@dataclass(frozen=True)
class Said:
    """The filled rows of the table; a sample is known again by its name, or by its picture.

    A spreadsheet may turn the name 000123 into 123, and leaves the name of the picture alone.
    """

    entries: Sequence[Entry] = field(default_factory=tuple)

    def entry(self, row: Mapping[str, Any]) -> Entry | None:
        """What a person wrote of this sample; the last word counts."""
        for name in ("object_name", "image"):
            key = ("label", "input_path", name)
            for entry in reversed(self.entries):
                if entry[name] and all(entry[one] == (row[one] or "") for one in key):
                    return entry
        return None

    def of(self, row: Mapping[str, Any]) -> Verdict | None:
        """The verdict of a person on this sample, if there is one."""
        entry = self.entry(row)
        if entry is None:
            return None
        return Verdict(entry["verdict"], f"person: {entry['by']}" if entry["by"] else "person")

    def with_verdict(self, row: Mapping[str, Any], verdict: str, by: str) -> Said:
        """The same with one more verdict, which wins over an earlier one on this sample."""
        new = {name: str(row[name] or "") for name in COLUMNS[:4]} | {"verdict": verdict, "by": by.strip()}
        earlier = self.entry(row)
        return replace(self, entries=[*(one for one in self.entries if one is not earlier), new])


def read_verdicts(path: Path) -> Said:
    """What a person filled in; nothing where there is no such file.

    Commas or semicolons part the columns; further columns are left alone.

    Raises:
        InputError: the file is no such table, or a verdict is none of the four; file and row are named,
            and what is allowed.
    """
    if not path.is_file():
        return Said()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"verdicts {path} is not UTF-8; save it as CSV UTF-8") from error
    first = text.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
    absent = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if absent:
        raise InputError(
            f"verdicts {path} lacks the columns {', '.join(absent)}; remove the file to get an empty one"
        )
    try:
        rows = [{name: row[name] for name in COLUMNS} for row in reader]
    except csv.Error as error:
        raise InputError(f"verdicts {path}, line {reader.line_num}: {error}") from error
    for number, row in enumerate(rows, 2):
        row |= {"verdict": _word(row["verdict"]), "by": row["by"].strip()}
        if row["verdict"] not in (*VERDICTS, *UNFILLED):
            raise InputError(
                f"verdicts {path}, row {number}: {row['verdict']!r} is no verdict; write one of "
                f"{', '.join(VERDICTS)}, or leave it empty"
            )
    return Said([row for row in rows if row["verdict"] not in UNFILLED])


def write_verdicts(path: Path, rows: Iterable[Mapping[str, Any]], said: Said) -> Path:
    """Write the table for these samples with what was said of them; what was said of others stays, below."""
    lines, used = [], []
    for row in rows:
        entry = said.entry(row)
        used.append(entry)
        written = {name: entry[name] for name in ("verdict", "by")} if entry else {}
        lines.append({name: row[name] for name in COLUMNS[:4]} | written)
    others = [entry for entry in said.entries if not any(entry is one for one in used)]
    return write_csv(path, COLUMNS, [*lines, *others])


def _word(text: str) -> str:
    return " ".join(text.casefold().replace("_", " ").replace("-", " ").split())
