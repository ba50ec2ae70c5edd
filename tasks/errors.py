"""The exception tree.

DeftError                     exit status 1: something a person has to mend
├── InputError                a file, row, column or key is not what it must be
├── StageFailed               an action ended without doing what it was asked for
├── UsageError                exit status 2: the command line itself is wrong
└── TargetUnreachable         exit status 3: no threshold meets the recall or FAR target
"""

from __future__ import annotations

from collections.abc import Sequence


class DeftError(Exception):
    """An error that one line explains: what, where (file, row, key), and what to do."""

    exit_status = 1


class InputError(DeftError):
    """An input (file, row, column, key) is missing or not what it must be."""


class StageFailed(DeftError):
    """An action ended with an error, or without the artifacts that it must leave."""


class UsageError(DeftError):
    """The command line is malformed: no such action, or an argument that is not `key=value`."""

    exit_status = 2


class TargetUnreachable(DeftError):
    """No threshold meets the target; the action has written what can be attained."""

    exit_status = 3


EXIT_STATUS_OF: dict[int, type[DeftError]] = {
    error.exit_status: error for error in (StageFailed, UsageError, TargetUnreachable)
}


def listed(items: Sequence[object], most: int = 20) -> str:
    """`items` joined by commas, at most `most` of them, then how many more there are."""
    shown = ", ".join(str(item) for item in items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"
