"""Counts and shares in words."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def share(part: int, whole: int) -> str:
    """`7 of 154 (4.5 %)`; without the share where there is nothing to take one of."""
    return f"{part:,} of {whole:,}" + (f" ({100 * part / whole:.1f} %)" if whole else "")
