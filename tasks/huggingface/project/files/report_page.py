"""The report as one HTML file that stands alone: no script, no address outside but that of the training."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from report_charts import DARK, LIGHT, Chart
from report_data import Results, Sample, clean, facts, figure, per_class, settings, words

STYLE = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
header, section { background: var(--card); border: 1px solid var(--grid); border-radius: .6rem;
  padding: 1.1rem; margin-bottom: 1rem; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 0 0 .7rem; font-size: 1.15rem; }
h3 { margin: 0 0 .4rem; font-size: 1rem; }
p { margin: .4rem 0; overflow-wrap: anywhere; }
.muted, dt, figcaption, th { color: var(--muted); }
.figures { font-size: 1.9rem; font-weight: 600; color: var(--accent); margin: .8rem 0 0; line-height: 1.2; }
a { color: var(--accent); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); gap: .5rem 1.5rem;
  margin: 1rem 0 0; }
dt { font-size: .85rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1rem; }
.charts section { margin: 0; min-width: 0; }
.charts { margin-bottom: 1rem; }
figure { margin: 0; }
img { display: block; width: 100%; height: auto; }
figcaption { font-size: .85rem; margin-top: .4rem; }
.sample { border-top: 1px solid var(--grid); padding: 1rem 0; }
.sample:last-child { padding-bottom: 0; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .8rem; align-items: start; }
@media (min-width: 50rem) { .seen { display: grid; grid-template-columns: 3fr 2fr; gap: 0 1.5rem; }
  .seen h3 { grid-column: 1 / -1; } }
.pair img { border-radius: .3rem; max-height: 24rem; object-fit: contain; object-position: 0 0; }
.small img { image-rendering: pixelated; }
.sample dl { grid-template-columns: repeat(auto-fit, minmax(min(10rem, 100%), 1fr)); gap: .3rem 1rem;
  margin: 0; align-content: start; }
.sample dl .wide { grid-column: 1 / -1; }
.said { white-space: pre-wrap; max-height: 24rem; overflow-y: auto; }
.scroll { overflow: auto; }
.tall { max-height: 40rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0;
  border-bottom: 1px solid var(--grid); }
th { font-weight: 500; }
td { overflow-wrap: anywhere; min-width: 6rem; white-space: pre-line; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
@media (max-width: 34rem) { main { padding: .5rem; } header, section { padding: .8rem; }
  h1 { font-size: 1.35rem; } .sample dl { margin-top: .5rem; } }
@media print { body { font-size: 10pt; } section { break-inside: avoid; } section.long { break-inside: auto; }
  .said, .tall { max-height: none; } }
"""
WIDE = 48
"""Characters; a longer value, or one of several lines, takes the whole width."""


def page(results: Results, charts: list[Chart], pictures: dict[str, bytes], dark: dict[str, bytes]) -> str:
    """The whole page.

    Args:
        results: what it tells.
        charts: in their order.
        pictures: the charts as PNG by name.
        dark: the same for dark pages.
    """
    title = clean(str(results.config.get("model_short_name")))
    figures = [_chart(one, pictures.get(one.name), dark.get(one.name)) for one in charts if one.on_page]
    parts = [
        _head(results, title),
        f'<div class="charts">\n{"".join(figures)}</div>',
        _samples(results.samples),
        _classes(results),
        _table("Settings", ("Setting", "Value"), settings(results)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}: fine-tuning report</title>\n<style>\n{_colours()}{STYLE}</style>\n"
        f"</head>\n<body>\n<main>\n{''.join(parts)}</main>\n</body>\n</html>\n"
    )


def _colours() -> str:
    grounds = (LIGHT | {"ground": "#f6f7f9"}, DARK | {"ground": "#14171b"})
    rules = [f":root {{ {' '.join(f'--{k}: {v};' for k, v in of.items())} }}" for of in grounds]
    return f"{rules[0]}\n@media (prefers-color-scheme: dark) {{ {rules[1]} }}\n"


def _head(results: Results, title: str) -> str:
    change = results.change() or results.no_baseline()
    link = ""
    if results.wandb:
        address = escape(results.wandb)
        link = f'<p>The training at Weights &amp; Biases: <a href="{address}">{address}</a></p>\n'
    return (
        f'<header>\n<p class="muted">Fine-tuning report</p>\n<h1>{escape(title)}</h1>\n'
        f'<p class="figures">{results.from_to()}</p>\n'
        f"<p><strong>{escape(clean(results.primary))}</strong>: {escape(change)}</p>\n"
        f"{_list(facts(results))}{link}</header>\n"
    )


def _list(rows: list[tuple[str, str]], kind: str = "") -> str:
    parts = []
    for name, value in rows:
        wide = ' class="wide"' if len(value) > WIDE or "\n" in value else ""
        parts.append(f"<div{wide}><dt>{escape(name)}</dt><dd{kind}>{escape(value)}</dd></div>\n")
    return f"<dl>\n{''.join(parts)}</dl>\n" if rows else ""


def _chart(chart: Chart, picture: bytes | None, dark: bytes | None) -> str:
    if not picture or not dark:
        inside = f'<p class="muted">{escape(chart.missing)}</p>'
    else:
        alternative = escape(f"Chart. {chart.title}: {chart.caption}")
        inside = (
            f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{_uri(dark, "png")}">'
            f'<img src="{_uri(picture, "png")}" alt="{alternative}"></picture>'
            f"<figcaption>{escape(chart.caption)}</figcaption></figure>"
        )
    return f"<section>\n<h2>{escape(chart.title)}</h2>\n{inside}\n</section>\n"


def _uri(content: bytes, form: str) -> str:
    return f"data:image/{form};base64,{base64.b64encode(content).decode()}"


def _samples(samples: list[Sample]) -> str:
    inside = "".join(_sample(sample) for sample in samples)
    inside = inside or '<p class="muted">infer.py left no samples.</p>\n'
    return f'<section class="long">\n<h2>Samples</h2>\n{inside}</section>\n'


def _sample(sample: Sample) -> str:
    pictures = [(sample.shown, "Input"), (sample.predicted, "Prediction")]
    shown = "".join(_picture(picture, what, sample.number) for picture, what in pictures if picture)
    pair = f'<div class="pair">{shown}</div>\n' if shown else ""
    seen = " seen" if shown else ""
    said = [(clean(name).replace("_", " "), clean(words(value))) for name, value in sample.meta.items()]
    text = _list([row for row in said if row[0] != "checkpoint"], ' class="said" dir="auto"')
    return f'<div class="sample{seen}">\n<h3>Sample {sample.number}</h3>\n{pair}{text}</div>\n'


def _picture(picture: Image.Image, what: str, number: int) -> str:
    written = io.BytesIO()
    picture.save(written, format="JPEG", quality=88)
    kind = ' class="small"' if picture.width < 160 else ""
    image = f'<img src="{_uri(written.getvalue(), "jpeg")}" alt="{what} of sample {number}">'
    return f"<figure{kind}>{image}<figcaption>{what}</figcaption></figure>"


def _classes(results: Results) -> str:
    rows = per_class(results)
    if not rows:
        return ""
    shown = [(clean(name), figure(before), figure(after)) for name, before, after in rows]
    return _table("By class", ("Class", "Baseline", "Fine-tuned"), shown, numbers=True)


def _table(
    title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, numbers: bool = False
) -> str:
    def cells(row: tuple[str, ...], tag: str) -> str:
        kinds = [' class="number"' if numbers and place else "" for place in range(len(row))]
        return "".join(f"<{tag}{k}>{escape(v)}</{tag}>" for k, v in zip(kinds, row, strict=True))

    body = "".join(f"<tr>{cells(row, 'td')}</tr>\n" for row in rows)
    head = f"<thead><tr>{cells(header, 'th')}</tr></thead>"
    return (
        f'<section class="long">\n<h2>{title}</h2>\n<div class="scroll{" tall" if numbers else ""}"><table>\n'
        f"{head}\n<tbody>\n{body}</tbody>\n</table></div>\n</section>\n"
    )
