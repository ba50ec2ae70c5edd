"""The audit on programs that answer as told, on this machine, and the rule whether a model fits."""

import os
from dataclasses import asdict

import pytest

from tasks.artifacts import read_json, write_json
from tasks.errors import DeftError
from tasks.huggingface import hardware
from tasks.huggingface.asking import nobody
from tasks.huggingface.compat import versions_here
from tasks.huggingface.hardware import Audit, Minimum, audit, cuda_of_driver, fit, gpus_in, minimum_of
from tasks.huggingface.hub import ModelPage
from tasks.huggingface.pages import Pages
from tasks.huggingface.results import HARDWARE
from tasks.huggingface.run import Run
from tasks.huggingface.runner import ProcessRunner
from tasks.huggingface.settings import settings_from
from tasks.huggingface.steps import MODEL, audit_step
from tasks.preflight.doctor_docker import said_in_container
from tasks.preflight.doctor_host import Host

TWO = """0, NVIDIA A100-SXM4-80GB, 580.95.05, 81920, 81153, 8.0
1, NVIDIA A100-SXM4-80GB, 580.95.05, 81920, [N/A], 8.0
"""
HEAD = "| NVIDIA-SMI 580.95.05      Driver Version: 580.95.05      CUDA Version: 13.0     |\n"
NVCC = "Cuda compilation tools, release 13.1, V13.1.80\n"
CTK = "NVIDIA Container Toolkit CLI version 1.19.0\n"


@pytest.fixture
def machine(tmp_path):
    """Variables of a machine whose programs print what a test says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sh").symlink_to("/bin/sh")
    (folder / "cat").symlink_to("/bin/cat")

    def with_programs(smi=TWO, head=HEAD, nvcc=NVCC, ctk=CTK):
        for name, text in {"smi.csv": smi, "smi.txt": head, "nvcc.txt": nvcc, "ctk.txt": ctk}.items():
            (folder / name).write_text(text or "")
        queried = f'case "$1" in --query*) cat {folder}/smi.csv;; *) cat {folder}/smi.txt;; esac'
        scripts = {
            "nvidia-smi": queried,
            "nvcc": f"cat {folder}/nvcc.txt",
            "nvidia-ctk": f"cat {folder}/ctk.txt",
        }
        given = {"nvidia-smi": smi, "nvcc": nvcc, "nvidia-ctk": ctk}
        for name, script in scripts.items():
            if given[name] is not None:
                (folder / name).write_text(f"#!/bin/sh\n{script}\n")
                (folder / name).chmod(0o755)
        return {"PATH": str(folder), "MIN_DISK_GB": "0", "DOCKER_HOST": f"unix://{tmp_path}/no.sock"}

    return with_programs


def test_gpus_are_read_from_the_answer():
    first, second = gpus_in(TWO)
    assert (first.index, first.name, first.driver) == (0, "NVIDIA A100-SXM4-80GB", "580.95.05")
    assert (first.memory_mib, first.free_mib, first.compute_capability) == (81920, 81153, "8.0")
    assert second.free_mib == 0


@pytest.mark.parametrize(
    "text",
    [
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
        "No devices were found",
        "0, NVIDIA A100, unknown, 81920, 81153, 8.0",
    ],
)
def test_answer_that_is_none(text):
    with pytest.raises(DeftError, match="mend the driver"):
        gpus_in(text)


@pytest.mark.parametrize(
    ("text", "version"),
    [(HEAD, "13.0"), ("| CUDA UMD Version : 13.2 |", "13.2"), ("CUDA Version: N/A", None)],
)
def test_cuda_version_of_the_driver(text, version):
    assert cuda_of_driver(text) == version


def test_record_of_two_gpus(machine, tmp_path):
    found = audit(tmp_path, "process", environment=machine())
    assert found.record | {"gpus": [], "checks": {}} == {
        "gpu_count": 2,
        "gpu_name": "NVIDIA A100-SXM4-80GB",
        "driver_version": "580.95.05",
        "driver_major": 580,
        "cuda_version": "13.1",
        "vram_gb_per_gpu": 85.9,
        "total_vram_gb": 171.8,
        "multi_gpu": True,
        "gpus": [],
        "checks": {},
        "warnings": [],
    }
    assert found.missing == ()


def test_driver_names_cuda_where_there_is_no_toolkit(machine, tmp_path):
    assert audit(tmp_path, "process", environment=machine(nvcc=None)).cuda_version == "13.0"


def test_containers_need_a_daemon(machine, tmp_path):
    found = audit(tmp_path, "docker", environment=machine())
    assert [line.split(":")[0] for line in found.missing] == ["docker", "nvidia_runtime"]
    assert found.checks["container_toolkit"] == "ok: nvidia-ctk 1.19.0"


@pytest.mark.parametrize(
    ("programs", "missing"),
    [
        ({"smi": TWO.replace("580.", "570.")}, "driver: driver 570.95.05 is older than 580"),
        ({"smi": None}, "driver: no driver: there is no nvidia-smi"),
        ({"smi": "No devices were found"}, "driver: nvidia-smi does not say which GPUs there are"),
        ({"smi": ""}, "driver: nvidia-smi names no GPU"),
        ({"nvcc": "release 12.6, V12.6.20"}, "cuda: CUDA 12.6 is older than 13.0"),
        ({"nvcc": None, "head": ""}, "cuda: no CUDA"),
        ({"ctk": "version 1.18.2"}, "container_toolkit: nvidia-ctk 1.18.2 is older than 1.19.0"),
        ({"ctk": None}, "container_toolkit: no program nvidia-ctk"),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(machine, tmp_path, programs, missing):
    lines = audit(tmp_path, "docker", environment=machine(**programs)).missing
    assert any(line.startswith(missing) and "; " in line for line in lines)


def test_minimum_can_be_set(machine, tmp_path):
    programs = {"smi": TWO.replace("580.", "555."), "nvcc": "release 12.6, V12.6.20"}
    found = audit(tmp_path, "docker", minimum_of(555, 100), machine(**programs))
    assert not any(line.startswith(("driver", "cuda")) for line in found.missing)


def test_process_needs_nothing_of_it(machine, tmp_path):
    found = audit(tmp_path, "process", environment=machine(smi=None, nvcc=None, ctk=None))
    assert found.missing == ()
    assert [line.split(":")[0] for line in found.warnings] == ["driver", "cuda"]
    assert found.driver_major is None
    assert (found.record["gpu_name"], found.record["gpu_count"], found.record["driver_major"]) == (
        "CPU",
        0,
        0,
    )


def test_small_disk_is_a_warning(machine, tmp_path):
    found = audit(tmp_path / "not" / "yet", "process", environment=machine() | {"MIN_DISK_GB": "1e9"})
    assert found.warnings[0].startswith("disk: ")
    assert found.missing == ()


def test_this_machine_is_looked_at(tmp_path):
    found = audit(tmp_path, "docker")
    assert isinstance(found, Audit)
    assert set(found.checks) == {"driver", "cuda", "container_toolkit", "docker", "nvidia_runtime", "disk"}


@pytest.mark.parametrize(
    ("billions", "vram", "recommended"),
    [(0.1, 24, False), (7, 24, False), (7.3, 24, True), (7, 80, False), (24, 80, False), (24.1, 80, True)],
)
def test_fit_rule(billions, vram, recommended):
    found = fit(int(billions * 1e9), vram, 1, use_lora=False)
    assert found.lora_recommended is recommended
    assert ("LoRA is recommended" in " ".join(found.advice)) is recommended


def test_optimizer_is_counted_for_all_weights_alone():
    whole, lora = fit(10**9, 80, 1, use_lora=False), fit(10**9, 80, 1, use_lora=True)
    assert (whole.weights_gb, whole.training_gb) == (2.0, 8.0)
    assert lora.training_gb == 2.0


def test_too_little_memory_of_one_gpu_is_said_however_many_there_are():
    advice = fit(int(3.75e9), 25.7, 4, use_lora=False).advice
    assert any("30 GB are needed on each GPU, 25.7 GB are there" in line for line in advice)


@pytest.mark.parametrize(
    ("billions", "size"),
    [(3, "one GPU of 24 GB"), (13, "one GPU of 80 GB"), (30, "2 to 4 GPUs"), (70.1, "8 GPUs of 80 GB")],
)
def test_size_classes(billions, size):
    assert size in fit(int(billions * 1e9), 80, 8, use_lora=True).advice[0]


def test_no_gpu_and_no_count_recommend_nothing():
    assert fit(24_000, 0, 0, use_lora=False).advice == (
        "no GPU: 0.0 million parameters are trained on the CPU",
    )
    unknown = fit(None, 80, 1, use_lora=False)
    assert (unknown.lora_recommended, unknown.weights_gb) == (False, None)


def test_minimum_is_that_of_the_house():
    assert (Minimum().driver, Minimum().cuda, Minimum().container_toolkit) == (580, (13, 0), (1, 19, 0))
    assert minimum_of(580, 100) == Minimum()
    assert hardware.FIT_SHARE == 0.6


def test_without_gpus_containers_need_the_daemon_alone(machine, tmp_path):
    found = audit(tmp_path, "docker", environment=machine(), gpus=False)
    assert [line.split(":")[0] for line in found.missing] == ["docker"]
    assert set(found.checks) == {"docker", "gpus", "disk"}
    assert (found.record["gpu_count"], found.record["gpu_name"]) == (0, "CPU")
    assert "left out, as was asked" in found.warnings[0]


def test_the_step_of_processes_asks_no_image_of_the_driver(machine, tmp_path, monkeypatch, caplog):
    older = machine(smi=TWO.replace("580.", "525."), nvcc="release 12.0, V12.0.1")
    for name, value in (older | {"MIN_DISK_GB": "1"}).items():
        monkeypatch.setenv(name, value)
    settings = settings_from({"model_id": "a/b", "dataset_id": "a/c", "min_driver": 525})
    pages = Pages({"AIR_GAPPED": "1"})
    run = Run(tmp_path / "project", settings, ProcessRunner(), nobody, pages=pages)
    page = asdict(ModelPage("a/b", {}))
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    write_json(run.project / MODEL, {"config": heads, "page": page, "parameters": 30_000_000_000})
    identity = {"model_id": "a/b", "model_short_name": "b-c", "auto_model_class": "AutoModelForCausalLM"}
    run.write_config(identity | {"task": "text-generation"})
    with caplog.at_level("INFO", "deft"):
        audit_step(run)
    config = run.config
    assert any("default image release 24.09" in note for note in config["notes"])
    assert config["attn_implementation"] is None, "the fault of that image is none of a process"
    record = read_json(run.project / HARDWARE)
    assert (record["lora_recommended"], record["attn_implementation"]) == (True, "sdpa")
    assert [record["checks"][name][:3] for name in ("driver", "cuda")] == ["ok:", "ok:"]
    assert "LoRA is recommended" not in caplog.text, "it is planned"
    assert "n_train 10000 to 50000 pays off here; n_train 1000, n_eval 200 for a quick" in caplog.text
    if versions_here().get("transformers", "").startswith("5"):
        assert (config["warmup_steps"], config["warmup_ratio"]) == (0.05, None)


def test_a_flow_in_a_container_asks_for_gpus_in_another(docker_engine, python_base, tmp_path, monkeypatch):
    """Here that one does not start, as Docker has no GPUs to give."""
    versions = tmp_path / "versions.yaml"
    versions.write_text(f"images: {{native: {{engine: '{python_base}'}}}}")
    monkeypatch.setenv("TAO_VERSIONS_FILE", str(versions))
    environment = {**os.environ, "PATH": str(tmp_path)}
    host = Host(workspace=tmp_path, environment=environment, probe=True)
    if "nvidia" in host.look.docker.runtimes:
        pytest.skip("Docker has GPUs here")
    with pytest.raises(DeftError, match="nvidia-smi in a container: could not select device driver"):
        said_in_container(host, ["nvidia-smi"])
    versions.write_text("images: {native: {engine: 'deft-test/none:1'}}")
    with pytest.raises(DeftError, match="no image deft-test/none:1 to ask one in"):
        said_in_container(Host(workspace=tmp_path, environment=environment, probe=True), ["nvidia-smi"])
