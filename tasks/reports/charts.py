"""Charts of matplotlib that take the colours of the page they stand on: light, dark, or paper.

A chart is drawn in the colours of light ground; in an `<svg>` each becomes a variable of the page's style.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.artifacts import write_atomically
from tasks.reports.palette import PALETTE

INK, MUTED, GRID, GOOD, BAD, LINE, WARM, COOL, PINK = PALETTE.values()

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "deft",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
WIDTH, HEIGHT = 4.6, 2.9
"""Inches; so narrow that its letters can still be read on a phone."""

Draw = Callable[[Axes], None]


def svg(name: str, alternative: str, draw: Draw, *, width: float = WIDTH, height: float = HEIGHT) -> Markup:
    """The chart as an `<svg>` element.

    Args:
        name: of letters, digits and dashes, one for each chart of a page; it begins every id in it.
        alternative: what the chart shows, for who cannot see it.
        draw: draws on the axes, in colours of `PALETTE`.
        width: inches.
        height: inches.
    """
    stream = io.StringIO()
    with rc_context(STYLE):
        figure = _figure(draw, width, height)
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'\b(id="|href="#|url\(#)', lambda found: f"{found[1]}{name}-", text)
    for key, colour in PALETTE.items():
        text = text.replace(colour, f"var(--{key})")
    text = re.sub(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", _opening(alternative), text, count=1)
    return Markup(text.strip())  # noqa: S704 - every letter of it is escaped by matplotlib or below


def write_png(path: Path, draw: Draw, *, width: float = WIDTH, height: float = HEIGHT) -> Path:
    """Write the chart as a PNG on white, for who opens the file; equal figures give equal bytes."""
    with rc_context(STYLE):
        figure = _figure(draw, width, height)
        options: dict[str, Any] = {"dpi": 150, "facecolor": "white", "metadata": {"Software": None}}
        return write_atomically(path, lambda stream: figure.savefig(stream, format="png", **options))


def _figure(draw: Draw, width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    draw(figure.subplots())
    return figure


def _opening(alternative: str) -> Callable[[re.Match[str]], str]:
    label = Markup.escape(alternative)
    return lambda found: f'<svg {found[1]} role="img" aria-label="{label}"><title>{label}</title>'
