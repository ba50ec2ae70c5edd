"""What a finished gap analysis is about: its operating point or counts, and where the model is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.action import Headline
from tasks.artifacts import read_json
from tasks.embedding.tables import read_parquet
from tasks.gap_analysis import vcn_files
from tasks.gap_analysis.spec import BcqSpec, VcnSpec
from tasks.headlines import MOST_PICTURES
from tasks.reports.words import counted, share

MOST_FAILURES = 10
LABEL_COLUMNS = (
    "Label",
    "Samples",
    "On the wrong side",
    "Median weakness",
    "Worst weakness (above 0: on the wrong side)",
)
FAILURE = {
    "video_id": "Video",
    "error_type": "Error",
    "question": "Question",
    "ground_truth": "Truth",
    "response": "Answer",
}
"""Keys of `kpi_gaps.jsonl`, each with its name for people."""


def vcn_headline(spec: VcnSpec) -> Headline:
    """What the threshold does, and where the model is wrong or nearly so, the worst label first."""
    facts = read_json(spec.results_dir / vcn_files.METRICS)
    counts = facts["confusion_matrix"]
    defects, good = counts["tp"] + counts["fn"], counts["fp"] + counts["tn"]
    labels = sorted(
        facts["per_label"].items(), key=lambda item: (-item[1]["n_misclassified"], -item[1]["max_weakness"])
    )
    pictures = _weakest(spec.results_dir / vcn_files.SAMPLES)
    return Headline(
        f"At threshold {facts['threshold']:.4g} the model finds {share(counts['tp'], defects)} defects and "
        f"raises a false alarm on {share(counts['fp'], good)} good samples; the "
        f"{counted(facts['n_kept_samples'], 'weakest sample')} are kept for what comes next.",
        LABEL_COLUMNS,
        [
            (name, one["total"], one["n_misclassified"], one["median_weakness"], one["max_weakness"])
            for name, one in labels
        ],
        pictures,
        f"The {len(pictures)} weakest samples, from left to right, the weakest first:",
    )


def bcq_headline(spec: BcqSpec) -> Headline:
    """How many answers were right, and the first failures (spec gap-analysis B.5)."""
    facts = read_json(spec.results_dir / "bcq_summary.json")
    failures: list[dict[str, Any]] = []
    if facts["n_fp"] + facts["n_fn"]:
        with (spec.results_dir / "kpi_gaps.jsonl").open(encoding="utf-8") as lines:
            failures = [json.loads(line) for line, _ in zip(lines, range(MOST_FAILURES), strict=False)]
    shown = f" The first {len(failures)} wrong ones:" if failures else ""
    return Headline(
        f"{share(facts['n_correct'], facts['n_evaluated'])} answers are right; "
        f"{facts['n_fp']:,} say yes where the truth is no (FP), "
        f"{facts['n_fn']:,} say no where it is yes (FN); "
        f"skipped, as no clear yes or no: {share(facts['n_skipped'], facts['n_items'])} items.{shown}",
        tuple(FAILURE.values()),
        [[row.get(name) for name in FAILURE] for row in failures],
    )


def _weakest(parquet: Path) -> list[Path]:
    """The pictures of the weakest samples of all labels."""
    columns = ["weakness", "first_filepath"]
    table = read_parquet(parquet, "weak samples", columns=columns, required=columns, may_be_empty=True)
    ordered = table.sort_by([("weakness", "descending")]).slice(0, MOST_PICTURES)
    return [Path(path) for path in ordered["first_filepath"].to_pylist()]
