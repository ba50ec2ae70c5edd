import subprocess
import sys

import pytest
from typer.testing import CliRunner

from deployments.cli import app
from deployments.report import KINDS, reports_in
from tasks.artifacts import write_json, write_text
from tasks.errors import InputError

BEGUN = {"metric": "far_pct"}


def deft(*words):
    return CliRunner().invoke(app, list(map(str, words)), env={"COLUMNS": "200"})


def names(folder):
    return [(kind.name, place.relative_to(folder).as_posix()) for kind, place in reports_in(folder)]


@pytest.fixture
def sweep(tmp_path):
    write_json(tmp_path / "automl_phase1" / "sweep_inputs.json", BEGUN)
    return tmp_path / "automl_phase1"


def test_parts_come_before_the_whole(tmp_path, sweep):
    for path in (
        "pipeline.json", "deft_state.json", "baseline/rca_results/t/kpi_gaps.parquet",
        "iter1/rca_results/t/unreachable_kpi.txt", "iter1/routing_results/t/routing.json",
        "iter1/mining_results/t/mining_summary.json",
    ):  # fmt: skip
        write_text(tmp_path / path, "{}")
    assert names(tmp_path) == [
        ("gap analysis", "baseline/rca_results/t"),
        ("gap analysis", "iter1/rca_results/t"),
        ("routing", "iter1/routing_results/t"),
        ("mining", "iter1/mining_results/t"),
        ("sweep", "automl_phase1"),
        ("data loop", "."),
        ("pipeline", "."),
    ]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_is_known_by_each_of_its_files(kind, tmp_path):
    for name in kind.files:
        write_text(tmp_path / name.replace(".", "_") / name, "{}")
        assert names(tmp_path / name.replace(".", "_")) == [(kind.name, ".")]


def test_sweep_alone(sweep):
    done = deft("report", sweep)
    assert done.exit_code == 0, done.output
    assert done.output.strip() == str(sweep / "AUTOML_Report.html")


def test_pipeline_that_has_begun(tmp_path, sweep):
    record = {"asked": {}, "parameters": {}, "data_sha256": {}, "token": "t", "approved_by": "yes"}
    write_json(tmp_path / "pipeline.json", record)
    done = deft("report", tmp_path)
    assert done.exit_code == 0, done.output
    assert done.output.split() == [str(sweep / "AUTOML_Report.html"), str(tmp_path / "PIPELINE_Report.html")]
    assert 'href="automl_phase1/AUTOML_Report.html"' in (tmp_path / "PIPELINE_Report.html").read_text()


def test_one_report_that_fails_does_not_keep_the_others(tmp_path, sweep):
    write_text(sweep / "trials.jsonl", "{}\n")
    write_text(tmp_path / "pipeline.json", "{")
    done = deft("report", tmp_path)
    assert done.exit_code == 1
    assert f"ERROR: sweep {sweep}:" in done.output
    assert str(tmp_path / "PIPELINE_Report.html") in done.output


def test_other_folder_is_one_line_that_says_what_was_looked_for(tmp_path):
    with pytest.raises(
        InputError, match=r"is no run: looked for kpi_gaps\.parquet \(gap analysis\), .*pipeline"
    ):
        reports_in(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        reports_in(tmp_path / "absent")


def test_commands_are_light():
    """Neither Prefect nor pandas is imported before a command needs it."""
    code = (
        "import sys; import deployments.report, deployments.export;"
        "print([name for name in ('prefect', 'pandas', 'matplotlib', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_export_writes_and_counts(tmp_path):
    assert deft("export", "xml", tmp_path, tmp_path / "out").exit_code == 2
    done = deft("export", "csv", tmp_path, tmp_path / "out")
    assert "has no deft_state.json" in str(done.exception)
    assert not (tmp_path / "out").exists()
