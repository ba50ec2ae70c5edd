"""What a finished measurement is about: the metric, whether it is enough, and how sure it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.action import Headline
from tasks.artifacts import read_json
from tasks.evaluation.contract import METRICS, MetricContract, MetricResult

NAME = {METRICS["far"]: "False-alarm rate (FAR)"}
WORDS = {"<": "less than", "<=": "at most", ">": "more than", ">=": "at least"}
NAMES = {
    "recall_pct": "Recall, %",
    "precision": "Precision",
    "f1": "F1",
    "auc": "Area under the ROC curve",
    "far_pct_at_recall_99_5": "False-alarm rate if 0.5 % of the defects may be missed, %",
    "far_pct_at_2nd_lowest_defect": "False-alarm rate without the lowest-scoring defect, %",
    "far_pct_at_3rd_lowest_defect": "False-alarm rate without the two lowest-scoring defects, %",
}


def headline(result_json: Path, contract: MetricContract, distribution: Path) -> Headline:
    """The value beside its target, its counts with the interval, and what it hangs on."""
    result = MetricResult.model_validate(read_json(result_json))
    verdict = "passed" if contract.passed(result) else "not passed"
    found = result.diagnostics
    unit = f" {result.unit}" if result.unit else ""
    at = "" if result.threshold is None else f", at threshold {result.threshold:.4g}"
    return Headline(
        f"{NAME.get(contract.name, contract.display_name)} {result.value:.4g}{unit}, {verdict} "
        f"(wanted: {WORDS[contract.operator]} {contract.target:g}{unit}){at}.",
        ("What", "Value"),
        [
            *_counts(found),
            *((name, found[key]) for key, name in NAMES.items() if key in found),
            *_lowest(found),
        ],
        [distribution],
        "How many good samples and defects have which score; the line is the threshold:",
    )


def _counts(found: dict[str, Any]) -> list[tuple[str, object]]:
    """False alarms as counts, with the interval that so few samples leave open."""
    if "far_counts" not in found:
        return []
    rows: list[tuple[str, object]] = [("False alarms of good samples", str(found["far_counts"]))]
    if "far_wilson_95_pct" in found:
        low, high = found["far_wilson_95_pct"]
        rows.append(("False-alarm rate, 95 % Wilson interval", f"{low:.2f} to {high:.2f} %"))
    return rows


def _lowest(found: dict[str, Any]) -> list[tuple[str, object]]:
    """The defect that is hardest to find, on which the figure hangs."""
    one = found.get("lowest_defect")
    if not isinstance(one, dict) or "score" not in one:
        return []
    # A slash, as in a path: the server's page makes a sign of multiplication of an x between two words.
    sample = "/".join(str(one[key]) for key in ("input_path", "object_name") if key in one)
    return [
        ("The defect with the lowest score", f"{one.get('label', '')} {sample}: {one['score']:.4g}".strip())
    ]
