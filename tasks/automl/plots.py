"""The charts of a sweep: all trials as lines across the parameters, the score by trial, importances.

Importing this imports matplotlib; do it where a chart is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from tasks.automl.files import Dimension, SweepFiles
from tasks.automl.trial import Row
from tasks.automl.words import metric_name
from tasks.reports import charts

BANDS = (charts.GOOD, charts.COOL, charts.WARM, charts.BAD)
"""Colours of the four quarters of the trials, best first."""
LINE_HEIGHT = 0.26


def parallel_coordinates(sweep: SweepFiles, name: str) -> Markup | None:
    """Every trial as a line across the parameters to its score; the winner is drawn on top.

    Each axis goes from the lower to the upper end of what was searched, logarithmic where the search was,
    with one level for each choice. On the score's axis the best stands on top. None without trials.
    """
    dimensions = sweep.dimensions
    if not sweep.trials or not dimensions:
        return None
    scores = [row.outcome.score for row in sweep.trials if row.outcome]

    def draw(axes: Axes) -> None:
        _axes(axes, dimensions, sweep, scores)
        bands = _bands(sweep)
        for row in sorted(sweep.trials, key=lambda one: (one.outcome is not None, -bands.get(one.number, 9))):
            if row is not sweep.winner:
                _line(axes, row, dimensions, sweep, scores, bands)
        if sweep.winner is not None:
            _line(axes, sweep.winner, dimensions, sweep, scores, None)

    text = f"{len(sweep.trials)} trials as lines across {', '.join(one.name for one in dimensions)} and score"
    return charts.svg(name, text, draw, width=max(7.0, 1.05 * (len(dimensions) + 1)), height=3.1)


def _axes(axes: Axes, dimensions: Sequence[Dimension], sweep: SweepFiles, scores: Sequence[float]) -> None:
    count = len(dimensions) + 1
    axes.set_xlim(-0.3, count - 0.45)
    axes.set_ylim(-0.12, 1.12)
    axes.grid(visible=False)
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", length=0, pad=2)
    unit = f", {sweep.metric.unit}" if sweep.metric.unit else ""
    names = [_wrapped(one.name) + ("\n(log)" if one.log else "") for one in dimensions]
    axes.set_xticks(range(count), [*names, f"{metric_name(sweep.metric.name)}{unit}"], parse_math=False)
    for number, one in enumerate(dimensions):
        axes.plot([number, number], [0, 1], color=charts.MUTED, linewidth=0.8, zorder=1)
        _ends(axes, number, one)
    axes.plot([count - 1, count - 1], [0, 1], color=charts.INK, linewidth=1.2, zorder=1)
    if scores:
        best, worst = _best_and_worst(sweep, scores)
        _label(axes, count - 1, 1, f"{best:.4g}", above=True)
        if worst != best:
            _label(axes, count - 1, 0, f"{worst:.4g}", above=False)


def _wrapped(name: str) -> str:
    """A long name on two lines."""
    text = _short(name, 24)
    cut = text.find("_", len(text) // 3)
    return f"{text[: cut + 1]}\n{text[cut + 1 :]}" if len(text) > 9 and cut > 0 else text


def _short(text: str, most: int = 14) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _ends(axes: Axes, number: int, one: Dimension) -> None:
    if one.type != "choice":
        _label(axes, number, 0, f"{one.low or 0:.3g}", above=False)
        _label(axes, number, 1, f"{one.high or 0:.3g}", above=True)
        return
    for choice in one.choices:
        place = one.position(choice) or 0.0
        axes.plot([number], [place], marker="_", color=charts.MUTED, markersize=6)
        axes.text(
            number + 0.07, place + 0.03, _short(str(choice)), color=charts.INK, fontsize=7, zorder=6,
            parse_math=False,
        )  # fmt: skip


def _label(axes: Axes, x: float, y: float, text: str, *, above: bool) -> None:
    axes.annotate(
        text, (x, y), xytext=(0, 4 if above else -4), textcoords="offset points", color=charts.MUTED,
        fontsize=7.5, ha="center", va="bottom" if above else "top",
    )  # fmt: skip


def _best_and_worst(sweep: SweepFiles, scores: Sequence[float]) -> tuple[float, float]:
    ends = sorted(scores, key=sweep.metric.key)
    return ends[0], ends[-1]


def _line(
    axes: Axes, row: Row, dimensions: Sequence[Dimension], sweep: SweepFiles, scores: Sequence[float],
    bands: Mapping[int, int] | None,
) -> None:  # fmt: skip
    points = [
        (number, place)
        for number, one in enumerate(dimensions)
        if (place := one.position(row.params.get(one.name))) is not None
    ]
    if row.outcome:
        best, worst = _best_and_worst(sweep, scores)
        place = 0.5 if best == worst else (row.outcome.score - worst) / (best - worst)
        points.append((len(dimensions), place))
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if bands is None:
        axes.plot(xs, ys, color=charts.INK, linewidth=2.6, marker="o", markersize=4.5, zorder=5)
    elif row.number in bands:
        axes.plot(xs, ys, color=BANDS[bands[row.number]], linewidth=1.4, alpha=0.85, zorder=3)
    else:
        axes.plot(xs, ys, color=charts.MUTED, linewidth=1, linestyle=(0, (3, 3)), alpha=0.7, zorder=2)


def _bands(sweep: SweepFiles) -> dict[int, int]:
    """The quarter of the ranking that each trial with a score is in, 0 for the best, by its number."""
    scored = [row for row in sweep.trials if row.outcome]
    order = sorted(scored, key=lambda row: sweep.metric.key(row.outcome.score) if row.outcome else 0.0)
    return {row.number: place * len(BANDS) // len(order) for place, row in enumerate(order)}


def score_by_trial(sweep: SweepFiles, name: str) -> Markup | None:
    """The score of each trial in order, the best so far as a line; None while no trial has a score."""
    scored = [(row, row.outcome.score) for row in sweep.rows if row.outcome]
    if not scored:
        return None
    first = [
        (row.number, score) for row, score in scored if row.source != "rerun" and row.state == "complete"
    ]
    again = [(row.number, score) for row, score in scored if row.source == "rerun"]
    refused = [(row.number, score) for row, score in scored if row.state == "collapsed"]
    without = [row.number for row in sweep.rows if row.ended and not row.outcome]

    def draw(axes: Axes) -> None:
        metric = sweep.metric
        if first:
            numbers, scores = zip(*first, strict=True)
            keys = np.minimum.accumulate([metric.key(score) for score in scores])
            so_far = [metric.key(float(key)) for key in keys]
            axes.step(numbers, so_far, where="post", color=charts.LINE, linewidth=1.8, label="best so far")
            axes.plot(numbers, scores, "o", color=charts.GOOD, markersize=5, label="trial", clip_on=False)
        _points(axes, again, "D", charts.WARM, "winner again, other seed")
        _points(axes, refused, "x", charts.BAD, "no use")
        if sweep.quality and sweep.quality.zero_shot is not None and sweep.quality.metric == metric:
            _start(axes, sweep.quality.zero_shot, [score for _, score in scored])
        for number in without:
            axes.axvline(number, color=charts.MUTED, linewidth=0.8, linestyle=(0, (1, 3)), zorder=0)
        unit = f" [{metric.unit}]" if metric.unit else ""
        axes.set_ylabel(f"{metric_name(metric.name)}{unit}")
        axes.set_xlabel("trial")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(*_room([score for _, score in scored], axes.get_ylim()))
        axes.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)

    best = min((score for _, score in scored), key=sweep.metric.key)
    text = f"score of {len(scored)} trials in order; the best is {best:.4g}"
    return charts.svg(name, text, draw, height=3.3)


def _start(axes: Axes, start: float, scores: Sequence[float]) -> None:
    """The score before the sweep; a figure alone where its line would press the others together."""
    room = (max(scores) - min(scores)) or abs(scores[0])
    if min(scores) - room <= start <= max(scores) + room:
        axes.axhline(start, color=charts.MUTED, linestyle=":", label=f"before the sweep: {start:.4g}")
    else:
        axes.plot([], [], " ", label=f"before the sweep: {start:.4g}, off the chart")


def _points(axes: Axes, points: Sequence[tuple[int, float]], marker: str, colour: str, label: str) -> None:
    if points:
        numbers, scores = zip(*points, strict=True)
        axes.plot(numbers, scores, marker, color=colour, markersize=5, label=label, clip_on=False)


def _room(scores: Sequence[float], limits: tuple[float, float]) -> tuple[float, float]:
    """Limits of an axis that begins at 0 where no figure is negative."""
    low, high = limits
    return (0.0, max(high, 1e-9)) if min(scores) >= 0 else (low, high)


def importance_bars(importance: Mapping[str, float], name: str) -> Markup | None:
    """How much each parameter had to do with a good score, as bars; None where that is not known."""
    if not importance:
        return None
    order = sorted(importance.items(), key=lambda one: one[1])

    def draw(axes: Axes) -> None:
        shares = [100 * share for _, share in order]
        axes.barh(range(len(order)), shares, color=charts.GOOD, height=0.6)
        axes.set_yticks(range(len(order)), [_short(name, 24) for name, _ in order], parse_math=False)
        for place, share in enumerate(shares):
            axes.text(share, place, f" {share:.0f} %", va="center", fontsize=8)
        axes.set_xlim(0, max(1.0, *shares) * 1.18)
        axes.set_xlabel("share of what made trials good [%]")
        axes.grid(visible=False, axis="y")

    text = "importance: " + ", ".join(f"{name} {share:.0%}" for name, share in reversed(order))
    return charts.svg(name, text, draw, height=max(1.4, 0.5 + LINE_HEIGHT * len(order)))
