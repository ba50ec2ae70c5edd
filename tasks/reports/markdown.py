"""Markdown as reports use it: tables whose cells are text, sections, and how many words they have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

NONE = "—"
"""What stands where there is no figure."""

HEADING = re.compile(r"^## +(?:\d+\.? +)?(.+?) *$", re.MULTILINE)
WORD = re.compile(r"\w[\w.%/+-]*")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; text in its cells is escaped, so that neither a bar nor a tag changes the page.

    A cell that is `Raw` stands as it is.
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


class Raw(str):
    """Text that is Markdown already."""

    __slots__ = ()


def image(alternative: str, path: str) -> Raw:
    """A picture beside the report; the path is relative to it."""
    return Raw(f"![{escaped(alternative)}](<{path}>)")


def code(text: object) -> Raw:
    """Text as it is, in the font of paths and commands."""
    plain = str(text).replace("|", "\\|").replace("\n", " ")
    fence = "``" if "`" in plain else "`"
    return Raw(f"{fence}{plain}{fence}")


def cell(value: object) -> str:
    """A value as a cell: absent ones are `—`, floats have four figures."""
    if value is None:
        return NONE
    if isinstance(value, Raw):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    return escaped(str(value))


def escaped(text: str) -> str:
    """Text that a Markdown reader shows letter by letter, on one line."""
    for character in "\\`*_[]|":
        text = text.replace(character, "\\" + character)
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())


def sections(text: str) -> dict[str, str]:
    """The text of every section of level two, by its heading without the number."""
    parts = HEADING.split(text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def table_rows(text: str) -> list[list[str]]:
    """The cells of every row of the tables in `text`, without headers and rules."""
    lines = [line.strip() for line in text.splitlines()]
    rows = []
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("|") and before.startswith("|") and not _is_rule(line):
            rows.append([one.strip() for one in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def word_count(text: str, *, tables: bool = True) -> int:
    """Words of a Markdown text, with or without those in tables."""
    lines = [line for line in text.splitlines() if tables or not line.lstrip().startswith("|")]
    return len(WORD.findall("\n".join(lines)))


def _is_rule(line: str) -> bool:
    return not line.strip("|-: ")
