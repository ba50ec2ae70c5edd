"""A spec as `key=value` words in Hydra's grammar for overrides, for launchers that take no spec file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_/][\w/.:+@%-]*", re.ASCII)
_NOT_TEXT = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null", "none", "nan", "inf"})


def words_of(values: Mapping[str, Any], known: Any, prefix: str = "") -> Iterator[str]:
    """Every key of a spec as one word; nested keys are dotted as far as the launcher's own keys are nested.

    Args:
        values: the spec, as plain values.
        known: the launcher's keys with their defaults.
        prefix: what comes before every key.

    Raises:
        ValueError: a word has a blank, at which the launchers would split it.
    """
    for key, value in values.items():
        below = known.get(key) if isinstance(known, Mapping) else None
        if isinstance(value, Mapping) and value and isinstance(below, Mapping) and below:
            yield from words_of(value, below, f"{prefix}{key}.")
            continue
        word = f"{prefix}{key}={quoted(value)}"
        if any(blank in word for blank in " \t\r\n"):
            raise ValueError(
                f"{prefix}{key} holds a blank, and this image takes its keys on the command line only, "
                "which it splits at blanks; rename that path or value"
            )
        yield word


def quoted(value: Any) -> str:
    """A plain value as Hydra reads it; text that it would take for something else stands in quotes."""
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{quoted(key)}:{quoted(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(quoted, value)) + "]"
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    mark = '"' if "'" in text and '"' not in text else "'"
    # In quotes a backslash means itself, but for those before a quote.
    return (
        mark + re.sub(rf"(\\*)({mark}|\Z)", lambda m: m[1] * 2 + m[2].replace(mark, "\\" + mark), text) + mark
    )
