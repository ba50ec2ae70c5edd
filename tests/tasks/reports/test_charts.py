import re

import html5lib
from PIL import Image

from tasks.reports.charts import BAD, GOOD, svg, write_png
from tasks.reports.palette import PALETTE


def draw(axes):
    axes.bar(["PASS", "<b>&"], [3, 1], color=[GOOD, BAD])
    axes.set_xlabel("label $x_1$")


def test_a_chart_takes_the_colours_of_its_page():
    chart = svg("bars", "Rows by label", draw)
    assert "var(--good)" in chart
    assert "var(--bad)" in chart
    assert not any(colour in chart for colour in PALETTE.values())


def test_a_chart_is_html_that_stands_alone():
    chart = svg("bars", 'of "<script>"', draw)
    html5lib.HTMLParser(strict=True).parse(f"<!DOCTYPE html><title>x</title>{chart}")
    assert "http" not in chart
    assert "<style" not in chart
    assert "<script" not in chart
    assert "&lt;b&gt;&amp;" in chart


def test_two_charts_on_one_page_share_no_id():
    ids = [set(re.findall(r'id="([^"]*)"', svg(name, "x", draw))) for name in ("one", "two")]
    assert ids[0]
    assert not ids[0] & ids[1]
    chart = svg("one", "x", draw)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', chart)) <= ids[0]


def test_equal_figures_give_equal_bytes(tmp_path):
    assert svg("bars", "x", draw) == svg("bars", "x", draw)
    one, two = (write_png(tmp_path / name, draw) for name in ("one.png", "two.png"))
    assert one.read_bytes() == two.read_bytes()
    with Image.open(one) as picture:
        assert picture.size == (690, 435)
        assert picture.getpixel((0, 0))[:3] == (255, 255, 255)
