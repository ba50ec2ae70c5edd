"""Sections 1 and 2: the machine, the network, credentials by presence."""

import pytest

from tasks.errors import DeftError
from tasks.preflight.hardware import gpus, memory_bytes


@pytest.fixture
def smi(tmp_path):
    """Puts a program named nvidia-smi on a path of its own; gives the environment."""

    def place(script: str) -> dict[str, str]:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return {"PATH": f"{folder}:/usr/bin:/bin"}

    return place


def test_gpus_are_read_with_model_memory_and_driver(smi):
    (one,) = gpus(smi("echo 'NVIDIA H100, 80GB HBM3, 81559, 580.65.06'"))
    assert (one.model, one.memory_mib, one.driver) == ("NVIDIA H100, 80GB HBM3", 81559, "580.65.06")


def test_without_the_program_there_is_no_gpu():
    assert gpus({"PATH": "/nowhere"}) == []


@pytest.mark.parametrize("script", ["exit 9", "echo nonsense"])
def test_a_program_that_does_not_answer_is_an_error(smi, script):
    with pytest.raises(DeftError, match="mend the driver"):
        gpus(smi(script))


def test_a_gpu_is_shown(found, smi):
    finding = found("host.gpu", environment=smi("echo 'RTX A6000, 49140, 580.1'"))
    assert finding.rows == (("GPU 0", "RTX A6000, 49140 MiB, driver 580.1"),)


def test_a_large_batch_of_a_vit_on_a_small_gpu_warns(found, smi, edit_spec):
    def change(spec):
        spec["model"]["backbone"]["type"] = "vit_base_dinov3"
        spec["dataset"]["classify"] |= {"image_width": 224, "image_height": 224, "batch_size": 32}

    edit_spec(change)
    assert "hold 16" in found("data.batch", environment=smi("echo 'RTX A6000, 49140, 580.1'")).text
    assert "hold 8" in found("data.batch", environment=smi("echo 'RTX 4090, 24564, 580.1'")).text
    assert found("data.batch", environment=smi("echo 'H100, 81559, 580.1'")).outcome == "ok"


def test_memory_is_counted():
    assert memory_bytes() > 2**28


def test_the_packages_of_the_engine_are_there(found):
    assert found("host.packages").outcome == "ok"


@pytest.mark.parametrize(
    ("environment", "mode", "said"),
    [
        ({}, None, "network-enabled, by default"),
        ({"HF_HUB_OFFLINE": "0"}, None, "network-enabled, by default"),
        ({"HF_HUB_OFFLINE": "1"}, None, "airgap, by environment variable HF_HUB_OFFLINE"),
        ({"AIR_GAPPED": "1"}, None, "airgap, by environment variable AIR_GAPPED"),
        ({"AIR_GAPPED": "1"}, "network-enabled", "network-enabled, by parameter network_mode"),
    ],
)
def test_the_network_mode_and_who_said_so(found, environment, mode, said):
    environment = {"PATH": "/nowhere", **environment}
    assert found("host.network", environment=environment, network_mode=mode).rows[0][1] == said


def test_credentials_are_set_or_unset(found):
    environment = {"PATH": "/nowhere", "WANDB_API_KEY": "x"}
    finding = found("credentials.variables", environment=environment, loop={"encoder": "SigLIP"})
    rows = {row[0]: row[1:] for row in finding.rows}
    assert rows["WANDB_API_KEY"] == ("SET", "no phase")
    assert rows["HF_TOKEN"] == ("UNSET", "encoder SigLIP google/siglip-base-patch16-224 (if gated)")
    assert finding.outcome == "warn"


def test_offline_credentials_do_not_apply(found):
    finding = found("credentials.variables", network_mode="airgap")
    assert {row[1] for row in finding.rows} == {"N/A (offline)"}


def test_a_workspace_that_is_not_there_blocks(found, tmp_path):
    assert found("host.workspace", workspace=tmp_path / "no").outcome == "block"
