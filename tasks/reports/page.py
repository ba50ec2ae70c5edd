"""A report as one HTML file that stands alone: no address outside, no script; dark, light, phone, paper."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tasks.artifacts import write_text
from tasks.reports.markdown import NONE
from tasks.reports.palette import DARK, PALETTE


def write_page(path: Path, template: str, **context: Any) -> Path:
    """Render a template of `templates/` and write it; text is escaped, absent names are errors."""
    return write_text(path, render(template, **context))


def render(template: str, **context: Any) -> str:
    """The page; a template extends `page.html.j2` and fills its blocks."""
    return _environment().get_template(template).render(light=PALETTE, dark=DARK, **context)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tasks.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(figure=figure, signed=signed)
    return environment


def figure(value: object, unit: str = "") -> str | Markup:
    """A value for a person: `—` where there is none, four figures, thousands with commas."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else value
    if isinstance(shown, Markup):
        return shown
    return f"{shown} {unit}" if unit else str(shown)


def signed(value: float | None, unit: str = "") -> str:
    """A difference with its sign."""
    return NONE if value is None else f"{value:+.4g} {unit}".rstrip()
