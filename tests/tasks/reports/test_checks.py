import json

import pytest

from tasks.errors import StageFailed
from tasks.reports.checks import (
    Finding,
    Section,
    file_findings,
    log_findings,
    section_findings,
    word_findings,
    write_validation,
)

REPORT = """# Title

## 1. Verdict

The threshold finds every defect.

## 2. Numbers

| label | n |
|---|---|
| PASS | 3 |
"""


def texts(findings):
    return [(one.level, one.text) for one in findings]


def test_a_report_that_holds():
    expected = [
        Section(heading="Verdict", keywords=("threshold",), words=5),
        Section(heading="Numbers", rows=1),
    ]
    assert section_findings(REPORT, expected) == []


def test_what_sections_lack():
    expected = [
        Section(heading="Verdict", keywords=("recall",)),
        Section(heading="Numbers", rows=2),
        Section(heading="Actions"),
    ]
    assert texts(section_findings(REPORT, expected)) == [
        ("warn", "Verdict: no word of 'recall'"),
        ("warn", "Verdict: 5 words and no table, expected 25 words"),
        ("warn", "Numbers: 1 rows in its tables, expected 2"),
        ("error", "section 'Actions' is missing"),
    ]


def test_words_of_tables_do_not_make_a_report_too_long():
    assert word_findings(REPORT, 14, 10) == []
    assert texts(word_findings(REPORT, 50, 60)) == [
        ("warn", "14 words, 10 outside of tables; expected 50 to 60")
    ]


def test_files_that_are_missing_or_empty(tmp_path):
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").touch()
    assert [one.text for one in file_findings(tmp_path, ["a", "b", "c"])] == [
        f"{tmp_path / 'b'} is missing or empty",
        f"{tmp_path / 'c'} is missing or empty",
    ]


@pytest.mark.parametrize(
    ("said", "finding"),
    [
        ("Traceback (most recent call last):\n  File", ("error", "a.log: traceback")),
        ("loss nan", ("warn", "a.log: NaN")),
        ("RuntimeError: No CUDA GPUs are available", ("error", "a.log: no GPU")),
        ("", ("warn", "a.log is empty")),
    ],
)
def test_what_a_log_says(tmp_path, said, finding):
    log = tmp_path / "a.log"
    log.write_text(said)
    assert texts(log_findings([log])) == [finding]


def test_a_log_of_a_good_run(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("Threshold: 0.5\nExecution status: PASS\n")
    assert log_findings([log]) == []


def test_warnings_do_not_fail_a_report(tmp_path):
    path = write_validation(tmp_path, [Finding(level="warn", check="words", text="short")], {"words": 3})
    content = json.loads(path.read_text())
    assert content == {
        "status": "warn",
        "findings": [{"level": "warn", "check": "words", "text": "short"}],
        "words": 3,
    }


def test_errors_do_and_the_file_says_them(tmp_path):
    with pytest.raises(StageFailed, match=r"the report does not hold: no threshold; see .*validation\.json"):
        write_validation(tmp_path, [Finding(level="error", check="files", text="no threshold")])
    assert json.loads((tmp_path / "validation.json").read_text())["status"] == "error"
