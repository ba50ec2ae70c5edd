"""What a person asked for as a step sees it, and what the last step says that it did."""

import json

import pytest
import yaml

from tasks.errors import InputError
from tasks.huggingface.asking import nobody
from tasks.huggingface.gates import Gate, gates_in
from tasks.huggingface.run import Run
from tasks.huggingface.runner import ProcessRunner
from tasks.huggingface.settings import FinetuneSettings
from tasks.huggingface.steps import delivery_step
from tests.tasks.huggingface.finished_project import finished_project


def run_of(folder, *, settings=None, **more):
    settings = FinetuneSettings(model_id="acme/tiny-vit", emit_progress_log=True, **(settings or {}))
    return Run(project=folder, settings=settings, runner=ProcessRunner(), ask=nobody, **more)


@pytest.mark.parametrize(
    ("wandb", "environment", "mode"),
    [
        ("online", "disabled", "disabled"),
        ("online", "offline", "offline"),
        ("online", "", "online"),
        ("offline", "online", "offline"),
        ("off", "offline", None),
    ],
)
def test_monitoring_is_switched_down_by_the_environment(tmp_path, monkeypatch, wandb, environment, mode):
    monkeypatch.setenv("WANDB_MODE", environment)
    assert run_of(tmp_path, wandb=wandb).asked["wandb_mode"] == mode


def test_a_push_that_is_off_is_not_told_of(tmp_path):
    run = run_of(finished_project(tmp_path / "p", push_to_hub=False))
    delivery_step(run)
    assert run.progress.lines()[-1].text == "re-run recipe written"


def trained(project, monkeypatch, *, passed):
    """A project that was trained, its gates up to this one passed; its next run has these settings."""
    monkeypatch.delenv("MIN_DISK_GB", raising=False)
    run_of(finished_project(project)).hold_same()
    gates = [Gate(step=step, title="", passed=True, findings=[], at="") for step in range(1, passed + 1)]
    (project / "meta/gates.json").write_text(json.dumps([gate.model_dump() for gate in gates]))
    (project / "meta/commands.json").write_text('{"train": {"at": "today"}}')
    return project


@pytest.mark.parametrize("settings", [{"push_to_hub": False}, {"hf_model_repo": "anna/other"}])
def test_a_trained_model_may_be_pushed_elsewhere_or_not_at_all(tmp_path, monkeypatch, settings):
    project = trained(tmp_path, monkeypatch, passed=6)
    run_of(project, settings=settings).hold_same()
    config = yaml.safe_load((project / "config.yaml").read_text())
    assert config.items() >= settings.items()
    assert len(gates_in(project)) == 6, "none is opened; the last looks at the repository again"
    (project / "config.yaml").unlink()
    run_of(project, settings=settings).hold_same()


@pytest.mark.parametrize("passed", [3, 5])
def test_a_trained_project_stays_what_it_was_trained_for(tmp_path, monkeypatch, passed):
    project = trained(tmp_path, monkeypatch, passed=passed)
    run_of(project, settings={"min_driver": 1}).hold_same()
    monkeypatch.setenv("MIN_DISK_GB", "50")
    run_of(project).hold_same()
    with pytest.raises(InputError, match="a project with another n_train; give another output_dir"):
        run_of(project, settings={"n_train": 30, "push_to_hub": False}).hold_same()
    assert (project / "meta/commands.json").exists()
    assert yaml.safe_load((project / "config.yaml").read_text())["push_to_hub"] is True
    assert len(gates_in(project)) == passed
