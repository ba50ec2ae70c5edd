"""The identity of an image path in mining."""

from __future__ import annotations

import posixpath

from tasks.errors import InputError


def identity(filepath: str) -> str:
    """The spelling under which a path is compared: stripped, `/` for `\\`, no `.`, `..` or `//` in it.

    Raises:
        InputError: the path is empty.
    """
    stripped = filepath.strip().replace("\\", "/")
    if not stripped:
        raise InputError("a filepath is empty; fill it or remove its row")
    return posixpath.normpath(stripped)
