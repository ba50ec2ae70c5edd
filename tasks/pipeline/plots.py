"""The chart of a trajectory: the measured stages of one set and one metric, in order.

Importing this imports matplotlib; do it where a chart is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.axes import Axes

from tasks.automl.words import metric_name
from tasks.pipeline.facts import Stage
from tasks.reports import charts


def trajectory(stages: Sequence[Stage], names: Sequence[str], delivered: int | None, name: str) -> Markup:
    """The stages from top to bottom, a dot each; the delivered one stands out.

    Args:
        stages: all of one set and one metric, at least one.
        names: what people call them.
        delivered: place of the stage whose model is delivered.
        name: of the chart.
    """
    first = stages[0]
    unit = f" [{first.unit}]" if first.unit else ""
    better = "lower" if first.smaller_is_better else "higher"

    def draw(axes: Axes) -> None:
        places = list(range(len(stages)))
        values = [stage.value for stage in stages]
        axes.plot(values, places, color=charts.MUTED, linewidth=1, zorder=1)
        for place, stage in enumerate(stages):
            chosen = place == delivered
            axes.plot(
                stage.value, place, "D" if chosen else "o", color=charts.LINE if chosen else charts.GOOD,
                markersize=8 if chosen else 6, zorder=2,
            )  # fmt: skip
            text = f"{stage.value:.4g}" + (", delivered" if chosen else "")
            axes.annotate(text, (stage.value, place), xytext=(7, 4), textcoords="offset points", fontsize=8.5)
        low, high = min(values), max(values)
        room = (high - low) or abs(high) or 1.0
        axes.set_xlim((0.0 if low >= 0 else low) - 0.04 * room, high + 0.42 * room)
        axes.set_yticks(places, names, parse_math=False)
        axes.set_ylim(len(stages) - 0.5, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"{metric_name(first.metric)}{unit}, {better} is better")

    told = ", ".join(f"{called} {stage.value:.4g}" for called, stage in zip(names, stages, strict=True))
    alternative = f"{metric_name(first.metric)} on the {first.set} set: {told}"
    return charts.svg(name, alternative, draw, height=max(1.5, 0.7 + 0.42 * len(stages)))
