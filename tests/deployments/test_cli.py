import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli import app
from flows import FLOWS

SCRIPTS = Path(sys.executable).parent
PREDICTIONS = [{"video_id": "/a.mp4", "response": "yes", "gt": "no"}]


def deft(*words, server=None):
    environment = {**os.environ, "COLUMNS": "200"}
    if server:
        environment["PREFECT_API_URL"] = server
    return subprocess.run(
        [SCRIPTS / "deft", *words], capture_output=True, text=True, env=environment, check=False
    )


@pytest.fixture
def server(prefect_server):
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value()


@pytest.fixture
def predictions(tmp_path):
    file = tmp_path / "predictions.json"
    file.write_text(json.dumps([*PREDICTIONS, {"video_id": str(tmp_path), "response": "no", "gt": "no"}]))
    return file


@pytest.mark.parametrize("flow", FLOWS)
def test_help_of_a_flow_lists_every_parameter_with_its_text(flow):
    import importlib

    module, name = FLOWS[flow].split(":")
    properties = getattr(importlib.import_module(module), name).parameters.properties
    help_text = CliRunner().invoke(app, ["run", flow, "--help"], env={"COLUMNS": "300"}).output
    for key, schema in properties.items():
        assert f"--{key.replace('_', '-')}" in help_text
        assert schema["description"].split()[0] in help_text


def test_flow_runs_from_the_command_line(server, predictions, tmp_path):
    done = deft(
        "run", "gap-analysis-vlm-bcq", "--predictions-json", predictions, "--results-dir", tmp_path / "out",
        server=server,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "kpi_gaps.jsonl").is_file()
    assert "2 of 2 answers evaluated: 1 false yes, 0 false no" in done.stdout


def test_failed_flow_is_one_line_and_no_traceback(server, tmp_path):
    done = deft("run", "gap-analysis-vlm-bcq", "--predictions-json", tmp_path / "absent.json", server=server)
    assert done.returncode == 1
    assert "absent.json: No such file" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("value", ["0", "-3"])
def test_parameter_out_of_range_is_one_line(server, tmp_path, value):
    done = deft("run", "deft-aoi", "--workspace", tmp_path, "--max-iterations", value, server=server)
    assert done.returncode == 1
    assert "max_iterations" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--metric", "{name: escapes, operator: '<'}"], "display_name: required"),
        (["--metric", "Beauty < 3%"], "metric"),
        (["--regression-gate", "{action: shout}"], "regression_gate.action"),
    ],
)
def test_parameter_with_fields_is_written_as_yaml(server, tmp_path, words, named):
    done = deft("run", "deft-aoi", "--workspace", tmp_path, "--max-iterations", "1", *words, server=server)
    assert done.returncode == 1
    assert named in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_action_answers_as_its_console_script(predictions, tmp_path):
    words = ["vlm_bcq", f"predictions_json={predictions}", f"results_dir={tmp_path / 'out'}"]
    ours = deft("action", "gap_analysis", *words)
    script = subprocess.run([SCRIPTS / "gap_analysis", *words], capture_output=True, text=True, check=False)
    assert ours.returncode == script.returncode == 0
    assert script.stdout.splitlines()[-1] == "Execution status: PASS"
    assert ours.stdout.splitlines()[-1].endswith("Execution status: PASS")


@pytest.mark.parametrize("words", [["import", "deeppcb", "/x", "/y", "--limit", "pool"], ["action"]])
def test_malformed_words_are_a_usage_error(words):
    done = deft(*words)
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
