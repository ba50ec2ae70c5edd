"""The charts of a loop's report. What is drawn once is kept: a loop draws its report after every stage.

Importing this imports matplotlib; do it where a chart is drawn.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from tasks.deft.report.files import Scored
from tasks.deft.report.projection import Map
from tasks.deft.stages import FINAL
from tasks.evaluation.plots import SQUARE, confusion_matrix, score_distribution
from tasks.gap_analysis.scores import FloatArray
from tasks.gap_analysis.sweep import OperatingPoint
from tasks.reports import charts

ZOOM = 90.0
"""Per cent of recall from which on the curves are shown: below it nobody would run a line."""
STYLES = (
    (charts.MUTED, "--"),
    (charts.GOOD, "-"),
    (charts.BAD, "-."),
    (charts.LINE, (0, (5, 1))),
    (charts.WARM, "-"),
    (charts.PINK, "--"),
    (charts.COOL, "-."),
)
MOST_TYPES = 14
TICKS = 240
"""Marks of one strip at most: nearer ones would lie on each other."""
ORIGINS = (
    ("base", "base", charts.MUTED),
    ("mined", "mined", charts.GOOD),
    ("sdg", "synthetic", charts.WARM),
)


@lru_cache(maxsize=64)
def histogram(name: str, scored: Scored, threshold: float | None) -> Markup:
    """How PASS and defect samples score, with the threshold."""
    return charts.svg(
        name,
        "Histogram of the scores of PASS and defect samples with the threshold",
        lambda axes: score_distribution(axes, scored.scores, scored.is_pass, threshold),
    )


@lru_cache(maxsize=64)
def matrix(name: str, point: OperatingPoint) -> Markup:
    """The confusion matrix of an operating point."""
    alternative = (
        f"Confusion matrix: {point.tp} defects found, {point.fn} missed, "
        f"{point.fp} false alarms, {point.tn} samples let pass"
    )
    return charts.svg(name, alternative, lambda axes: confusion_matrix(axes, point), **SQUARE)


@lru_cache(maxsize=16)
def curves(name: str, phases: tuple[tuple[str, Scored], ...]) -> Markup | None:
    """The false-alarm rate that each recall costs, near recall 100 %, one line for each phase."""
    lines = [(label, *_far_by_recall(scored)) for label, scored in phases if scored.kpi]
    if not lines:
        return None

    def draw(axes: Axes) -> None:
        for number, (label, recall, far) in enumerate(lines):
            colour, style = STYLES[number % len(STYLES)]
            axes.step(recall, far, where="pre", color=colour, linestyle=style, linewidth=1.6, label=label)
            axes.plot(recall[-1], far[-1], "o", color=colour, markersize=4, clip_on=False)
        top = max(float(far[recall >= ZOOM].max()) for _, recall, far in lines)
        axes.set(xlim=(ZOOM, 100.15), ylim=(0, max(1.0, 1.15 * top)))
        axes.set(xlabel="recall: defects found (%)", ylabel="FAR: false alarms (%)")
        axes.legend(fontsize=8)

    return charts.svg(name, "False-alarm rate against recall, a line for each phase", draw)


def _far_by_recall(scored: Scored) -> tuple[FloatArray, FloatArray]:
    """Recall and the lowest FAR that reaches it, both in per cent, recall ascending; few points."""
    assert scored.kpi is not None
    points = scored.kpi.points
    recall, far = 100 * points.recall[::-1], 100 * points.far[::-1]
    # Of equal recalls the first has the highest threshold, so the fewest false alarms.
    kept = np.unique(recall, return_index=True)[1]
    recall, far = recall[kept], far[kept]
    start = max(0, int(np.searchsorted(recall, ZOOM)) - 1)
    recall, far = recall[start:], far[start:]
    if recall.size > TICKS:
        chosen = np.unique(np.linspace(0, recall.size - 1, TICKS).astype(int))
        recall, far = recall[chosen], far[chosen]
    return recall, far


@lru_cache(maxsize=16)
def progress(
    name: str,
    phases: tuple[tuple[str, float, tuple[float, float] | None], ...],
    target: float,
    metric: str,
    unit: str,
) -> Markup:
    """The primary metric of every phase with its 95 % interval where there is one, and the target."""

    def draw(axes: Axes) -> None:
        values = [value for _, value, _ in phases]
        loop = [number for number, (label, _, _) in enumerate(phases) if label != FINAL]
        axes.axhline(target, color=charts.LINE, linestyle="--", linewidth=1.3, label=f"target {target:g}")
        axes.plot(loop, [values[number] for number in loop], color=charts.GOOD, linewidth=1.5)
        for number, (label, value, interval) in enumerate(phases):
            if interval:
                axes.vlines(number, *interval, color=charts.MUTED, linewidth=1.2)
                axes.hlines(interval, number - 0.06, number + 0.06, color=charts.MUTED, linewidth=1.2)
            marker = "D" if label == FINAL else "o"
            axes.plot(number, value, marker, color=charts.GOOD, markersize=6)
            axes.annotate(f"{value:.4g}", (number, value), (7, 4), textcoords="offset points", fontsize=8.5)
        ends = [target, *values, *(end for _, _, interval in phases if interval for end in interval)]
        low, high = min(ends), max(ends)
        margin = 0.08 * (high - low or abs(high) or 1.0)
        axes.set(xlim=(-0.4, len(phases) - 0.4), ylim=(low - margin, high + 1.8 * margin))
        axes.set_xticks(range(len(phases)), [label for label, _, _ in phases])
        axes.set(ylabel=f"{metric} ({unit})" if unit else metric)
        axes.legend(fontsize=8, loc="upper right")

    return charts.svg(name, f"{metric} of every phase beside the target", draw, width=5.2)


@lru_cache(maxsize=16)
def growth(name: str, phases: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]) -> Markup:
    """The training rows of every phase, stacked by where they come from."""

    def draw(axes: Axes) -> None:
        bottom = np.zeros(len(phases))
        for origin, shown, colour in ORIGINS:
            counts = np.array([dict(found).get(origin, 0) for _, found in phases], dtype=float)
            if counts.any():
                axes.bar(range(len(phases)), counts, 0.6, bottom=bottom, color=colour, label=shown)
            bottom += counts
        for number, total in enumerate(bottom):
            axes.annotate(f"{total:,.0f}", (number, total), (0, 3), textcoords="offset points", ha="center")
        axes.set_xticks(range(len(phases)), [label for label, _ in phases])
        axes.set(ylabel="training rows", ylim=(0, 1.12 * float(bottom.max() or 1)))
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=3)

    return charts.svg(name, "Training rows of every phase by origin", draw)


@lru_cache(maxsize=16)
def strips(name: str, scored: Scored, threshold: float | None) -> Markup:
    """The scores of PASS and of each defect type as a strip of marks beside the threshold."""
    of_label = {
        label: scored.scores[scored.rows.label_of == number]
        for number, label in enumerate(scored.rows.labels)
    }
    defects = sorted((label for label in of_label if label != "PASS"), key=lambda one: of_label[one].min())
    shown = ["PASS", *defects[:MOST_TYPES]] if "PASS" in of_label else defects[:MOST_TYPES]
    low, high = float(scored.scores.min()), float(scored.scores.max())

    def draw(axes: Axes) -> None:
        for row, label in enumerate(reversed(shown)):
            values = of_label[label]
            marks = (
                np.unique(np.round((values - low) / (high - low or 1.0) * TICKS)) / TICKS * (high - low) + low
            )
            colour = charts.GOOD if label == "PASS" else charts.BAD
            axes.hlines(row, values.min(), values.max(), color=colour, linewidth=1, alpha=0.5)
            axes.vlines(marks, row - 0.28, row + 0.28, color=colour, linewidth=1.1)
        if threshold is not None:
            axes.axvline(threshold, color=charts.INK, linewidth=1.3, label=f"threshold {threshold:.4g}")
            axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        names = [label if label == "PASS" else _short(label.lower()) for label in reversed(shown)]
        axes.set_yticks(range(len(shown)), names)
        axes.set(xlabel="score", ylim=(-0.6, len(shown) - 0.4))
        axes.grid(visible=False, axis="y")

    height = 1.0 + 0.27 * len(shown)
    return charts.svg(name, "Scores of PASS and of each defect type", draw, width=5.2, height=height)


@lru_cache(maxsize=16)
def embeddings(name: str, points: Map) -> Markup:
    """Weak samples, what was mined for them and the rest of the pool, by their two main directions."""

    def draw(axes: Axes) -> None:
        groups = (
            (points.rest, "rest of the pool", charts.MUTED, ".", 2.5, 0.45),
            (points.weak, "weak samples", charts.BAD, "x", 4, 1.0),
            (points.mined, "mined now", charts.GOOD, "o", 4, 0.9),
        )
        for at, shown, colour, marker, size, alpha in groups:
            axes.plot(at[:, 0], at[:, 1], marker, color=colour, markersize=size, alpha=alpha, label=shown)
        axes.set(xlabel="first direction", ylabel="second direction")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.13), ncols=3, columnspacing=1)

    alternative = "Map of weak samples, mined samples and the rest of the pool"
    return charts.svg(name, alternative, draw, width=5.2, height=3.8)


def _short(text: str, most: int = 22) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
