import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.errors import TargetUnreachable
from tasks.gap_analysis.report import REPORT, render
from tasks.gap_analysis.report.checks import findings_of

ROWS = [
    *((0.01 * number, "PASS") for number in range(30)),
    *((0.25 + 0.01 * number, "open" if number % 2 else "short") for number in range(20)),
]


@pytest.fixture
def folder(analysed, looked_at, inference):
    """An analysis with all that belongs to it but the chart, which takes time to draw."""
    folder = looked_at(analysed(ROWS))
    inference.csv.unlink()
    (folder / "vcn_aoi.log").write_text("Threshold: 0.24\nExecution status: PASS\n")
    render(folder)
    return folder


def edit(name, old, new, count=-1):
    """A change of a text file."""

    def change(folder):
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, count), encoding="utf-8")

    return change


def edit_json(name, change):
    def changed(folder):
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return changed


def log(text):
    return lambda folder: (folder / "vcn_aoi.log").write_text(text)


def without_rows(folder):
    file = folder / "kpi_gaps.parquet"
    pq.write_table(pq.read_table(file).slice(0, 0), file)


def without_column(folder):
    file = folder / "kpi_gaps.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["weakness"]), file)


def without_section_rows(heading, start="| "):
    """The table rows of a section are gone."""

    def change(folder):
        file = folder / REPORT
        before, head, after = file.read_text(encoding="utf-8").partition(heading)
        section, rest = after.split("\n## ", 1) if "\n## " in after else (after, "")
        kept = "\n".join(line for line in section.splitlines() if not line.startswith(start))
        file.write_text(f"{before}{head}{kept}\n\n## {rest}", encoding="utf-8")

    return change


ERRORS = {
    "no metrics": ("files", lambda folder: (folder / "metrics.json").unlink()),
    "no gaps": ("files", lambda folder: (folder / "kpi_gaps.parquet").unlink()),
    "no breakdown": ("files", lambda folder: (folder / "weak_samples_breakdown.txt").unlink()),
    "no threshold": ("files", lambda folder: (folder / "threshold.txt").unlink()),
    "no rows": ("parquet", without_rows),
    "no column": ("parquet", without_column),
    "gaps that are no parquet": ("parquet", lambda folder: (folder / "kpi_gaps.parquet").write_text("x")),
    "metrics that are no JSON": ("metrics", lambda folder: (folder / "metrics.json").write_text("{")),
    "no figure": ("metrics", edit_json("metrics.json", lambda found: found.pop("f1"))),
    "no labels": ("metrics", edit_json("metrics.json", lambda found: found.update(per_label={}))),
    "no number": ("threshold", lambda folder: (folder / "threshold.txt").write_text("0.24 or so")),
    "other threshold": ("threshold", lambda folder: (folder / "threshold.txt").write_text("0.25")),
    "two thresholds": ("threshold", edit(REPORT, "| Chosen threshold | `", "| Chosen threshold | `1")),
    "section missing": ("sections", edit(REPORT, "## 3. Weakness Distribution", "Weakness")),
    "confusion matrix": ("sums", edit_json("metrics.json", lambda found: found.update(n_total=51))),
    "label totals": ("sums", edit_json("metrics.json", lambda found: found["per_label"].pop("OPEN"))),
    "misclassified": (
        "sums",
        edit_json("metrics.json", lambda found: found["per_label"]["PASS"].update(n_misclassified=9)),
    ),
    "no verdict": (
        "spot check", edit_json("spot_check.json", lambda found: found["rows"][0].update(verdict="fine"))
    ),
    "pending without a person": (
        "spot check",
        edit_json("spot_check.json", lambda found: found["rows"][0].update(verdict="pending review")),
    ),
    "says unreachable": ("log", log("no threshold achieves recall >= 1.0\n")),
    "traceback": ("log", log("Traceback (most recent call last)\n")),
}  # fmt: skip

WARNINGS = {
    "no spot check": ("spot check", lambda folder: (folder / "spot_check.json").unlink()),
    "pictures gone": ("spot check", lambda folder: shutil.rmtree(folder / "rca_images")),
    "word missing": ("sections", edit(REPORT, "F1", "F-one")),
    "too few rows": ("sections", without_section_rows("## 4. Top-K Weakest Samples")),
    "no pictures in the report": ("sections", edit(REPORT, "![", "[")),
    "label not in the table": ("labels", edit(REPORT, "| OPEN | 10 | -", "| CLOSED | 10 | -")),
    "other total": ("labels", edit(REPORT, "| OPEN | 10 | -", "| OPEN | 11 | -")),
    "label not among the weakest": ("labels", edit(REPORT, "| open |", "| ajar |")),
    "too long": ("words", lambda folder: (folder / REPORT).open("a").write("word " * 2000)),
    "too short": ("words", edit(REPORT, " ", "-")),
    "NaN": ("log", log("loss nan\n")),
    "empty log": ("log", log("")),
}


def test_our_own_report_holds(folder):
    assert findings_of(folder) == []


@pytest.mark.parametrize("name", ERRORS)
def test_error(folder, name):
    check, mutate = ERRORS[name]
    mutate(folder)
    found = [one for one in findings_of(folder) if one.level == "error"]
    assert check in {one.check for one in found}


@pytest.mark.parametrize("name", WARNINGS)
def test_warning(folder, name):
    check, mutate = WARNINGS[name]
    mutate(folder)
    found = findings_of(folder)
    assert check in {one.check for one in found if one.level == "warn"}


def test_person_may_still_have_to_look(analysed, looked_at):
    folder = looked_at(analysed(ROWS), "pending review", judge="manual")
    render(folder)
    assert findings_of(folder) == []


def test_nobody_has_to_look(analysed, looked_at):
    folder = looked_at(analysed(ROWS), None, judge="none")
    render(folder)
    assert findings_of(folder) == []


@pytest.mark.parametrize("keys", [{"threshold": 0.3}, {"top_k_per_label": None}, {"min_recall": 0.8}])
def test_report_of_every_mode_holds(analysed, looked_at, keys):
    folder = looked_at(analysed(ROWS, **keys))
    render(folder)
    assert [one for one in findings_of(folder) if one.check not in ("labels", "spot check")] == []


def test_odd_names_are_found_again(analysed, looked_at):
    folder = looked_at(analysed([(s, "a|b <script>" if label == "open" else label) for s, label in ROWS]))
    render(folder)
    assert findings_of(folder) == []


def test_fault_free_filter_mode_is_a_warning(analysed, looked_at):
    folder = looked_at(analysed([(0.1, "PASS"), (0.5, "open")], top_k_per_label=None))
    render(folder)
    assert {(one.level, one.check) for one in findings_of(folder)} >= {("warn", "parquet")}
    assert "error" not in {one.level for one in findings_of(folder)}


def test_unreachable_target(inference):
    inference.write([(0.1, "PASS"), (0.4, "PASS")])
    with pytest.raises(TargetUnreachable):
        inference.run()
    render(inference.results)
    assert findings_of(inference.results) == []
    (inference.results / "unreachable_kpi.txt").write_text("")
    pq.write_table(pa.table({"a": [1]}), inference.results / "kpi_gaps.parquet")
    assert [one.check for one in findings_of(inference.results)] == ["files", "files"]
