"""The report for paper: a cover, the settings, the charts."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator

from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from report_charts import LIGHT, WIDTH, Chart, style
from report_data import Results, clean, facts, settings, short

A4 = (8.27, 11.69)
MOST_ROWS = 56


def pdf(results: Results, charts: list[Chart]) -> bytes:
    """The document as a file."""
    written = io.BytesIO()
    title = f"Fine-tuning of {clean(str(results.config.get('model_id')))}"
    with style(LIGHT), PdfPages(written, metadata={"Title": title}) as document:
        for page in (_cover(results, charts), *_settings(results), *_chart_pages(charts)):
            document.savefig(page)
    return written.getvalue()


def _cover(results: Results, charts: list[Chart]) -> Figure:
    page, at = Figure(figsize=A4), 0.9
    page.text(0.1, at, "FINE-TUNING REPORT", fontsize=11, color=LIGHT["muted"])
    for line in textwrap.wrap(clean(str(results.config.get("model_short_name"))), 30):
        at -= 0.045
        page.text(0.1, at, line, fontsize=26, fontweight="bold")
    at -= 0.09
    page.text(0.1, at, clean(results.primary).replace("_", " "), fontsize=12, color=LIGHT["muted"])
    at -= 0.045
    page.text(0.1, at, results.from_to(), fontsize=22, color=LIGHT["accent"])
    at -= 0.03
    page.text(0.1, at, results.change() or results.no_baseline(), fontsize=12)
    at -= 0.05
    rows = facts(results) + ([("Weights & Biases", results.wandb)] if results.wandb else [])
    for name, value in rows:
        at -= 0.026
        page.text(0.1, at, name, fontsize=10, color=LIGHT["muted"])
        for line in textwrap.wrap(value, 62) or [""]:
            page.text(0.34, at, line, fontsize=10)
            at -= 0.018
        at += 0.018
    said = [f"{chart.title}: {chart.missing}" for chart in charts if chart.missing]
    at -= 0.05
    for line in said:
        page.text(0.1, at, line, fontsize=9, color=LIGHT["muted"])
        at -= 0.02
    return page


def _settings(results: Results) -> Iterator[Figure]:
    """The table of the settings, on as many pages as it needs."""
    rows = settings(results)
    many = math.ceil(len(rows) / math.ceil(len(rows) / MOST_ROWS))
    for start in range(0, len(rows), many):
        page = Figure(figsize=A4)
        page.text(0.1, 0.93, "Settings" if not start else "Settings, continued", fontsize=15)
        for row, (name, value) in enumerate(rows[start : start + many]):
            at = 0.9 - row * 0.0152
            page.text(0.1, at, short(name, 36), fontsize=8, color=LIGHT["muted"])
            page.text(0.42, at, short(value, 66), fontsize=8)
        yield page


def _chart_pages(charts: list[Chart]) -> Iterator[Figure]:
    """The charts under each other, as many to a page as fit."""
    left, room = [chart for chart in charts if chart.draw], A4[1] - 1.4
    while left:
        taken = [left.pop(0)]
        while left and sum(_on_paper(chart) for chart in (*taken, left[0])) <= room:
            taken.append(left.pop(0))
        heights = [min(_on_paper(chart), room) for chart in taken]
        page = Figure(figsize=A4, layout="constrained")
        share = sum(heights) / A4[1]
        page.get_layout_engine().set(rect=(0.1, 0.94 - share, 0.8, share))
        parts = page.subfigures(len(taken), 1, squeeze=False, height_ratios=heights)[:, 0]
        for chart, part in zip(taken, parts, strict=True):
            part.suptitle(f"{chart.title}\n", fontsize=13, x=0, ha="left")
            part.supxlabel(f"{chart.caption}\n", fontsize=8, x=0, ha="left")
            chart.draw(part)
        yield page


def _on_paper(chart: Chart) -> float:
    """Inches of a chart on a page, with its title and its caption."""
    return chart.height * 0.8 * A4[0] / WIDTH + 1.0
