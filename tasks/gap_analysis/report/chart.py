"""The chart of the RCA report: how good samples and defects are scored, and where the threshold lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.artifacts import sha256_of
from tasks.gap_analysis.report.facts import Facts
from tasks.gap_analysis.scores import FloatArray, ScoredRows, read_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHART = "score_histogram.png"
BINS = 50
WIDE = 100.0
"""Scores whose largest is that many times the smallest stand on a logarithmic axis."""


def write_chart(facts: Facts) -> Path | None:
    """Draw the scores of the CSV that was analysed; None, and an older chart stays, where it is not there.

    Raises:
        InputError: the CSV cannot be read.
    """
    from tasks.reports import charts

    source = facts.metrics.get("inputs", {}).get("inference_csv")
    if not source or not _same(Path(source["path"]), source["sha256"]):
        return None
    rows = read_scores(Path(source["path"]), required=())
    log = _wide(rows.scores)

    def draw(axes: Axes) -> None:
        bins = _bins(rows.scores, log)
        _bars(axes, rows, bins, charts.GOOD, charts.BAD)
        threshold = facts.threshold
        if not log or threshold > 0:
            axes.axvline(threshold, color=charts.INK, linewidth=1.2, linestyle="--")
            axes.set_title(f"dashed: threshold {threshold:.4g}; to its right samples are called defects")
        if log:
            axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=1)
        axes.margins(y=0.35)  # room for the legend above the bars
        axes.minorticks_off()
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
        axes.set_xlabel("score" + (" (logarithmic)" if log else ""))
        axes.set_ylabel("samples (logarithmic)")
        axes.legend(loc="upper center", ncols=2)

    return charts.write_png(facts.folder / CHART, draw, width=6.4, height=3.0)


def _same(file: Path, sha256: str) -> bool:
    return file.is_file() and sha256_of(file) == sha256


def _wide(scores: FloatArray) -> bool:
    return bool(scores.min() > 0 and scores.max() / scores.min() > WIDE)


def _bins(scores: FloatArray, log: bool) -> FloatArray:
    low, high = float(scores.min()), float(scores.max())
    if log:
        return np.geomspace(low, high, BINS + 1)
    return np.linspace(low, high if high > low else low + 1.0, BINS + 1)


def _bars(axes: Axes, rows: ScoredRows, bins: FloatArray, good: str, bad: str) -> None:
    for which, colour, name in (
        (rows.is_pass, good, "good (PASS)"),
        (~rows.is_pass, bad, "defects (NO_PASS)"),
    ):
        counts = np.histogram(rows.scores[which], bins)[0]
        label = f"{name}: {np.count_nonzero(which):,}"
        axes.stairs(counts, bins, fill=True, color=colour, alpha=0.65, label=label)
