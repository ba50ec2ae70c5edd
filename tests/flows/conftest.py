import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tasks.dataset.sample import SampleSizes, write_sample_workspace

SIZES = SampleSizes(
    training=64,
    validation=32,
    kpi=48,
    pool=96,
    training_defects=0.3,
    kpi_defects=0.4,
    pool_defects=0.4,
    crop=32,
)


@pytest.fixture(scope="session", name="tiny_workspace")
def _tiny_workspace(tmp_path_factory):
    """A sample workspace on which a training takes about a second; copy it, do not write into it."""
    folder = tmp_path_factory.mktemp("sample") / "ws"
    write_sample_workspace(folder, seed=3, sizes=SIZES, lights=("SolderLight",), num_epochs=1)
    spec_file = folder / "specs" / "baseline_spec.yaml"
    spec = yaml.safe_load(spec_file.read_text())
    spec["dataset"]["classify"] |= {"image_width": 32, "image_height": 32, "batch_size": 16}
    spec["native"]["threads"] = 1
    spec_file.write_text(yaml.safe_dump(spec, sort_keys=False))
    return folder


@pytest.fixture
def workspace(tiny_workspace, tmp_path) -> Path:
    return shutil.copytree(tiny_workspace, tmp_path / "ws")


@pytest.fixture(scope="session", name="slow_base")
def _slow_base(tiny_workspace, tmp_path_factory):
    """A workspace whose base spec hardly learns, so that another trial wins; copy it."""
    workspace = shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("base") / "ws")
    file = workspace / "specs" / "baseline_spec.yaml"
    spec = yaml.safe_load(file.read_text())
    spec["train"]["optim"]["lr"] = 1e-6
    file.write_text(yaml.safe_dump(spec, sort_keys=False))
    (workspace / "specs" / "space.yaml").write_text(
        "lr: {keys: [train.optim.lr], type: float, low: 1.0e-3, high: 1.0e-2, log: true}\n"
    )
    return workspace


KILLER = """
import os, signal, sys
event, place, times = sys.argv[2], sys.argv[3], int(sys.argv[4])
seen = []
def killer(name, args):
    if name == event and place in str(args[1] if name == "os.rename" else args[0]):
        if name == "open" and not set("aw+") & set(args[1] or ""):
            return
        seen.append(args)
        if len(seen) == times:
            os.kill(os.getpid(), signal.SIGKILL)
if times:
    sys.addaudithook(killer)
"""


@pytest.fixture(scope="session", name="run_and_kill")
def _run_and_kill(prefect_server):
    """Runs a program on the workspace in `sys.argv[1]`, and kills it at a place unless `times` is 0.

    The killer is an audit hook of the interpreter: it ends the process where a file is about to be renamed
    into its place, or opened for writing, so that nothing of the code under test is replaced. Gives the exit
    status, negative when it was killed.
    """
    from prefect.settings import PREFECT_API_URL

    def run(program, workspace, storage, event, place, times):
        environment = {
            **os.environ,
            "PREFECT_API_URL": PREFECT_API_URL.value(),
            "PREFECT_LOCAL_STORAGE_PATH": str(storage),
        }
        command = [sys.executable, "-c", KILLER + program, str(workspace), event, place, str(times)]
        return subprocess.run(command, env=environment, check=False, timeout=600).returncode

    return run
