import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.artifacts import write_json
from tasks.errors import InputError, StageFailed
from tasks.reports.markdown import sections, table_rows, word_count
from tasks.routing.action import RoutingSpec, run
from tasks.routing.report import render, write_report
from tasks.routing.report.checks import findings
from tasks.routing.report.facts import edit_distance, read_facts

WEAK = ["PASS"] * 2 + ["missing"] * 5 + ["tombstone"] * 3
POOL = ["Missing", "missing", "PASS", "tombstone"]


def routed(folder: Path, weak: list[str], pool: list[str] | None, supported: list[str]) -> Path:
    """A folder in which the real action has routed these labels."""
    gaps = folder / "gaps |1|.parquet"
    paths = [f"x{number}.png" for number in range(len(weak))]
    pq.write_table(
        pa.table({"filepath": pa.array(paths, pa.string()), "label": pa.array(weak, pa.string())}), gaps
    )
    spec: dict[str, Any] = {"gaps_parquet": gaps, "supported_defects": supported}
    if pool is not None:
        spec["pool"] = folder / "pool.parquet"
        pq.write_table(
            pa.table({"filepath": [f"p{i}" for i in range(len(pool))], "label": pool}), spec["pool"]
        )
    results = folder / "out"
    try:
        run(RoutingSpec(**spec, results_dir=results))
    finally:
        (results / "route.log").write_text((results / "routing_summary.txt").read_text())
        (results / "route_spec.yaml").write_text(f"gaps_parquet: {gaps}\nsupported_defects: {supported}\n")
    return results


def validated(folder: Path) -> dict[str, Any]:
    write_report(folder)
    found: dict[str, Any] = json.loads((folder / "validation.json").read_text())
    return found


def rows_of(folder: Path, heading: str) -> list[list[str]]:
    return table_rows(sections(render(folder).read_text(encoding="utf-8"))[heading])


def changed(folder: Path, **more: Any) -> None:
    path = folder / "routing.json"
    write_json(path, json.loads(path.read_text()) | more)


def test_a_split_is_told_and_packed(tmp_path: Path):
    folder = routed(tmp_path, WEAK, POOL, ["PASS", "missing"])
    assert validated(folder)["status"] == "ok"
    text = (folder / "Routing_Report.md").read_text()
    assert len(sections(text)) == 6
    assert word_count(text) >= 400
    assert word_count(text) <= 800
    assert "Of 10 weak samples, **10 go to mining** and **7 to generation** (7 of them to both)" in text
    assert "nothing to do" in sections(text)["Verdict"]
    assert (folder / "routing_config" / "route_spec.yaml").is_file()
    assert "Routing summary" in (folder / "run.log").read_text()
    assert text == render(folder).read_text()


def test_labels_stand_by_count_with_where_they_go(tmp_path: Path):
    folder = routed(tmp_path, WEAK, POOL, ["PASS", "missing"])
    assert rows_of(folder, "Per-Label Routing Decisions") == [
        ["MISSING", "5", "yes (2 images)", "yes", "yes", "mining + anomalygen"],
        ["TOMBSTONE", "3", "yes (1 images)", "yes", "no", "mining only"],
        ["PASS", "2", "yes (1 images)", "yes", "yes", "mining + anomalygen"],
    ]
    changed(folder, labels=json.loads((folder / "routing.json").read_text())["labels"][::-1])
    assert [row[1] for row in rows_of(folder, "Per-Label Routing Decisions")] == ["5", "3", "2"]


def test_the_table_of_dropped_labels_is_there_though_empty(tmp_path: Path):
    folder = routed(tmp_path, WEAK, POOL, ["PASS"])
    text = sections(render(folder).read_text())["Dropped Labels"]
    assert "| Label | Count | Why | Suggested fix |" in text
    assert table_rows(text) == []


def test_a_dropped_label_is_named_everywhere(tmp_path: Path):
    folder = routed(tmp_path, [*WEAK, "scratch", "scratch"], POOL, ["PASS"])
    assert validated(folder)["dropped"] == 2
    found = sections((folder / "Routing_Report.md").read_text())
    assert "2 are dropped: add pool images or generator support for **SCRATCH** (2)" in found["Verdict"]
    assert "**neither (DROPPED)**" in found["Per-Label Routing Decisions"]
    (row,) = table_rows(found["Dropped Labels"])
    assert row[:2] == ["SCRATCH", "2"]
    assert row[3] == "add images of it to the pool"
    assert "For the dropped labels (SCRATCH): add pool images" in found["Recommended Actions"]


@pytest.mark.parametrize(
    ("weak", "known", "suspected"),
    [
        ("tombston", "TOMBSTONE", True),
        ("tomb stnoe", "TOMB-STONE", True),
        ("tombst", "TOMBSTONE", False),
        ("NG", "OK", False),
    ],
)
def test_a_label_that_is_almost_a_known_one_may_be_misspelt(
    tmp_path: Path, weak: str, known: str, suspected: bool
):
    folder = routed(tmp_path, [*WEAK, weak], [*POOL[:3], known], ["PASS"])
    todo = sections(render(folder).read_text())["Recommended Actions"]
    assert ("Check the spelling of" in todo) == suspected
    assert (rows_of(folder, "Dropped Labels")[-1][3].startswith("check the spelling")) == suspected


def test_without_a_pool_only_generation_is_left(tmp_path: Path):
    folder = routed(tmp_path, WEAK, None, ["PASS", "missing"])
    assert validated(folder)["status"] == "ok"
    found = sections((folder / "Routing_Report.md").read_text())
    assert "no source pool was given" in found["Inputs"]
    assert "no weak sample can be mined: skip mining" in found["Module-Level Summaries"]
    assert "Mining: nothing to run" in found["Recommended Actions"]
    assert "configure a pool" in found["Dropped Labels"]
    assert {row[2] for row in table_rows(found["Per-Label Routing Decisions"])} == {"no pool"}


@pytest.mark.parametrize(
    ("weak", "says"), [(["scratch"], "None of the 1 weak samples"), ([], "no weak sample")]
)
def test_when_nothing_can_be_used_the_report_says_so(tmp_path: Path, weak: list[str], says: str):
    with pytest.raises(StageFailed, match="none of its"):
        routed(tmp_path, weak, POOL, ["PASS"])
    assert validated(tmp_path / "out")["status"] == "ok"
    verdict = sections((tmp_path / "out" / "Routing_Report.md").read_text())["Verdict"]
    assert says in verdict
    assert "stops" in verdict


def test_awkward_labels_are_text(tmp_path: Path):
    folder = routed(tmp_path, ["<script>alert(1)</script>", "a|b", "Lötbrücke *x*"], ["A|b"], ["PASS"])
    assert validated(folder)["status"] == "ok"
    text = (folder / "Routing_Report.md").read_text(encoding="utf-8")
    assert "<script" not in text.lower()
    rows = rows_of(folder, "Per-Label Routing Decisions")
    assert {len(row) for row in rows} == {6}
    assert {"A\\|B", "LÖTBRÜCKE\\_\\*X\\*"} <= {row[0] for row in rows}
    assert "gaps \\|1\\|.parquet" in text


def test_runs_of_earlier_versions_are_told_from_their_settings(tmp_path: Path):
    folder = routed(tmp_path, [*WEAK, "scratch"], POOL, ["PASS", "scratches"])
    path = folder / "routing.json"
    facts = json.loads(path.read_text())
    for name in ("gaps_parquet", "pool_labels", "supported_defects"):
        del facts[name]
    write_json(path, facts)
    assert validated(folder)["status"] == "ok"
    assert read_facts(folder).lookalikes("SCRATCH") == ["SCRATCHES"]
    assert rows_of(folder, "Per-Label Routing Decisions")[0][2] == "yes"


def test_an_unchanged_result_says_where_it_was_taken_from(tmp_path: Path):
    folder = routed(tmp_path, WEAK, POOL, ["PASS"])
    (folder / "route.log").write_text("unchanged inputs: taken from /runs/a_b, computed by shy-fox\n")
    (folder / "route_spec.yaml").unlink()
    assert validated(folder)["status"] == "ok"
    assert "taken from /runs/a\\_b, computed by shy-fox" in (folder / "Routing_Report.md").read_text()


@pytest.mark.parametrize("name", ["total", "to_mining", "to_generation", "to_both", "dropped"])
def test_counts_that_do_not_add_up_fail_the_report(tmp_path: Path, name: str):
    folder = routed(tmp_path, WEAK, POOL, ["PASS"])
    changed(folder, **{name: 9_999})
    with pytest.raises(StageFailed, match=r"in routing\.json, but the parts make"):
        write_report(folder)
    assert json.loads((folder / "validation.json").read_text())["status"] == "error"
    assert not (folder / "run.log").exists()


def test_a_table_that_lost_rows_fails_the_report(tmp_path: Path):
    folder = routed(tmp_path, WEAK, POOL, ["PASS"])
    table = pq.read_table(folder / "mining_gaps.parquet")
    pq.write_table(table.slice(1), folder / "mining_gaps.parquet")
    with pytest.raises(StageFailed, match=r"mining_gaps\.parquet: 10 in routing\.json"):
        write_report(folder)
    (folder / "mining_gaps.parquet").unlink()
    with pytest.raises(StageFailed, match="is missing or empty"):
        write_report(folder)


def test_a_folder_without_a_routing_has_no_report(tmp_path: Path):
    with pytest.raises(InputError, match="result of a routing"):
        render(tmp_path)
    write_json(tmp_path / "routing.json", {"total": 3})
    with pytest.raises(InputError, match="is no result of a routing"):
        render(tmp_path)


@given(st.text(alphabet="ABC_", max_size=8), st.text(alphabet="ABC_", max_size=8))
def test_edit_distance(left: str, right: str):
    distance = edit_distance(left, right)
    assert distance == edit_distance(right, left)
    assert (distance == 0) == (left == right)
    assert abs(len(left) - len(right)) <= distance <= max(len(left), len(right))
    assert edit_distance(left + "A", right) <= distance + 1


def test_edit_distance_of_a_known_pair():
    assert edit_distance("KITTEN", "SITTING") == 3


@pytest.mark.parametrize(
    ("old", "new", "level", "says"),
    [
        ("## 4. Module-Level Summaries", "## 4. Other", "error", "'Module-Level Summaries' is missing"),
        ("| MISSING | 5 |", "| MISSING | 6 |", "warn", "does not tell 'MISSING' with its count 5"),
        ("| Label | Count | Why |", "| Label | Why |", "warn", "Dropped Labels has no table"),
        ("4.2", "", "warn", "no word of '4.2'"),
    ],
)
def test_a_report_that_leaves_things_out_is_found_out(
    tmp_path: Path, old: str, new: str, level: str, says: str
):
    folder = routed(tmp_path, WEAK, POOL, ["PASS", "missing"])
    text = render(folder).read_text()
    assert findings(read_facts(folder), text) == []
    assert old in text
    assert [(level, True)] == [
        (one.level, says in one.text)
        for one in findings(read_facts(folder), text.replace(old, new))
        if one.check != "words"
    ]
