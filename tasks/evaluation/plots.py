"""The pictures of a KPI analysis: score distribution and confusion matrices (spec deft-loop 5.2).

The draw functions are shared with the loop's report. Importing this imports matplotlib; do it where a
chart is drawn.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from tasks.evaluation.action import PLOTS
from tasks.evaluation.kpi import FarAtRecall
from tasks.gap_analysis.scores import BoolArray, FloatArray
from tasks.gap_analysis.sweep import OperatingPoint, best, feasible
from tasks.reports import charts

BINS = 40
MANY = 30
"""From this many samples in one bar on, counts are drawn on a logarithmic scale, or single samples vanish."""

SQUARE = {"width": 3.6, "height": 2.9}


def write_plots(folder: Path, scores: FloatArray, is_pass: BoolArray, kpi: FarAtRecall) -> None:
    """Write the three PNG files of `evaluation far_at_recall` into `folder`; equal scores give equal bytes.

    The threshold is the one at recall 100 %, whatever recall the metric contract asks for.
    """
    distribution, at_full_recall, at_best_f1 = (folder / name for name in PLOTS)
    full = full_recall(kpi)
    charts.write_png(distribution, lambda axes: score_distribution(axes, scores, is_pass, full.threshold))
    for path, point in ((at_full_recall, full), (at_best_f1, kpi.best_f1)):
        charts.write_png(path, partial(confusion_matrix, point=point), **SQUARE)


def full_recall(kpi: FarAtRecall) -> OperatingPoint:
    """The operating point at recall 100 %."""
    return kpi.points.at(best(kpi.points, feasible(kpi.points, 1.0))[0])


def score_distribution(axes: Axes, scores: FloatArray, is_pass: BoolArray, threshold: float | None) -> None:
    """How many PASS and defect samples have which score, and where the threshold lies.

    Args:
        axes: drawn on.
        scores: siamese scores, finite.
        is_pass: for every score whether it is of a PASS sample.
        threshold: scores above it are called defects; None draws no line.
    """
    ends = [float(scores.min()), float(scores.max()), *([] if threshold is None else [threshold])]
    low, high = min(ends), max(ends)
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    most = 0
    for chosen, colour, name in ((is_pass, charts.GOOD, "PASS"), (~is_pass, charts.BAD, "defects")):
        counts, _ = np.histogram(scores[chosen], edges)
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.55, label=f"{name} ({chosen.sum():,})")
        axes.stairs(counts, edges, color=colour, linewidth=1)
        most = max(most, int(counts.max()))
    if most >= MANY:
        axes.set_yscale("log")
        axes.set_ylim(0.7, most * 1.6)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if threshold is not None:
        axes.axvline(threshold, color=charts.INK, linewidth=1.4, label=f"threshold {threshold:.4g}")
    axes.set(xlabel="score (high: differs from the golden picture)", ylabel="samples")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=3, fontsize=8, columnspacing=1)


def confusion_matrix(axes: Axes, point: OperatingPoint) -> None:
    """The four counts of an operating point, each with its share of its row."""
    passes, defects = point.fp + point.tn, point.tp + point.fn
    cells = (
        (0, 1, point.tp, defects, "defects found", charts.LINE),
        (1, 1, point.fn, defects, "defects missed", charts.BAD),
        (0, 0, point.fp, passes, "false alarms", charts.WARM),
        (1, 0, point.tn, passes, "let pass", charts.GOOD),
    )
    for column, row, count, of, name, colour in cells:
        share = count / of if of else 0.0
        axes.add_patch(
            Rectangle((column, row), 0.97, 0.97, color=colour, alpha=0.12 + 0.4 * share, linewidth=0)
        )
        axes.text(column + 0.485, row + 0.58, f"{count:,}", ha="center", va="center", fontsize=15)
        text = f"{name}\n{100 * share:.4g} % of {of:,}"
        axes.text(column + 0.485, row + 0.25, text, ha="center", va="center", fontsize=8, color=charts.INK)
    axes.set(
        xlim=(0, 2), ylim=(0, 2), xlabel=f"predicted at threshold {point.threshold:.4g}", ylabel="actual"
    )
    axes.set_xticks([0.485, 1.485], ["defect", "PASS"])
    axes.set_yticks([1.485, 0.485], ["defect", "PASS"], rotation=90, va="center")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
