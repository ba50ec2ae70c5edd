"""Specs as nested mappings, and their values by dotted keys such as `train.optim.lr` or `a.b[1]`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from tasks.errors import InputError


def value_at(spec: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; `name[1]` is the second of a list; None where there is none."""
    found: Any = spec
    for part, index in _parts(key):
        found = found.get(part) if isinstance(found, Mapping) else None
        if index is not None:
            found = found[index] if isinstance(found, list) and index < len(found) else None
    return found


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping of dotted keys as nested ones; raises `InputError` where one key lies inside another.

    A list element `a.b[1]` keeps its index in the name: `merged` writes it into the list of the base.
    """
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        at = tree
        for part in parents:
            at = at.setdefault(part, {})
            if not isinstance(at, dict):
                raise InputError(f"{key} lies inside another key that has a value; keep one")
        if last in at:
            raise InputError(f"{key} holds other keys; name those")
        at[last] = value
    return tree


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one of dotted keys."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The base spec with nested changes written over it; nothing else of it differs."""
    spec = copy.deepcopy(dict(base))
    for key, value in flat(changes).items():
        parts = _parts(key)
        at: Any = spec
        for part, _ in parts[:-1]:
            if at.get(part) is None:
                at[part] = {}
            at = at[part]
        part, index = parts[-1]
        if index is None:
            at[part] = value
        else:
            if not isinstance(at.get(part), list) or index >= len(at[part]):
                raise InputError(f"the base spec has no {key}; write the whole list there")
            at[part][index] = value
    return spec


def _parts(key: str) -> list[tuple[str, int | None]]:
    parts: list[tuple[str, int | None]] = []
    for text in key.split("."):
        name, bracket, index = text.partition("[")
        parts.append((name, int(index.rstrip("]")) if bracket else None))
    return parts
