"""Section 7 of the RCA report: what to relabel, augment, ship or review, each by a rule (spec A.8)."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath
from typing import Any, Literal, NamedTuple

from tasks.gap_analysis.report.facts import (
    EDGE_CASE,
    MISLABELED,
    SYSTEMATIC,
    Facts,
    of,
    percent,
)
from tasks.gap_analysis.spot_check.judges import PENDING
from tasks.gap_analysis.vcn_files import GAPS
from tasks.reports.markdown import code, escaped, table
from tasks.reports.words import counted

MANY_EDGE_CASES = 0.6


class ThresholdAction(NamedTuple):
    """What to do about the threshold, and why that and not another thing."""

    choice: Literal["a", "b", "c"]
    reason: str


def actions(facts: Facts) -> str:
    """Section 7."""
    return "\n\n".join(
        f"### {heading}\n\n{text}"
        for heading, text in (
            ("Relabel", _relabel(facts)),
            ("Augment", _augment(facts)),
            ("Threshold", _threshold(facts)),
            ("Systematic failures", _systematic(facts)),
        )
    )


def threshold_action(facts: Facts) -> ThresholdAction:
    """(c) ship where the KPI is met; (b) relax where most of what is wrong is ambiguous; else (a) retrain."""
    kpi = facts.inputs.kpi
    if kpi is not None and kpi.met:
        return ThresholdAction("c", f"the KPI ({escaped(kpi.contract)}) is met by these scores")
    wrong = [row for row in facts.spot_rows if row["misclassified"]]
    ambiguous = sum(row["verdict"] == EDGE_CASE for row in wrong)
    unmet = "the KPI is not met" if kpi is not None else "no KPI result says that this model is good enough"
    if not wrong:
        return ThresholdAction("a", f"{unmet}, and the spot check saw no misclassified sample")
    many = ambiguous >= MANY_EDGE_CASES * len(wrong)
    seen = f"{of(ambiguous, len(wrong))} misclassified samples of the spot check are edge cases"
    unseen = " (say fixed rules; no person has looked)" if facts.judge == "rules" else ""
    return ThresholdAction("b" if many else "a", f"{unmet}, and {seen}{unseen}")


def _relabel(facts: Facts) -> str:
    rows = facts.spot_of(MISLABELED)
    pending = len(facts.spot_of(PENDING))
    later = f" {counted(pending, 'sample')} still await a person's verdict." if pending else ""
    if not rows:
        return f"Nothing to relabel: no sample of the spot check was judged mislabeled.{later}"
    named = "\n".join(f"- {escaped(_sample(row))} (labelled {escaped(row['label'])})" for row in rows)
    return f"Have a person check and correct the label of {counted(len(rows), 'sample')}:{later}\n\n{named}"


def _augment(facts: Facts) -> str:
    metrics, lightings = facts.metrics, facts.lightings
    samples, files = metrics["n_kept_samples"], metrics["n_kept_rows"]
    if not samples:
        return f"Nothing to augment: {code(GAPS)} holds no rows. Set a positive top_k_per_label for a queue."
    text = (
        f"{samples:,} samples × {counted(lightings, 'lighting')} = {files:,} file paths stand in "
        f"{code(GAPS)}. The next "
        "step is routing: it decides which of them look for similar real samples in the pool (mining) and "
        "which serve to paint synthetic defects (generation)."
    )
    if metrics["queue_usable"]:
        return text
    return f"{text} No defect is among them, so this queue cannot be used: set a positive top_k_per_label."


def threshold_words(facts: Facts) -> dict[str, str]:
    """The three actions in words."""
    return {
        "a": "retrain with the augmented set, then run this analysis again",
        "b": "relax the recall target, after a person has agreed that these samples are truly ambiguous",
        "c": f"ship at this threshold ({facts.threshold:.4g})",
    }


def _threshold(facts: Facts) -> str:
    choice, reason = threshold_action(facts)
    words = threshold_words(facts)
    others = "; ".join(f"({name}) {text}" for name, text in words.items() if name != choice)
    return (
        f"**({choice}) {words[choice][0].upper()}{words[choice][1:]}**, because {reason}. Not chosen: "
        f"{others}. The rule: (c) if the KPI is met, else (b) if at least {percent(MANY_EDGE_CASES)} of the "
        "misclassified samples of the spot check are edge cases, else (a)."
    )


def _systematic(facts: Facts) -> str:
    rows = facts.spot_of(SYSTEMATIC)
    if not rows:
        return "None to review: no sample of the spot check was judged systematic."
    files = {(one["input_path"], one["object_name"]): one["first_filepath"] for one in facts.samples}
    groups = Counter((row["label"], _family(facts, row), _lighting(row, files)) for row in rows)
    told = table(
        ("Label", "Component family", "Lighting", "Samples"),
        [(*group, count) for group, count in groups.most_common()],
    )
    return (
        f"{counted(len(rows), 'sample')} of the spot check: nothing is wrong with picture or label that the "
        "judge "
        "could find, yet the model is weak there. Who reviews the model should look at these groups for a "
        "cue "
        f"that it got wrong (a shadow, a component it rarely saw, a lighting):\n\n{told}"
    )


def _sample(row: dict[str, Any]) -> str:
    return f"{row['input_path']}/{row['object_name']}"


def _family(facts: Facts, row: dict[str, Any]) -> str:
    """The family that the CSV says, or else the first folder of the sample."""
    if known := facts.inputs.families.get(_sample(row)):
        return known
    parts = [part for part in PurePath(row["input_path"]).parts if part != "/"]
    return parts[0] if parts else row["input_path"]


def _lighting(row: dict[str, Any], files: dict[tuple[str, str], str]) -> str | None:
    file = files.get((row["input_path"], row["object_name"]))
    if file is None:
        return None
    return PurePath(file).stem.removeprefix(row["object_name"]).removeprefix("_") or "single view"
