"""Sections 3 to 6 of the RCA report: weakness by label, the weakest samples, and what they look like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.dataset.table import PASS
from tasks.gap_analysis.report.facts import Facts, of, percent
from tasks.gap_analysis.spot_check.judges import MEANINGS, PENDING, VERDICTS
from tasks.gap_analysis.vcn_files import BREAKDOWN
from tasks.reports.markdown import NONE, code, escaped, image, table
from tasks.reports.words import counted

JUDGES = {
    "rules": "Fixed rules on image statistics gave the verdicts (too dark, flat or of odd size: data "
    "quality; so "
    "near the threshold that it could be either: edge case). They are a first sorting, not a person's eye.",
    "vlm": "A vision-language model gave the verdicts; where it did not answer, fixed rules did.",
    "manual": "A person gives the verdicts; until then a sample is pending review. Fill "
    "spot_check_verdicts.csv and run the spot check again: the analysis itself is not run again.",
    "none": "Nobody looked at the pictures: the settings ask for no judge.",
}


def distribution(facts: Facts) -> str:
    """Section 3: the statistics of every label of the CSV."""
    rows = [
        (
            name,
            one["total"],
            one["mean_weakness"],
            one["median_weakness"],
            one["max_weakness"],
            one["n_misclassified"],
        )
        for name, one in facts.labels.items()
    ]
    header = (
        "Label", "Total Samples", "Mean Weakness", "Median Weakness", "Max Weakness", "# Misclassified"
    )  # fmt: skip
    return "\n\n".join(
        [
            "Weakness is how far a score lies on the wrong side of the threshold, in units of the score: for "
            "a "
            "good sample the score less the threshold, for a defect the threshold less the score. Above 0 "
            "the "
            "sample is misclassified; at or below 0 it is on the right side, and the nearer to 0 the closer "
            f"the call. {_nearest(facts)}",
            table(header, rows),
        ]
    )


def weakest(facts: Facts) -> str:
    """Section 4: every kept sample, one table for each label, weakest first."""
    if not facts.kept:
        return (
            "No sample was kept: with no limit of samples for each label (filter mode) only misclassified "
            "samples are, and there is none. To have the weakest samples ranked, with their siamese_score "
            "and "
            "weakness, set top_k_per_label to a positive number and run the analysis again."
        )
    parts = [
        "One row for each sample, however many lightings it was photographed in; within a label the weakest "
        "comes first. siamese_score is what the model gave; weakness is its distance to the threshold "
        f"{facts.threshold:.4g}, above 0 on the wrong side."
    ]
    for name, samples in facts.kept.items():
        total = facts.labels[name]["total"]
        parts.append(
            f"### {escaped(name)}: {len(samples):,} of {counted(total, 'sample')}\n\n{_samples(samples)}"
        )
    return "\n\n".join(parts)


def spot_check(facts: Facts) -> str:
    """Section 5: the weakest samples as pictures, each with a verdict."""
    if facts.spot is None:
        return (
            "No spot check was made in this folder, so there are no pictures and no verdict on any sample. "
            "Run the spot check on it, and the report is rendered again with a table of pictures here; the "
            "figures stay as they are."
        )
    judge = str(facts.spot["judge"])
    words = ", ".join(f"{name} ({MEANINGS[name]})" for name in VERDICTS)
    return "\n\n".join(
        [
            "The weakest good samples and the weakest defects, at most five of each, in their first lighting "
            f"only. {JUDGES.get(judge, f'Judge: {escaped(judge)}.')} A verdict says why the model is weak "
            f"there: {words}.",
            *_shortfall(facts.spot),
            _pictures(facts.spot_rows),
            _tally(facts),
        ]
    )


def breakdown(facts: Facts) -> str:
    """Section 6: what `weak_samples_breakdown.txt` says, as a table."""
    metrics, kept = facts.metrics, facts.metrics["n_kept_samples"]
    top_k = metrics["top_k_per_label"]
    rows = []
    for name, samples in facts.kept.items():
        wrong = sum(bool(sample["misclassified"]) for sample in samples)
        rows.append((name, len(samples), percent(len(samples), kept), wrong, len(samples) - wrong))
    return "\n\n".join(
        [
            f"Weak samples by label at threshold {facts.exact_threshold}, top_k_per_label "
            f"{'null' if top_k is None else top_k}, as in {code(BREAKDOWN)}. Total KPI samples: "
            f"{metrics['n_total']:,}. Total weak samples kept: {kept:,}. Marginal samples are on the right "
            "side "
            "of the threshold, the nearest of their label; misclassified ones are on the wrong side.",
            table(("Label", "Kept", "Share of kept", "Misclassified", "Marginal"), rows),
        ]
    )


def narrative(facts: Facts) -> str:
    """One line for each label: its share, its worst sample, and how far that is from the threshold."""
    lines = []
    for name, one in facts.labels.items():
        wrong, total = one["n_misclassified"], one["total"]
        samples = facts.kept.get(name)
        worst = f"; its weakest sample is {escaped(_path(samples[0]))}" if samples else ""
        distance = abs(one["max_weakness"])
        side = "on the wrong side of" if one["max_weakness"] > 0 else "inside"
        place = f"{distance:.4g} {side} the threshold" if distance else "exactly at the threshold"
        action = "flagged although good" if name == PASS else "missed although defective"
        lines.append(
            f"- {escaped(name)}: {of(wrong, total)} misclassified ({action}), "
            f"{percent(total, facts.metrics['n_total'])} of all samples{worst}, with the score {place}, "
            "while a "
            f"typical sample of the label has a weakness of {one['median_weakness']:.4g}."
        )
    return "Label by label:\n\n" + "\n".join(lines)


def _path(sample: dict[str, Any]) -> str:
    return f"{sample['input_path']}/{sample['object_name']}"


def _nearest(facts: Facts) -> str:
    name, one = max(facts.labels.items(), key=lambda each: each[1]["max_weakness"])
    if one["max_weakness"] > 0:
        return (
            f"The weakest sample of all is of {escaped(name)}, {one['max_weakness']:.4g} on the wrong side."
        )
    return f"No label is on the wrong side; {escaped(name)} comes nearest, {-one['max_weakness']:.4g} away."


def _samples(samples: Sequence[dict[str, Any]]) -> str:
    rows = [
        (
            one["label"],
            one["object_name"],
            one["input_path"],
            one["siamese_score"],
            one["weakness"],
            bool(one["misclassified"]),
        )
        for one in samples
    ]
    return table(("Label", "object_name", "input_path", "siamese_score", "weakness", "misclassified?"), rows)


def _shortfall(spot: dict[str, Any]) -> list[str]:
    told = [text for text in (spot.get("shortfall"), spot.get("note")) if text]
    return [" ".join(f"{escaped(text[0].upper() + text[1:])}." for text in told)] if told else []


def _pictures(rows: Sequence[dict[str, Any]]) -> str:
    shown = [
        (
            row["label"],
            row["object_name"],
            row["siamese_score"],
            row["weakness"],
            image(f"{row['label']} {row['object_name']}", row["image"]) if row["image"] else None,
            row["verdict"] or None,
            ": ".join(filter(None, (row["origin"], row.get("reason")))) or None,
        )
        for row in rows
    ]
    header = ("Label", "object_name", "siamese_score", "weakness", "Test Image", "Verdict", "Given by")
    return table(header, shown)


def _tally(facts: Facts) -> str:
    counts = {name: len(facts.spot_of(name)) for name in (*VERDICTS, PENDING)}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    unseen = sum(not row["image"] for row in facts.spot_rows)
    text = f"In short: {told or 'no verdict'}."
    return f"{text} {NONE} stands where a picture could not be read ({unseen})." if unseen else text
