from hypothesis import given
from hypothesis import strategies as st
from markdown import markdown

from tasks.reports.markdown import cell, code, escaped, image, sections, table, table_rows, word_count

ANYTHING = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=40)


def shown(text):
    return markdown(text, extensions=["tables"])


@given(ANYTHING)
def test_text_in_a_cell_makes_no_tag_and_no_cell(text):
    page = shown(table(["label", "n"], [[text, 3]]))
    assert page.count("<td>") == 2
    assert "<script" not in page
    assert "<img" not in page


def test_a_label_that_is_a_script_is_text():
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown(table(["a"], [["<script>alert(1)</script>"]]))


def test_cells_of_all_kinds():
    values = [None, True, False, 1234567, 0.123456, "a|b", code("x|y"), image("one", "rca images/1.png")]
    assert [cell(value) for value in values] == [
        "—",
        "yes",
        "no",
        "1,234,567",
        "0.1235",
        "a\\|b",
        "`x\\|y`",
        "![one](<rca images/1.png>)",
    ]


def test_code_that_holds_a_backquote():
    assert code("a`b") == "``a`b``"


@given(st.lists(st.tuples(ANYTHING, st.integers(0, 99)), max_size=5))
def test_what_is_written_can_be_read(rows):
    read = table_rows(table(["label", "n"], rows))
    assert [one[1] for one in read] == [cell(number) for _, number in rows]
    assert [one[0] for one in read] == [escaped(text) for text, _ in rows]


def test_sections_by_heading_without_number():
    found = sections("# Title\n\n## 1. Verdict\nGood.\n\n### 1.1 Part\nmore\n\n## 2 Inputs\n| a |\n")
    assert list(found) == ["Verdict", "Inputs"]
    assert "more" in found["Verdict"]


def test_words_with_and_without_tables():
    text = "Two words.\n| a | b |\n|---|---|\n| 1.5 | x |\n"
    assert word_count(text, tables=False) == 2
    assert word_count(text) == 6
