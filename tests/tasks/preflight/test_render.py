"""The summary as markdown."""

import re

from tasks.preflight.execution import summarise
from tasks.preflight.registry import SECTIONS
from tasks.preflight.render import render
from tasks.preflight.subject import SpaceRow


def test_nine_sections_in_order_and_the_token_last(subject_of):
    summary = summarise(subject_of())
    text = render(summary)
    heads = re.findall(r"^## (\d)\. (.+)$", text, re.MULTILINE)
    assert heads == [(str(number), title) for number, title in SECTIONS.items()]
    assert "**Ready for approval.**" in text
    assert text.endswith(f"Token: `{summary.token}`\n")


def test_every_table_has_as_many_cells_in_each_row(subject_of):
    lines = render(summarise(subject_of())).splitlines()
    for table in re.findall(r"(?:^\|.*\n?)+", "\n".join(lines), re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


def test_blockers_come_first(subject_of):
    text = render(summarise(subject_of(phase3={"warm_start": None})))
    assert text.index("phase3.warm_start") < text.index("## 1.")
    assert "**Blocked**: 1 things" in text
    assert "Ready for approval" not in text


def test_an_invalid_gate_says_which_checks_are_missing(subject_of, tmp_path):
    text = render(summarise(subject_of(workspace=tmp_path / "no")))
    assert "**Not valid**" in text
    assert "`data.kpi_labels`" in text.split("## 1.")[0]


def test_a_mode_says_which_sections_it_has_not(subject_of):
    assert "Not part of mode loop_only (loop)." in render(summarise(subject_of(mode="loop_only")))


def test_text_from_outside_cannot_break_the_page(subject_of):
    row = SpaceRow(parameter="a|b", role="searched", reason="<script>alert(1)</script>\n# head")
    text = render(summarise(subject_of(phase1={"space": (row,)})))
    assert "a\\|b" in text
    assert not re.search(r"(?<!\\)<script", text)
    assert "\n# head" not in text
