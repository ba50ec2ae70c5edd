import re
import shutil
from pathlib import Path

import html5lib
import pytest

from tasks.deft.report import ITERATION_REPORT, LOOP_REPORT, render
from tasks.deft.report.files import LoopFiles
from tasks.deft.report.tables import training_growth
from tasks.deft.stages import BASELINE, FINAL, LOOP_STOP
from tasks.errors import InputError, StageFailed

EVIL = "<script>alert(1)</script>"
PANELS = (
    "Run Configuration &amp; Outcome",
    "Training Set Growth",
    "Problem Statement",
    "KPI Dataset Characteristics",
    "Approach",
    "Progress Overview",
    "Per-Iteration Results",
    "Augmentation Pool",
    "Root Cause Analysis",
    "Defect Type Analysis",
    "Generated Data Sample",
    "Iteration Details",
    "Recommendations",
    "Final Status",
)
STATES = [
    None,
    (BASELINE, "train"),
    (BASELINE, "evaluate"),
    (BASELINE, "rca"),
    ("iter1", "routing"),
    ("iter1", "anomalygen"),
    ("iter1", "data_mining"),
    ("iter1", "data_merge"),
    ("iter1", "train"),
    ("iter1", "evaluate"),
    ("iter2", "routing"),
    ("iter2", "evaluate"),
    ("iter2", LOOP_STOP),
    (FINAL, FINAL),
]


def checked(path: Path) -> str:
    """The page, after what must hold of each: it parses, stands alone, and shows text as text."""
    text = path.read_text()
    html5lib.HTMLParser(strict=True).parse(text)
    assert "{{" not in text
    assert not re.search(r"https?://|xmlns|<script|\bsrc=\"(?!data:)", text)
    assert "None" not in re.sub(r"<[^>]*>|data:[^\"]*", "", text)
    return text


def panel(text: str, number: int) -> str:
    found = re.search(rf'id="panel-{number}".*?</(?:section|header)>', text, re.DOTALL)
    assert found
    return found[0]


@pytest.mark.parametrize("after", STATES, ids=str)
def test_every_partial_state(run, after):
    state = run.after(*after) if after else run.cut(0)
    pages = [checked(path) for path in render(run.folder)]
    for name in PANELS:
        assert f"<h2>{name}</h2>" in pages[0]
    assert len(pages) == 1 + sum(label.startswith("iter") for label in state.iterations)
    assert ("IN PROGRESS" in panel(pages[0], 1)) == (state.status == "in_progress")


def test_the_whole_run(run):
    page = checked(render(run.folder, require_terminal=True)[0])
    assert '<div class="banner met" role="status">MET</div>' in panel(page, 1)
    assert panel(page, 12).count("<img") == 2
    assert page.count("<svg") >= 8
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in panel(page, 5)
    assert "part &#34;7&#34; of &#39;a&#39;" in panel(page, 10)


def test_iteration_pages_are_linked_and_link_back(run):
    loop, first, _ = render(run.folder)
    assert first == run.folder / "iter1" / ITERATION_REPORT
    assert 'href="iter1/report.html"' in loop.read_text()
    text = checked(first)
    assert f'href="../{LOOP_REPORT}"' in text
    assert "9 kept by the filter (similarity at least 0.5), 2 mined before, 4 new" in text


def test_figures_are_those_of_the_state(run):
    run.after("iter2", LOOP_STOP)
    page = render(run.folder)[0].read_text()
    state = run.state
    for label in (BASELINE, "iter1", "iter2"):
        value = f"{state.phase(label).metric_result['value']:.4g} %"
        assert re.search(rf"<td>{label}</td><td[^>]*>{re.escape(value)}</td>", panel(page, 8))
    best = state.phase("iter2")
    assert f"{best.metric_result['value']:.4g} % (iter2)" in panel(page, 15)
    assert f"{best.threshold:.4g}" in panel(page, 15)
    assert "6.667pp from target" in panel(page, 1)
    assert "NOT MET" not in page


def test_new_unique_is_the_difference_of_totals(run):
    rows = training_growth(LoopFiles.of(run.folder))
    assert rows[0] == (BASELINE, None, None, None, 20, None)
    for _, _, _, new, _, delta in rows[1:]:
        assert delta == f"+{new}"
    totals = [row[4] for row in rows]
    assert totals == [20, 27, 34]


def test_hard_stop(copy):
    copy.change(status="failed")
    text = checked(render(copy.folder)[0])
    assert '<div class="banner stop" role="status">HARD STOP</div>' in panel(text, 1)


def test_skipped_generation_and_mining(copy):
    copy.change_phase(
        "iter2", anomalygen_skipped=True, sdg_count=None, sdg_rows_csv=None, data_mining_skipped=True
    )
    text = checked(render(copy.folder)[0])
    assert "mining skipped" in panel(text, 13)
    assert panel(text, 12).count("<img") == 2  # of iter1, the best that has a pair


def test_no_pool(copy):
    state = LoopFiles.of(copy.folder).state
    copy.change(config={**state.config, "mining_pool_csv": None})
    assert "no pool of production samples" in panel(checked(render(copy.folder)[0]), 14)


def test_an_evaluator_that_gives_no_threshold(copy):
    contract = {
        "name": "escapes",
        "display_name": "Escapes",
        "operator": "<=",
        "target": 2,
        "unit": "parts",
        "evaluator": {"type": "command", "executable": "/opt/measure"},
    }
    copy.change(metric_contract=contract, kpi_target="Escapes <= 2 parts")
    for label, value in ((BASELINE, 9.0), ("iter1", 4.0), ("iter2", 5.0), (FINAL, 6.0)):
        result = {"name": "escapes", "value": value, "unit": "parts"}
        copy.change_phase(label, metric_result=result, threshold=None, passed=False)
    text = checked(render(copy.folder)[0])
    assert "2parts from target" in panel(text, 1)
    assert "gives no threshold" in panel(text, 10)
    assert "the program /opt/measure" in panel(text, 4)


def test_files_that_are_gone_leave_dashes(copy, tmp_path):
    for path in sorted(copy.folder.rglob("*")):
        if path.is_file() and path.name not in ("deft_state.json", "loop_log.jsonl"):
            path.unlink()
    text = checked(render(copy.folder)[0])
    assert "—" in panel(text, 3)
    with pytest.raises(StageFailed, match="Root Cause Analysis is empty"):
        render(copy.folder, require_terminal=True)


def test_files_that_are_broken_leave_dashes(copy):
    for path in sorted(copy.folder.rglob("*")):
        if path.suffix in (".csv", ".parquet", ".json", ".png") and path.name != "deft_state.json":
            path.write_bytes(b"\x00{broken")
    checked(render(copy.folder)[0])


def test_a_run_that_was_moved_reads_its_own_files(run, copy):
    files = LoopFiles.of(copy.folder)
    csv = files.state.phase("iter1").inference_csv
    assert files.place(csv) == copy.folder / csv.relative_to(run.folder)


def test_an_unfinished_run_is_not_terminal(run):
    run.after("iter1", "evaluate")
    with pytest.raises(StageFailed, match="is not the report of a finished loop: the run is in_progress"):
        render(run.folder, require_terminal=True)


def test_no_state(tmp_path):
    with pytest.raises(InputError, match="state of a loop"):
        render(tmp_path)


def test_equal_files_give_an_equal_page(run, monkeypatch):
    monkeypatch.setattr("tasks.deft.report.panels.now", lambda: "2026-01-01T00:00:00+00:00")
    pages = [[path.read_bytes() for path in render(run.folder)] for _ in range(2)]
    assert pages[0] == pages[1]


def test_rendering_changes_nothing_else(run):
    before = {path: path.stat().st_mtime_ns for path in run.root.rglob("*") if path.suffix != ".html"}
    render(run.folder)
    after = {path: path.stat().st_mtime_ns for path in run.root.rglob("*") if path.suffix != ".html"}
    assert {path for path in after if path.is_file() and after[path] != before.get(path)} == set()


def test_pictures_that_are_gone(run, tmp_path):
    moved = Path(shutil.move(run.root / "images", tmp_path / "images"))
    try:
        assert "no picture" in panel(checked(render(run.folder)[0]), 10)
    finally:
        shutil.move(moved, run.root / "images")
