import shutil
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
