"""The spot check as a person meets it: a form in a server, a table, and nobody there."""

import csv
import json
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.states import Scheduled

from flows.spot_check import SpotChecked, rca_folder_in, spot_check
from tasks.errors import InputError
from tasks.gap_analysis.action import VCN_AOI
from tasks.gap_analysis.spot_check import SpotCheck
from tasks.spec import load_spec
from tests.answering import Server, answering

pytestmark = pytest.mark.usefixtures("prefect_server")


def analysed(root: Path) -> Path:
    """An rca folder with two PASS and two defects, noise as pictures."""
    (root / "inference").mkdir(parents=True)
    rows = [("000", "PASS", 0.1), ("001", "PASS", 0.7), ("002", "a|b", 0.6), ("003", "<b>spur</b>", 0.9)]
    lines = [f"board,golden,{label},{name},{score}" for name, label, score in rows]
    (root / "inference" / "inference.csv").write_text(
        "\n".join(["input_path,golden_path,label,object_name,siamese_score", *lines])
    )
    (root / "train.yaml").write_text("dataset: {classify: {input_map: {Top: 0}, image_ext: .png}}")
    for place in ("board", "golden"):
        (root / place).mkdir()
        for name, _, _ in rows:
            grey = np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8)
            Image.fromarray(grey).save(root / place / f"{name}_Top.png")
    given = {
        "inference_results_dir": root / "inference",
        "train_config": root / "train.yaml",
        "results_dir": root / "iter1" / "rca_results" / "2026-01-02_030405",
        "kpi_media_path": str(root),
    }
    VCN_AOI.run(load_spec(VCN_AOI.spec, given, []))
    return root / "iter1" / "rca_results" / "2026-01-02_030405"


@pytest.fixture
def folder(tmp_path):
    return analysed(tmp_path)


def verdicts(folder):
    rows = json.loads((folder / "spot_check.json").read_text())["rows"]
    return {row["object_name"]: (row["verdict"], row["origin"]) for row in rows}


def named():
    name = f"r-{uuid4()}"
    return name, spot_check.with_options(flow_run_name=name)


def test_a_person_looks_at_the_form_and_answers(folder):
    name, flow = named()
    bad = [{"picture_01": "pretty"}, {"picture_99": "edge case"}]
    answer = {"picture_01": "edge case", "picture_04": "mislabeled", "your_name": " Anna "}
    with answering(name, *bad, answer) as person:
        done = flow(folder, timeout_seconds=60)
    assert person.replies == ["REJECT", "REJECT", "ACCEPT"]
    assert done == SpotChecked(
        folder=folder,
        report=folder / "RCA_Report.md",
        verdicts=folder / "spot_check_verdicts.csv",
        pending=2,
    )
    assert list(verdicts(folder).values()) == [
        ("edge case", "person: Anna"),
        ("pending review", "manual"),
        ("pending review", "manual"),
        ("mislabeled", "person: Anna"),
    ]
    report = done.report.read_text()
    assert "person: Anna" in report
    fields = person.schema["properties"]
    assert list(fields) == ["picture_01", "picture_02", "picture_03", "picture_04", "your_name"]
    assert fields["picture_01"]["enum"][0] == fields["picture_01"]["default"] == "not looked at"
    assert "data:image/jpeg;base64," in fields["picture_01"]["description"]
    assert "**mislabeled**" in fields["picture_01"]["description"]
    shown = "".join(field.get("description", "") for field in fields.values())
    assert "a\\|b" in shown
    assert "<b>" not in shown


def test_only_what_is_pending_is_asked_again(folder):
    name, flow = named()
    with answering(name, {"picture_02": "systematic"}):
        flow(folder, timeout_seconds=60)
    name, flow = named()
    rest = {f"picture_0{number}": "edge case" for number in (1, 3, 4)}
    with answering(name, rest) as person:
        done = flow(folder, timeout_seconds=60)
    assert sorted(person.schema["properties"]) == [*sorted(rest), "your_name"]
    assert done.pending == 0
    assert spot_check(folder).pending == 0  # nobody is asked any more


def test_nobody_comes_and_the_run_ends_well(folder, caplog):
    state = spot_check(folder, timeout_seconds=1, return_state=True)
    assert state.is_completed()
    assert state.result().pending == 4
    assert (folder / "RCA_Report.md").is_file()
    assert "the verdicts stay pending" in caplog.text


def test_resumed_without_an_answer_it_ends_well(folder):
    name, flow = named()
    with answering(name, {}) as person:
        done = flow(folder, timeout_seconds=60)
    assert person.replies == ["ACCEPT"]
    assert done.pending == 4


def test_the_table_is_taken_over_without_asking(folder):
    spot_check(folder, timeout_seconds=0)
    file = folder / "spot_check_verdicts.csv"
    lines = list(csv.DictReader(file.open()))
    lines[0]["verdict"] = "data quality"
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    assert spot_check(folder, timeout_seconds=0).pending == 3
    assert ("data quality", "person") in verdicts(folder).values()
    assert "data quality" in (folder / "RCA_Report.md").read_text()


@pytest.mark.parametrize("judge", ["rules", "none"])
def test_other_judges_ask_nobody(folder, judge):
    assert spot_check(folder, SpotCheck(judge=judge)).pending == 0


def test_run_of_a_deployment_ends_while_it_waits(folder):
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow_from_name(spot_check.name)
        deployment = client.create_deployment(flow_id, name=f"d-{uuid4()}")
        given = {"rca_folder": str(folder), "timeout_seconds": 60}
        run = client.create_flow_run_from_deployment(deployment, parameters=given)

    def start():
        with get_client(sync_client=True) as client:
            now = client.read_flow_run(run.id)
        try:
            return run_flow(spot_check, flow_run=now, parameters=given, return_type="state")
        except Pause as end:
            return end.state

    assert start().name == "Suspended"
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Scheduled(name="AwaitingRetry"), force=True)
    assert start().name == "Suspended"  # as if the worker had died
    assert Server().resume(run.id, {"picture_03": "edge case"})["status"] == "ACCEPT"
    assert start().result().pending == 3
    assert list(verdicts(folder).values())[2] == ("edge case", "person")


def test_latest_analysis_of_a_run_folder(tmp_path):
    first, last = analysed(tmp_path / "run"), tmp_path / "run" / "iter2" / "rca_results" / "2026-01-03_000000"
    last.mkdir(parents=True)
    (last / "unreachable_kpi.txt").write_text("none")
    assert rca_folder_in(tmp_path / "run") == last
    assert rca_folder_in(tmp_path / "run" / "iter1") == first
    assert rca_folder_in(first) == first
    with pytest.raises(InputError, match="holds no gap analysis"):
        rca_folder_in(tmp_path)
