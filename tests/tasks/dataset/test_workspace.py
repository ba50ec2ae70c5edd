import shutil
from pathlib import Path

import pandas as pd
import pytest

from tasks.dataset.table import read_table
from tasks.dataset.workspace import Workspace, check_sets, image_prefix, open_workspace
from tasks.errors import InputError


def test_open_workspace_finds_everything(workspace: Workspace, maker) -> None:
    assert workspace.lighting.names == ("SolderLight", "SideLight")
    assert workspace.pool_csv is None
    pool = maker.csv("augmentation/mining_pool/mining_pool.csv", [{"filepath": "x"}])
    assert open_workspace(workspace.root).pool_csv == pool


def test_all_missing_files_are_in_one_error(workspace: Workspace) -> None:
    workspace.kpi_csv.unlink()
    workspace.baseline_spec.unlink()
    with pytest.raises(InputError, match=r"lacks specs/baseline_spec\.yaml, kpi/testing_set\.csv"):
        open_workspace(workspace.root)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        open_workspace(tmp_path / "nowhere")


def test_workspace_without_images(workspace: Workspace) -> None:
    shutil.rmtree(workspace.images_dir)
    workspace.images_dir.mkdir()
    with pytest.raises(InputError, match="workspace without images"):
        open_workspace(workspace.root)


def test_older_image_root(workspace: Workspace) -> None:
    workspace.images_dir.rename(workspace.root / "kpi/images")
    older = open_workspace(workspace.root)
    assert older.images_dir == workspace.root.resolve() / "kpi/images"
    assert image_prefix(older.root, older.images_dir) == "kpi/images"
    assert set(check_sets(older)) == {"training set", "validation set", "KPI set"}


def test_linked_image_root_is_followed(workspace: Workspace, tmp_path: Path) -> None:
    elsewhere = workspace.images_dir.rename(tmp_path / "store")
    (workspace.root / "images").symlink_to(elsewhere)
    linked = open_workspace(workspace.root)
    assert linked.images_dir == elsewhere.resolve()
    assert image_prefix(linked.root, linked.images_dir) == "images"


def test_image_root_outside_the_workspace_has_no_prefix(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not lie in the workspace"):
        image_prefix(workspace.root, tmp_path / "elsewhere")


def test_check_sets_gives_the_tables(workspace: Workspace) -> None:
    assert {name: len(table) for name, table in check_sets(workspace).items()} == {
        "training set": 4,
        "validation set": 4,
        "KPI set": 4,
    }


def _rewrite(file: Path, **columns: str) -> None:
    read_table(file).assign(**columns).to_csv(file, index=False)


def test_check_sets_refuses_one_class(workspace: Workspace) -> None:
    _rewrite(workspace.validation_csv, label="PASS")
    with pytest.raises(InputError, match="validation set: label set with one class"):
        check_sets(workspace)


def test_check_sets_refuses_absent_images(workspace: Workspace) -> None:
    _rewrite(workspace.kpi_csv, golden_path="nowhere")
    with pytest.raises(InputError, match="KPI set: 8 images do not exist"):
        check_sets(workspace)


def test_check_sets_refuses_leakage(workspace: Workspace) -> None:
    both = pd.concat([read_table(workspace.training_csv), read_table(workspace.kpi_csv).head(1)])
    both.to_csv(workspace.training_csv, index=False)
    with pytest.raises(InputError, match="leakage: 1 rows of the training set show images of the KPI set"):
        check_sets(workspace)
