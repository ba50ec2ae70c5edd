"""The charts of a report: each can be drawn for a light page, a dark one, and the PDF."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.rcsetup import cycler
from matplotlib.ticker import MaxNLocator

from report_data import (
    Results,
    Sample,
    clean,
    figure,
    is_share,
    metrics_of,
    points,
    short,
)

WIDTH = 6.0
"""Inches of a chart; so narrow that its letters can be read on a phone."""
LIGHT = {"ink": "#1b1f24", "muted": "#667080", "grid": "#e2e6ea", "card": "#ffffff", "accent": "#0072b2"}
DARK = {"ink": "#e6e9ed", "muted": "#98a2b0", "grid": "#2f363f", "card": "#1c2026", "accent": "#4aa8e0"}
TUNED, EVALUATION, RATE, BASELINE = "C0", "C1", "C2", "C3"
"""Places in the cycle of colours, which is another on a dark page."""
STEPS = {"integer": True, "min_n_ticks": 1, "steps": [1, 2, 5, 10]}


@dataclass
class Chart:
    """A chart: what it shows, and how it is drawn; without `draw`, `missing` says why there is none."""

    name: str
    title: str
    caption: str
    height: float = 3.4
    draw: Callable[[FigureBase], None] | None = None
    missing: str = ""
    on_page: bool = True  # the HTML shows the samples themselves instead of their chart


def charts_of(results: Results) -> list[Chart]:
    """The charts in the order of the report."""
    return [
        _loss(results),
        _learning_rate(results),
        _metrics(results),
        _comparison(results),
        _pictures(results.samples),
    ]


def png(chart: Chart, *, dark: bool = False) -> bytes:
    """The chart as a PNG."""
    with style(DARK if dark else LIGHT):
        page = Figure(figsize=(WIDTH, chart.height), layout="constrained")
        chart.draw(page)
        written = io.BytesIO()
        page.savefig(written, format="png", dpi=160)
    return written.getvalue()


def style(colours: dict[str, str]) -> Any:
    """The look of charts and pages in these colours, as a context."""
    warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the HTML has those letters
    return rc_context(
        {
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 10,
            "text.parse_math": False,  # a dollar in a name is a dollar
            "text.color": colours["ink"],
            "axes.labelcolor": colours["ink"],
            "axes.edgecolor": colours["muted"],
            "axes.facecolor": "none",
            "axes.prop_cycle": cycler(color=[colours["accent"], "#d55e00", "#009e73", "#98a2b0"]),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.titlesize": 10,
            "grid.color": colours["grid"],
            "xtick.color": colours["muted"],
            "ytick.color": colours["muted"],
            "xtick.labelcolor": colours["ink"],
            "ytick.labelcolor": colours["ink"],
            "legend.frameon": False,
            "figure.facecolor": colours["card"],
            "pdf.fonttype": 42,
        }
    )


def _loss(results: Results) -> Chart:
    chart = Chart("chart_loss", "Loss", "The loss on the training batches and on the evaluation rows.")
    trained, evaluated = points(results.state, "loss"), points(results.state, "eval_loss")
    if not trained[0] and not evaluated[0]:
        chart.missing = "The training left no logged loss in trainer_state.json."
        return chart
    if not evaluated[0]:
        chart.caption = "The loss on the training batches; none was evaluated during the training."
    best = results.state.get("best_global_step")

    def draw(page: FigureBase) -> None:
        axes = page.subplots()
        _line(axes, *trained, TUNED, "training")
        if evaluated[0]:
            axes.plot(*evaluated, color=EVALUATION, marker="o", markersize=5, label="evaluation")
        if best:
            axes.axvline(best, color=EVALUATION, linestyle=":", label=f"best checkpoint, step {best}")
        axes.set(xlabel="training step", ylabel="loss")
        axes.xaxis.set_major_locator(MaxNLocator(**STEPS))
        axes.legend()

    chart.draw = draw
    return chart


def _line(axes: Axes, steps: list[float], values: list[float], colour: str, label: str) -> None:
    """A line; of many points a pale one, under their running mean."""
    if not steps:
        return
    if len(steps) <= 60:
        marker = "o" if len(steps) <= 20 else None
        axes.plot(steps, values, color=colour, marker=marker, markersize=4, label=label)
        return
    half = max(len(steps) // 40, 2)
    around = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    axes.plot(steps, values, color=colour, alpha=0.3, linewidth=0.8)
    means = [sum(window) / len(window) for window in around]
    axes.plot(steps, means, color=colour, label=f"{label}, mean of {2 * half + 1} entries")


def _learning_rate(results: Results) -> Chart:
    chart = Chart("chart_lr", "Learning rate", "The learning rate as the scheduler set it.", 2.8)
    steps, rates = points(results.state, "learning_rate")
    if not steps:
        chart.missing = "The training left no logged learning rate in trainer_state.json."
        return chart

    def draw(page: FigureBase) -> None:
        axes = page.subplots()
        axes.plot(steps, rates, color=RATE, marker="o" if len(steps) <= 20 else None, markersize=4)
        axes.set(xlabel="training step", ylabel="learning rate")
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        axes.set_ylim(0, 1.05 * max(rates) or 1)
        axes.xaxis.set_major_locator(MaxNLocator(**STEPS))

    chart.draw = draw
    return chart


def _metrics(results: Results) -> Chart:
    chart = Chart("chart_metrics", "Metrics", f"Of the trained model. {_counts(results)}")
    return _bars(chart, {"fine-tuned": metrics_of(results.evaluation)}, results.primary)


def _comparison(results: Results) -> Chart:
    chart = Chart("chart_baseline", "Before and after", f"The same metrics. {_counts(results)}")
    if results.baseline is None:
        chart.missing = results.no_baseline()
        return chart
    before, after = metrics_of(results.baseline), metrics_of(results.evaluation)
    shared = [name for name in after if name in before]
    both = {"baseline": before, "fine-tuned": after}
    return _bars(chart, {k: {name: of[name] for name in shared} for k, of in both.items()}, results.primary)


def _counts(results: Results) -> str:
    direction = "higher" if results.higher_is_better else "lower"
    return f"What counts is {clean(results.primary)}: {direction} is better."


def _bars(chart: Chart, series: dict[str, dict[str, float]], primary: str) -> Chart:
    """Bars of each metric in each series: shares on one axis, every other metric on its own."""
    names = list(next(iter(series.values())))
    if not names:
        chart.missing = "No metric is a finite number."
        return chart
    shares = [name for name in names if is_share(name, [of[name] for of in series.values()])]
    panels = [*([shares] if shares else []), *([name] for name in names if name not in shares)]
    heights = [0.45 + len(panel) * (0.16 + 0.26 * len(series)) for panel in panels]

    def draw(page: FigureBase) -> None:
        grid = page.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
        for axes, panel in zip(grid[:, 0], panels, strict=True):
            _panel(axes, panel, series, primary)
            if panel is shares:
                axes.set(xlim=(0, 1.12), xticks=[0, 0.25, 0.5, 0.75, 1])
        if len(series) > 1:
            handles, labels = grid[0, 0].get_legend_handles_labels()
            page.legend(handles, labels, loc="outside upper right", ncols=len(series))

    chart.height = 0.5 + sum(heights)
    chart.draw = draw
    return chart


def _panel(axes: Axes, names: list[str], series: dict[str, dict[str, float]], primary: str) -> None:
    thick = 0.8 / len(series)
    for place, (label, values) in enumerate(series.items()):
        middles = [row + (place - (len(series) - 1) / 2) * thick for row in range(len(names))]
        colour = TUNED if place == len(series) - 1 else BASELINE
        bars = axes.barh(middles, [values[name] for name in names], thick * 0.9, color=colour, label=label)
        axes.bar_label(bars, [figure(values[name]) for name in names], padding=4, fontsize=9)
    labels = ["\n".join(textwrap.wrap(clean(name).replace("_", " "), 18)) for name in names]
    axes.set_yticks(range(len(names)), labels)
    for name, shown in zip(names, axes.get_yticklabels(), strict=True):
        shown.set_fontweight("bold" if name == primary else "normal")
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    every = [0.0, *(of[name] for of in series.values() for name in names)]
    room = 0.2 * (max(every) - min(every)) or 1.0
    below = min(every) < 0
    axes.set_xlim(min(every) - room if below else 0, max(every) + room)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    if below:
        axes.axvline(0, color=matplotlib.rcParams["axes.edgecolor"], linewidth=0.8)


def _pictures(samples: list[Sample]) -> Chart:
    chart = Chart(
        "chart_samples", "Samples", "What the trained model was shown, and its prediction.", on_page=False
    )
    seen = [sample for sample in samples if sample.shown or sample.predicted]
    if not samples:
        chart.missing = "infer.py left no samples."
    elif not seen:
        chart.missing = "The samples of this task are texts; report.html holds them."
    if chart.missing:
        return chart
    heights = [0.3 + max(_height(one.shown), _height(one.predicted)) for one in seen]

    def draw(page: FigureBase) -> None:
        grid = page.subplots(len(seen), 2, squeeze=False, height_ratios=heights)
        for row, sample in zip(grid, seen, strict=True):
            _show(row[0], sample.shown, f"sample {sample.number}")
            _show(row[1], sample.predicted, _said(sample))

    chart.height = sum(heights) + 0.2
    chart.draw = draw
    return chart


def _height(picture: Any) -> float:
    """Inches that a picture takes in a column."""
    return min((WIDTH / 2 - 0.2) * picture.height / picture.width, 2.6) if picture else 0.5


def _said(sample: Sample) -> str:
    """Prediction and truth, where they are short."""
    parts = [(name, sample.meta.get(name)) for name in ("prediction", "truth")]
    said = [f"{name}: {clean(value)}" for name, value in parts if isinstance(value, str)]
    both = ", ".join(said) or "prediction"
    return both if len(both) <= 42 else short(said[0], 42)


def _show(axes: Axes, picture: Any, title: str) -> None:
    axes.set_axis_off()
    axes.set_anchor("NW")
    axes.set_title(title, fontsize=8, loc="left")
    if picture:
        axes.imshow(picture)
    else:
        axes.text(0, 0.5, "no picture", transform=axes.transAxes)
