# ruff: noqa: F811 - fixtures of another file
"""A fine-tuning in containers of its project's image, and ones that were cut short: the same call goes on."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelling

from flows.finetune_huggingface import finetune_huggingface
from tasks.artifacts import read_json
from tasks.huggingface.asking import Answer
from tasks.huggingface.containers import RUN_LABEL, DockerRunner
from tasks.huggingface.run import Run
from tasks.huggingface.runner import RUNNING
from tasks.huggingface.settings import settings_from
from tasks.huggingface.steps import ON_THE_CPU, audit_step, qualify_step
from tasks.preflight.doctor_docker import SOCKET
from tests.flows.running import reached, served_run
from tests.flows.test_finetune_huggingface import (  # noqa: F401
    OVERRIDES,
    asked_for,
    gates,
    needs_torch,
    tiny_models,
    tiny_vit,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server"), needs_torch]

without_gpu = pytest.mark.skipif(bool(shutil.which("nvidia-smi")), reason="this host has a GPU")
USER = "1000:1000" if os.getuid() == 0 else f"{os.getuid()}:{os.getgid()}"
COMMANDS = ["prepare", "smoke", "baseline", "train", "evaluate", "infer"]
PROGRAM = """
import json, sys
from flows.finetune_huggingface import finetune_huggingface
finetune_huggingface(**json.loads(sys.argv[1]))
"""


@pytest.fixture
def in_containers(asked_for, tiny_vit, docker_engine, training_base):
    """Parameters of a fine-tuning on a host without a GPU; its containers and its image go at the end."""
    for file in Path(tiny_vit).iterdir():
        file.chmod(0o644)  # safetensors writes 0600, and the user in containers is another one here
    yield asked_for | {
        "place": "docker",
        "gpus": "none",
        "container_user": USER,
        "approval": "none",
        "overrides": OVERRIDES | {"ngc_image": training_base, "shm_size": "1g"},
        "n_epochs": 4,
    }
    for container in containers(docker_engine):
        container.remove(force=True)
    if docker_engine.images.list("run-vit-screws:latest"):
        docker_engine.images.remove("run-vit-screws:latest", force=True)


def containers(engine):
    return engine.containers.list(all=True, filters={"label": f"{RUN_LABEL}=vit-screws"})


def cancelled_in_its_first_container(given, engine):
    """A run of a deployment that is cancelled when its first container runs; gives its labels."""

    async def all_of_it():
        async with (
            get_client() as client,
            served_run(client, finetune_huggingface, given, name="cancelled") as run_id,
        ):
            for _ in range(600):
                if found := await asyncio.to_thread(containers, engine):
                    break
                assert not (await client.read_flow_run(run_id)).state.is_final()
                await asyncio.sleep(0.2)
            await client.set_flow_run_state(run_id, Cancelling(), force=True)
            state = await reached(client, run_id, looks=120)
        assert state.name == "Cancelled", state
        assert found[0].labels["deft.flow-run-id"] == str(run_id)

    asyncio.run(all_of_it())


def test_six_steps_after_a_run_that_was_cancelled(in_containers, docker_engine, training_base, tmp_path):
    project = tmp_path / "project"
    cancelled_in_its_first_container(in_containers, docker_engine)
    assert containers(docker_engine) == []
    assert gates(project) == dict.fromkeys(range(1, 4), True)
    began = int(time.time())
    done = finetune_huggingface(**in_containers)
    assert gates(project) == dict.fromkeys(range(1, 7), True)
    assert done.value > done.baseline
    assert containers(docker_engine) == []
    told = docker_engine.events(
        since=began, until=int(time.time()) + 1, filters={"label": RUN_LABEL, "event": "start"}, decode=True
    )
    place = sha256(str(project).encode()).hexdigest()[:8]
    names = [one["Actor"]["Attributes"]["name"] for one in told]
    assert names == [f"hft_train_vit-screws_{place}_{name}" for name in COMMANDS]
    assert docker_engine.images.get("run-vit-screws:latest")
    owners = {
        f"{file.stat().st_uid}:{file.stat().st_gid}"
        for folder in ("logs", "data", "checkpoints", "reports")
        for file in (project / folder).rglob("*")
        if file.name != "build.log"
    }
    assert owners == {USER}
    for name in (*COMMANDS, "build"):
        assert (project / f"logs/{name}.log").stat().st_size, name
    config = yaml.safe_load((project / "config.yaml").read_text())
    assert (config["ngc_image"], config["gpu_count"], config["gpu_name"]) == (training_base, 0, "CPU")
    assert any("named by a person" in note for note in config["notes"])
    checks = read_json(project / "meta/hardware.json")["checks"]
    assert set(checks) == {"docker", "gpus", "disk"}
    assert "--gpus" not in done.recipe.read_text() + (project / "README.md").read_text()


@without_gpu
def test_a_person_takes_the_cpu_where_the_host_has_no_gpu(asked_for, docker_engine, tmp_path):
    """The question names what is missing; the answer holds for the project."""
    asked = []

    def person(question):
        asked.append(question)
        return Answer(approve=True, choice=ON_THE_CPU)

    settings = settings_from({key: value for key, value in asked_for.items() if key != "overrides"})
    run = Run(
        project=tmp_path / "project", settings=settings, runner=DockerRunner("r1", user=USER), ask=person
    )
    qualify_step(run)
    audit_step(run)
    audit_step(run)
    assert len(asked) == 1
    assert "need: driver, " in asked[0].title
    assert "nvidia-smi" in asked[0].text
    config = run.config
    assert (config["gpu_count"], config["gpu_name"]) == (0, "CPU")
    assert any("default image release" in note for note in config["notes"])


def test_a_training_whose_flow_was_killed_goes_on(asked_for, tmp_path):
    """Its process would train on without the flow: it is ended, and the new one goes on from a checkpoint."""
    project = tmp_path / "project"
    given = asked_for | {"place": "process", "approval": "none", "overrides": OVERRIDES, "n_epochs": 10}
    given["skip_baseline"] = True
    environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value()}
    with subprocess.Popen([sys.executable, "-c", PROGRAM, json.dumps(given)], env=environment) as flow:
        while not list(project.glob("checkpoints/checkpoint-*/trainer_state.json")):
            assert flow.poll() is None
            time.sleep(0.02)
        flow.send_signal(signal.SIGKILL)
    left = read_json(project / RUNNING)["pid"]
    assert Path(f"/proc/{left}").exists(), "it trains on"
    done = finetune_huggingface(**given)
    assert not Path(f"/proc/{left}").exists()
    assert not (project / RUNNING).exists()
    assert gates(project) == dict.fromkeys(range(1, 7), True)
    assert done.value > 0.5
    assert "going on from" in (project / "logs/train.log").read_text()
    undisturbed = shutil.copytree(project, tmp_path / "again", ignore=shutil.ignore_patterns("checkpoints"))
    subprocess.run([sys.executable, "train.py"], cwd=undisturbed, check=True, stdout=subprocess.DEVNULL)
    models = [folder / "checkpoints/final/model.safetensors" for folder in (project, undisturbed)]
    assert models[0].read_bytes() == models[1].read_bytes()


@without_gpu
def test_the_orchestrating_image_asks_about_a_host_without_gpu(
    orchestrator_image,
    docker_engine,
    asked_for,
    tiny_vit,
    tmp_path,
):
    """It has no torch and comes to the audit; nobody is asked there, so the run ends with what is missing."""
    shutil.copytree(tiny_vit, tmp_path / "vit")
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o777)
    socket = Path(os.environ.get("DOCKER_HOST", SOCKET).removeprefix("unix://"))
    words = ["--model-id", tmp_path / "vit", "--local-dataset-path", asked_for["local_dataset_path"]]
    words += ["--output-dir", tmp_path / "project", "--no-push-to-hub", "--approval", "none"]
    container = docker_engine.containers.run(
        orchestrator_image,
        ["deft", "run", "finetune-huggingface", *map(str, words)],
        detach=True,
        user="1000:1000",
        group_add=[str(socket.stat().st_gid)],
        environment={"HF_HUB_OFFLINE": "1"},
        volumes=[f"{tmp_path}:{tmp_path}", f"{socket}:{SOCKET.removeprefix('unix://')}"],
    )
    try:
        status = container.wait(timeout=180)["StatusCode"]
        said = container.logs().decode()
    finally:
        container.remove(force=True)
    assert status != 0, said
    assert "gpus: none" in said
    assert gates(tmp_path / "project") == {1: True}
    assert read_json(tmp_path / "project/meta/model.json")["model_type"] == "vit"
