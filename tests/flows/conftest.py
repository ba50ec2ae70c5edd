import shutil
from pathlib import Path

import pytest
import yaml

from tasks.dataset.sample import SampleSizes, write_sample_workspace
from tests.killing import children

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


@pytest.fixture(scope="session", name="run_and_kill")
def _run_and_kill(prefect_server):
    """Runs a program on a workspace and kills it at a point; gives its exit status, negative when killed."""
    from prefect.settings import PREFECT_API_URL

    with children("tests.flows.killed_flow", PREFECT_API_URL=PREFECT_API_URL.value()) as run:

        def started(program, storage, *arguments, point=None):
            return run(
                program=program, storage=str(storage), arguments=[str(one) for one in arguments], point=point
            )

        yield started
