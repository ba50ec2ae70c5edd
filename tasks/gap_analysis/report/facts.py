"""The facts of an RCA report, read from the folder of an analysis."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tasks.artifacts import existing_file, read_json
from tasks.dataset.table import PASS
from tasks.gap_analysis.report.inputs import ReportInputs, read_inputs
from tasks.gap_analysis.vcn_files import METRICS, SAMPLES, SPOT_CHECK
from tasks.reports.markdown import NONE

MISLABELED, EDGE_CASE, SYSTEMATIC = "mislabeled", "edge case", "systematic"


@dataclass(frozen=True)
class Facts:
    """What an analysis that reached its target left.

    Attributes:
        metrics: metrics.json.
        samples: the rows of weak_samples.parquet, label groups together, weakest first.
        spot: spot_check.json; None where no spot check was made.
    """

    folder: Path
    metrics: dict[str, Any]
    samples: list[dict[str, Any]]
    spot: dict[str, Any] | None
    inputs: ReportInputs

    @property
    def threshold(self) -> float:
        """A sample with a score above it is called a defect."""
        return float(self.metrics["threshold"])

    @property
    def exact_threshold(self) -> str:
        """The threshold as `threshold.txt` has it."""
        return repr(self.threshold)

    @property
    def labels(self) -> dict[str, dict[str, Any]]:
        """The statistics of every label of the CSV, upper case, the one with the weakest sample first."""
        return dict(self.metrics["per_label"])

    @property
    def counts(self) -> dict[str, int]:
        """The confusion matrix: tp, fp, tn, fn."""
        return dict(self.metrics["confusion_matrix"])

    @property
    def misclassified(self) -> int:
        """Samples on the wrong side of the threshold, over all labels."""
        return sum(int(one["n_misclassified"]) for one in self.labels.values())

    @property
    def lightings(self) -> int:
        """Images of a sample; 0 where no sample was kept."""
        kept = self.metrics["n_kept_samples"]
        return int(self.metrics["n_kept_rows"] // kept) if kept else 0

    @cached_property
    def kept(self) -> dict[str, list[dict[str, Any]]]:
        """The kept samples by label, upper case."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for sample in self.samples:
            groups.setdefault(sample["label"].strip().upper(), []).append(sample)
        return groups

    @property
    def judge(self) -> str | None:
        """Who gave the verdicts of the spot check."""
        return str(self.spot["judge"]) if self.spot else None

    @property
    def spot_rows(self) -> list[dict[str, Any]]:
        """The samples that were looked at."""
        return list(self.spot["rows"]) if self.spot else []

    def spot_of(self, verdict: str) -> list[dict[str, Any]]:
        """The samples that got this verdict."""
        return [row for row in self.spot_rows if row["verdict"] == verdict]


def read_facts(folder: Path) -> Facts:
    """Read the folder of an analysis.

    Raises:
        InputError: metrics.json or weak_samples.parquet is missing or cannot be read.
    """
    metrics = read_json(folder / METRICS)
    source = metrics.get("inputs", {}).get("inference_csv", {}).get("path")
    spot = folder / SPOT_CHECK
    return Facts(
        folder=folder,
        metrics=metrics,
        samples=pq.read_table(existing_file(folder / SAMPLES, "weak samples")).to_pylist(),
        spot=read_json(spot) if spot.is_file() else None,
        inputs=read_inputs(folder, Path(source) if source else None),
    )


def experiment(folder: Path) -> str:
    """A name that a person recognises: workspace, run and phase of `.../rca_results/<clock>`."""
    place = folder.absolute()
    inside = place.parent.parent if place.parent.name == "rca_results" else place
    names = [name for name in inside.parts[-4:] if name not in ("/", "results")]
    run = next((number for number, name in enumerate(names) if re.match(r"run_\d{8}", name)), None)
    names = names[max(run - 1, 0) :] if run is not None else names[-2:]
    return " / ".join(names) or str(folder)


def of(part: int, whole: int) -> str:
    """`7 of 154 (4.5 %)`; without a whole, only that there is none."""
    return f"{part:,} of {whole:,} ({percent(part, whole)})" if whole else f"{part:,} of 0"


def percent(part: float, whole: float = 1.0) -> str:
    """A share in percent, so many digits that it is never rounded to none or to all."""
    if not whole:
        return NONE
    share = 100.0 * part / whole
    shown = f"{share:.1f}"
    if (shown == "0.0" and share) or (shown == "100.0" and share != 100.0):
        shown = f"{share:.4g}" if share < 1 else f"{share:.6g}"
    return f"{shown.removesuffix('.0')} %"


def defects_in(facts: Facts) -> tuple[int, int]:
    """How many defects and how many good samples the CSV has."""
    good = int(facts.labels.get(PASS, {}).get("total", 0))
    return int(facts.metrics["n_total"]) - good, good
