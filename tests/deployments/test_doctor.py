"""The command `deft doctor`: table, file and exit status."""

import json

import pytest
import typer
from typer.testing import CliRunner

from deployments.doctor import as_text, doctor
from tasks.preflight.doctor import HostFinding, Report

app = typer.Typer()
app.command()(doctor)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the command on a host without programs and without Docker."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    return lambda *words: CliRunner().invoke(app, ["--workspace", str(tmp_path), *words])


def test_native_engine_can_run_where_nothing_is(run):
    done = run()
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == (
        "the native engine: can run here, in this process (InlineRuntime), without Docker or GPU"
    )


def test_nvidias_images_cannot_and_the_native_engine_is_offered(run):
    done = run("--engine", "nvidia")
    assert done.exit_code == 1
    refused, offered = done.output.splitlines()[-2:]
    assert refused.startswith("NVIDIA's images: cannot run here, because of gpu.host, ")
    assert offered.startswith("the native engine: can run here")
    assert "-> install the NVIDIA driver" in done.output


def test_file_is_written(run, tmp_path):
    file = tmp_path / "host_preflight.json"
    assert run("--engine", "nvidia", "--json", str(file)).exit_code == 1
    value = json.loads(file.read_text())
    assert (value["engine"], value["can_run"]) == ("nvidia", False)


def test_unknown_engine_is_a_usage_error(run):
    assert run("--engine", "other").exit_code == 2


def test_remedies_stand_below_what_they_mend_and_only_where_that_matters():
    rows = [
        {"id": "one", "level": "error", "status": "ok", "detail": "good", "remedy": "never shown"},
        {"id": "two", "level": "info", "status": "error", "detail": "idle", "remedy": "nobody needs this"},
        {"id": "three", "level": "error", "status": "error", "detail": "bad " * 60, "remedy": "do this"},
    ]
    lines = as_text(Report(engine="native", checks=[HostFinding(**one) for one in rows])).splitlines()
    shown = [line.strip() for line in lines if "->" in line]
    assert shown == ["-> do this"]
    assert max(len(line) for line in lines) <= 110
    assert lines[-1] == "the native engine: cannot run here, because of three"
