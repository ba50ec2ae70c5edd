import html5lib
import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from tasks.reports import page
from tasks.reports.palette import DARK, PALETTE

TEMPLATE = """{% extends "page.html.j2" %}{% import "parts.html.j2" as parts %}
{% block title %}{{ title }}{% endblock %}
{% block body %}
<section>{{ parts.grid(["label", "n"], rows, [1]) }}{{ parts.facts([("Goal", title), ("None", none)]) }}
{{ parts.picture(none, "lost", "caption") }}{{ parts.picture("data:image/png;base64,AA==", title) }}
{{ parts.badge("MET", "met") }}</section>
{% endblock %}"""


def rendered(**context):
    return page._environment().from_string(TEMPLATE).render(light=PALETTE, dark=DARK, **context)


def test_a_page_is_valid_and_text_is_text():
    text = rendered(title='<script>"x"', rows=[["<b>", 1234], [Markup("<b>bold</b>"), None]])
    html5lib.HTMLParser(strict=True).parse(text)
    assert "<script" not in text
    assert "<b>bold</b>" in text
    assert "1,234" in text
    assert "http" not in text


def test_an_empty_table_says_so():
    assert "none yet" in rendered(title="x", rows=[])


def test_a_name_that_nobody_gave_is_an_error():
    with pytest.raises(UndefinedError, match="rows"):
        rendered(title="x")


def test_both_grounds_have_every_colour():
    assert set(DARK) == set(PALETTE)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "—"), (True, "yes"), (12345, "12,345"), (0.123456, "0.1235"), ("text", "text"), (0.0, "0")],
)
def test_figures_for_a_person(value, shown):
    assert page.figure(value) == shown


def test_units_and_signs():
    assert page.figure(4.5, "%") == "4.5 %"
    assert page.signed(-0.25, "pp") == "-0.25 pp"
    assert page.signed(None, "pp") == "—"
