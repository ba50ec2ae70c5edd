from pathlib import Path

import pytest

from tasks.artifacts import sha256_of
from tasks.dataset.leakage import ImageSet, check_disjoint
from tasks.dataset.rendering import DEFECTS
from tasks.dataset.sample import SampleSizes, write_sample_workspace
from tasks.dataset.table import check_images, read_table
from tasks.dataset.workspace import Workspace, check_sets
from tasks.errors import InputError

SIZES = SampleSizes(training=60, validation=40, kpi=60, pool=110, crop=32)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return write_sample_workspace(tmp_path_factory.mktemp("sample") / "ws", seed=1, sizes=SIZES)


def test_the_base_sets_lack_defects_that_kpi_set_and_pool_have(sample: Workspace) -> None:
    tables = check_sets(sample)
    assert sample.pool_csv is not None
    known = {"PASS", *SIZES.known}
    assert set(tables["training set"]["label"]) == set(tables["validation set"]["label"]) == known
    everything = {"PASS", *DEFECTS}
    assert set(tables["KPI set"]["label"]) == set(read_table(sample.pool_csv)["label"]) == everything


def test_sizes_and_shares(sample: Workspace) -> None:
    pool = read_table(sample.pool_csv)
    assert len(pool) == SIZES.pool
    assert (pool["label"] != "PASS").sum() == round(SIZES.pool * SIZES.pool_defects)
    assert len(read_table(sample.kpi_csv)) == SIZES.kpi
    assert len(pool.columns) == 14


def test_no_board_is_in_two_sets_and_no_image_looks_like_another(sample: Workspace) -> None:
    files = [sample.training_csv, sample.validation_csv, sample.kpi_csv, sample.pool_csv]
    sets = [ImageSet(str(file), read_table(file), sample.images_dir, sample.lighting) for file in files]
    boards = [set(one.table["boardname"]) for one in sets]
    assert sum(map(len, boards)) == len(set.union(*boards))
    check_images(sets[3].table, sample.images_dir, sample.lighting, "pool")
    for one in sets[:3]:
        check_disjoint(sets[3], one)


def test_the_same_seed_gives_the_same_files(sample: Workspace, tmp_path: Path) -> None:
    again = write_sample_workspace(tmp_path / "again", seed=1, sizes=SIZES)
    files = [file.relative_to(sample.root) for file in sorted(sample.root.rglob("*")) if file.is_file()]
    assert len(files) > 500
    assert all(sha256_of(sample.root / file) == sha256_of(again.root / file) for file in files)
    other = write_sample_workspace(tmp_path / "other", seed=2, sizes=SIZES)
    assert sha256_of(other.training_csv) != sha256_of(sample.training_csv)


def test_a_folder_in_use_is_refused(sample: Workspace) -> None:
    with pytest.raises(InputError, match="not an empty folder"):
        write_sample_workspace(sample.root, sizes=SIZES)
