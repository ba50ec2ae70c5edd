"""BCQ gap analysis: yes/no answers of a vision-language model against the truth (spec gap-analysis B)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.artifacts import read_json
from tasks.errors import InputError, listed

FIELDS = ("gt", "response", "video_id")
YES, NO = re.compile(r"\byes\b"), re.compile(r"\bno\b")
SHOWN = 80

DESCRIPTIONS = {"FP": "model said yes, ground truth no", "FN": "model said no, ground truth yes"}


@dataclass(frozen=True)
class Skipped:
    """An item whose answer or truth says both yes and no, or neither."""

    index: int
    field: str
    reason: str


@dataclass(frozen=True)
class Answers:
    """The evaluated items.

    Attributes:
        failures: rows of `kpi_gaps.jsonl` in the order of the input.
        counts: how many TP, TN, FP and FN; yes is the positive class.
        skipped: the items that were left out.
    """

    failures: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    skipped: list[Skipped] = field(default_factory=list)


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """The items of a predictions file, every one of them valid.

    Raises:
        InputError: no such file, not JSON (with the position), not an array, or items that are not objects
            or lack a text `gt`, `response` or `video_id` (up to 20 are named by index, from 0).
    """
    items = read_json(path)
    if not isinstance(items, list):
        raise InputError(f"predictions_json {path} must be a JSON array; wrap the objects in [ ]")
    problems = [f"item {index} {problem}" for index, item in enumerate(items) if (problem := _problem(item))]
    if problems:
        raise InputError(f"predictions_json {path}: {listed(problems)}; mend or remove them")
    return items


def _problem(item: Any) -> str:
    if not isinstance(item, dict):
        return "is not an object"
    missing = [name for name in FIELDS if name not in item]
    if missing:
        return f"lacks {' and '.join(missing)}"
    other = [name for name in FIELDS if not isinstance(item[name], str)]
    if other:
        return f"has a {' and '.join(other)} that is not text"
    if "\0" in item["video_id"]:
        return "has a video_id with a null character"
    return ""


def answer(text: str) -> str | None:
    """`yes` or `no` where exactly one of the two stands in `text` as a word, in any case; else None."""
    lower = text.lower()
    yes, no = YES.search(lower) is not None, NO.search(lower) is not None
    if yes == no:
        return None
    return "yes" if yes else "no"


def evaluate(items: Sequence[dict[str, Any]], videos_dir: Path) -> Answers:
    """Compare each response with its truth; the response is looked at first."""
    answers = Answers()
    for index, item in enumerate(items):
        response, truth = answer(item["response"]), answer(item["gt"])
        if response is None or truth is None:
            name = "response" if response is None else "gt"
            reason = f"neither or both of yes and no in {item[name][:SHOWN]!r}"
            answers.skipped.append(Skipped(index, name, reason))
            continue
        outcome = ("T" if response == truth else "F") + ("P" if response == "yes" else "N")
        answers.counts[outcome] += 1
        if outcome in DESCRIPTIONS:
            answers.failures.append(_failure(item, outcome, videos_dir))
    return answers


def _failure(item: dict[str, Any], outcome: str, videos_dir: Path) -> dict[str, Any]:
    return {
        "video_id": str((videos_dir.resolve() / item["video_id"]).resolve()),
        "error_type": outcome,
        "question": item.get("question", ""),
        "ground_truth": item["gt"],
        "response": item["response"],
    }


def report(counts: Counter[str]) -> str:
    """The text of `kpi_gaps_report.txt`: a title and a boxed table of FP, FN and their total."""
    total = counts["FP"] + counts["FN"]
    rows = [
        ("Error Type", "Count", "Description"),
        *((name, str(counts[name]), text) for name, text in DESCRIPTIONS.items()),
        ("Total", str(total), ""),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    rule = "+".join(["", *("-" * (width + 2) for width in widths), ""])
    lines = [
        "|".join(["", *(f" {cell:<{width}} " for cell, width in zip(row, widths, strict=True)), ""])
        for row in rows
    ]
    table = [rule, lines[0], rule, *lines[1:], rule]
    return "\n".join(["KPI Gaps Report (binary ground truth: yes/no)", *table]) + "\n"


def summary(answers: Answers, n_items: int) -> dict[str, Any]:
    """The figures of `bcq_summary.json`; a rate without a denominator is None."""
    tp, tn, fp, fn = (answers.counts[name] for name in ("TP", "TN", "FP", "FN"))
    return {
        "n_items": n_items,
        "n_evaluated": tp + tn + fp + fn,
        "n_correct": tp + tn,
        "n_fp": fp,
        "n_fn": fn,
        "n_skipped": len(answers.skipped),
        "skipped": [vars(item) for item in answers.skipped],
        "accuracy": _ratio(tp + tn, tp + tn + fp + fn),
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
