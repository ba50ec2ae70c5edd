# ruff: noqa: F811 - fixtures of another file
"""The fine-tuning flow: its approval points in a server, and a real training of a tiny model."""

import asyncio
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import yaml
from PIL import Image
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter

from flows.finetune_huggingface import asking, finetune_huggingface, form_of, gpu_turn
from tasks.errors import DeftError, InputError, StageFailed
from tasks.huggingface.asking import Answer, Question, answer_pending, approved, nobody
from tasks.huggingface.recovery import change_config
from tests.answering import answering
from tests.flows.running import reached, served_run
from tests.tasks.huggingface.conftest import hub, tiny_models, tiny_vit  # noqa: F401

pytestmark = pytest.mark.usefixtures("prefect_server")
needs_torch = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "datasets")),
    reason="the packages of a project are not installed here",
)
QUESTION = Question(
    key="lora", title="All weights, or LoRA?", text="It is large.", choices=("all weights", "LoRA")
)


def asked(folder, question, *answers, timeout=60):
    name = f"r-{uuid4()}"

    @flow(name="asks", flow_run_name=name)
    def asks():
        return approved(folder, question, asking(timeout))

    with answering(name, *answers) as person:
        try:
            return asks(), person
        except DeftError as error:
            return error, person


def test_a_person_chooses_once(tmp_path, caplog):
    caplog.set_level("INFO", logger="deft.flow")
    bad = [{"approve": True, "choice": "nothing"}, {"choice": "LoRA"}]
    answer, person = asked(tmp_path, QUESTION, *bad, {"approve": True, "choice": "LoRA", "note": "Anna"})
    assert person.replies == ["REJECT", "REJECT", "ACCEPT"]
    assert answer == Answer(approve=True, choice="LoRA", note="Anna")
    assert f"or LoRA? It waits for a person: deft approve {person.name}, or" in caplog.text
    kept = json.loads((tmp_path / "meta/approvals.json").read_text())
    assert (kept[0]["key"], kept[0]["answer"]["choice"]) == ("lora", "LoRA")
    assert approved(tmp_path, QUESTION, nobody).choice == "LoRA", "asked once"
    with pytest.raises(DeftError, match="rejected"):
        approved(tmp_path, QUESTION.model_copy(update={"text": "It is larger now."}), nobody)


def test_a_person_says_no(tmp_path):
    error, _ = asked(tmp_path, QUESTION, {"approve": False, "choice": "LoRA", "note": "too dear"})
    assert str(error) == "All weights, or LoRA?: rejected; too dear"
    assert not (tmp_path / "meta/approvals.json").exists()


def test_nobody_answers(tmp_path):
    error, person = asked(tmp_path, QUESTION, timeout=1)
    assert "nobody answered within 1 s" in str(error)
    wanted = {"flow_runs": {"name": {"any_": [person.name]}}}
    run = person.http.post("flow_runs/filter", json=wanted).json()[0]
    assert str(error) in run["state"]["message"], "the page of the run says why"


def test_nobody_is_asked(tmp_path):
    default = QUESTION.model_copy(update={"unattended": "all weights"})
    assert approved(tmp_path, default, nobody).choice == "all weights"
    assert "choice" not in form_of(Question(key="a", title="b", text="c")).model_fields


def test_a_suspended_question_is_answered_before_anything_else(tmp_path):
    class Suspended(BaseException):
        pass

    def suspend(_):
        raise Suspended

    question = Question(key="train-failed-3", title="train failed", text="mend it")
    with pytest.raises(Suspended):
        approved(tmp_path, question, suspend, once=False)
    with pytest.raises(DeftError, match="rejected"):
        answer_pending(tmp_path, nobody)
    answer_pending(tmp_path, suspend)


def screws(folder, each=24):
    """Pictures of three classes that differ in their colour."""
    noise = np.random.default_rng(0)
    for number, name in enumerate(("good", "rusty", "bent")):
        for index in range(each):
            pixels = noise.integers(0, 60, (32, 32, 3), dtype=np.uint8)
            pixels[..., number] += 180
            file = folder / name / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)
    return folder


@pytest.fixture
def asked_for(tmp_path, tiny_vit, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return {
        "model_id": str(tiny_vit),
        "local_dataset_path": str(screws(tmp_path / "screws")),
        "model_short_name": "vit-screws",
        "n_epochs": 8,
        "n_train": 60,
        "n_eval": 12,
        "output_dir": str(tmp_path / "project"),
        "push_to_hub": False,
        "emit_progress_log": True,
    }


OVERRIDES = {"learning_rate": 3e-3, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1,
             "logging_steps": 5}  # fmt: skip


def fine_tune(asked_for, **more):
    given = {"place": "process", "approval": "none", "overrides": OVERRIDES} | more
    return finetune_huggingface(**asked_for, **given)


def program_without_packages(folder):
    file = folder / "python"
    file.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    file.chmod(0o755)
    return file


def gates(project):
    return {one["step"]: one["passed"] for one in json.loads((project / "meta/gates.json").read_text())}


@needs_torch
@pytest.mark.slow
def test_six_steps_then_nothing_left_to_do(asked_for, hub, tmp_path):
    asked_for["push_to_hub"] = True
    done = fine_tune(asked_for)
    project = tmp_path / "project"
    assert gates(project) == dict.fromkeys(range(1, 7), True)
    assert done.metric == "accuracy"
    assert done.value > 0.95 > done.baseline
    assert done.hub_url == f"{hub.url}/anna/vit-screws-finetuned"
    assert hub.private == {"anna/vit-screws-finetuned": True}
    assert len(list((project / "reports/inference_samples").glob("*_meta.json"))) == 5
    assert "docker run" in done.recipe.read_text()
    assert "| accuracy |" in done.recipe.read_text()
    assert "Summary" in (project / "PROGRESS.md").read_text()
    notes = yaml.safe_load((project / "config.yaml").read_text())["notes"]
    assert any("fallback to scaffold" in note for note in notes)
    before = {file: file.stat().st_mtime for file in project.glob("logs/*")}
    assert fine_tune(asked_for) == done
    assert {file: file.stat().st_mtime for file in project.glob("logs/*")} == before
    (project / "reports/eval_results.json").unlink()
    assert fine_tune(asked_for).value == done.value
    assert not (project / "logs/train.1.log").exists(), "the training is not done again"
    with pytest.raises(InputError, match="another n_train"):
        fine_tune(asked_for | {"n_train": 30})
    shutil.rmtree(project / "checkpoints")
    change_config(project / "config.yaml", {"learning_rate": 1e-9, "num_train_epochs": 1})
    untrained = fine_tune(asked_for)
    assert untrained.value < done.value, "what was made of the old weights is made anew"
    pushed = hub.repositories["anna/vit-screws-finetuned"]["model.safetensors"]
    assert pushed == (project / "checkpoints/final/model.safetensors").read_bytes()
    assert f"{untrained.value:.4f}" in done.recipe.read_text()


@needs_torch
@pytest.mark.slow
def test_three_strikes_then_a_person_mends_it(asked_for, tmp_path):
    """A loss that explodes for real: the learning rate falls by ten each time, then a person is asked."""
    exploding = OVERRIDES | {"learning_rate": 1e30}
    with pytest.raises(StageFailed, match="the same error three times in a row"):
        fine_tune(asked_for, overrides=exploding)
    project = tmp_path / "project"
    attempts = json.loads((project / "meta/recovery.json").read_text())
    assert [one["kind"] for one in attempts] == ["nan"] * 3
    assert [one["changes"].get("learning_rate") for one in attempts[:2]] == pytest.approx([1e29, 1e28])
    assert attempts[2]["changes"] == {}, "a person is asked instead"
    assert gates(project) == dict.fromkeys(range(1, 5), True)
    change_config(project / "config.yaml", {"learning_rate": 3e-3})
    done = fine_tune(asked_for, overrides=exploding)
    assert done.value > done.baseline
    assert "loss is no number" in done.recipe.read_text()


@needs_torch
@pytest.mark.slow
def test_a_suspended_run_of_a_deployment_goes_on_where_it_asked(asked_for, tmp_path):
    """Its process ends at each question; approved before it is mended it asks again, then it completes."""
    python = program_without_packages(tmp_path)
    project = tmp_path / "project"
    given = asked_for | {"place": "process", "overrides": OVERRIDES, "python": str(python)}
    given["skip_baseline"] = True

    async def named(client, run_id, name, before=None):
        state = await reached(
            client,
            run_id,
            lambda state: state.name == name and state.state_details.run_input_keyset != before,
        )
        assert state.name == name, state
        return state.state_details.run_input_keyset

    async def all_of_it():
        async with get_client() as client:
            async with served_run(client, finetune_huggingface, given) as run_id:
                question = await named(client, run_id, "Suspended")
                before = (project / "meta/gates.json").read_text()
                await client.resume_flow_run(run_id, run_input={"approve": True})
                await named(client, run_id, "Suspended", question)
                assert (project / "meta/gates.json").read_text() == before, "no step is done again"
                python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
                await client.resume_flow_run(run_id, run_input={"approve": True, "note": "installed"})
                await named(client, run_id, "Completed")
            logs = await client.read_logs(LogFilter(flow_run_id={"any_": [run_id]}), limit=200)
            return [one.message for one in logs]

    said = asyncio.run(all_of_it())
    assert "step 1: qualify" in said, "the page of the run shows what the flow says"
    assert any(line.startswith("train done in ") for line in said)
    assert gates(project) == dict.fromkeys(range(1, 7), True)
    kept = json.loads((project / "meta/approvals.json").read_text())
    assert [one["key"] for one in kept] == ["prepare-failed-1", "prepare-failed-2"]
    assert kept[1]["answer"]["note"] == "installed"


@needs_torch
def test_data_that_do_not_fit_stop_at_the_first_gate(asked_for, tmp_path):
    table = tmp_path / "rows.csv"
    table.write_text("text\nhello\n")
    with pytest.raises(DeftError, match="needs the columns"):
        fine_tune(asked_for | {"local_dataset_path": str(table)})
    assert not (tmp_path / "project/config.yaml").exists()
    assert "❌" in (tmp_path / "project/PROGRESS.md").read_text()


@needs_torch
def test_a_recommendation_is_never_taken_without_a_person(asked_for):
    del asked_for["local_dataset_path"]
    with pytest.raises(DeftError, match=r"Which dataset\?: rejected"):
        fine_tune(asked_for)


@needs_torch
def test_a_smoke_test_that_fails_stops(asked_for, tmp_path):
    """Its Python has no packages, so already the data cannot be prepared; the reason is in the log."""
    bare = program_without_packages(tmp_path)
    with pytest.raises(StageFailed, match=r"prepare failed.*No module named"):
        fine_tune(asked_for, python=bare)
    assert gates(tmp_path / "project") == {1: True, 2: True, 3: True}
    assert len(json.loads((tmp_path / "project/meta/recovery.json").read_text())) == 1


@needs_torch
def test_what_was_mended_or_corrected_before_the_training(asked_for, tmp_path):
    """Mends of the project's files stay; another parameter begins it anew."""
    bare, project = program_without_packages(tmp_path), tmp_path / "project"
    with pytest.raises(StageFailed, match="prepare failed"):
        fine_tune(asked_for, python=bare)
    for name in ("task.py", "requirements.txt"):
        with (project / name).open("a") as file:
            file.write("# mended\n")
    (project / "data_rows.py").unlink()
    with pytest.raises(StageFailed, match="prepare failed"):
        fine_tune(asked_for, python=bare)
    assert (project / "task.py").read_text().endswith("# mended\n")
    assert (project / "requirements.txt").read_text().endswith("# mended\n")
    assert (project / "data_rows.py").is_file(), "what is missing is written"
    with pytest.raises(StageFailed, match="prepare failed"):
        fine_tune(asked_for | {"n_train": 30}, python=bare)
    assert yaml.safe_load((project / "config.yaml").read_text())["n_train"] == 30
    assert not (project / "task.py").read_text().endswith("# mended\n")


@needs_torch
def test_a_python_that_is_not_there(asked_for):
    with pytest.raises(InputError, match="nothing: No such file"):
        fine_tune(asked_for, python=Path("nothing"))


@needs_torch
def test_a_process_of_root_starts_no_containers(asked_for, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 0)
    with pytest.raises(InputError, match="root"):
        fine_tune(asked_for, place="docker")
    assert not (Path(asked_for["output_dir"]) / "config.yaml").exists()


def test_a_limit_that_is_not_there():
    @flow
    def one():
        with gpu_turn("no-such-limit"):
            pass

    with pytest.raises(InputError, match=r"gpu_limit: concurrency limit no-such-limit: .*prefect gcl create"):
        one()
