import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.dataset.leakage import ImageSet, canonical_key, check_disjoint, overlaps, same_look, thumbnail
from tasks.dataset.table import Lighting, read_table
from tasks.dataset.workspace import Workspace
from tasks.errors import InputError


@pytest.fixture
def kpi(workspace: Workspace) -> ImageSet:
    return ImageSet("KPI set", read_table(workspace.kpi_csv), workspace.images_dir, workspace.lighting)


def _training(workspace: Workspace, folder: str, name: str, label: str = "PASS") -> ImageSet:
    """One row in workspace coordinates behind a clean one."""
    clean = {"input_path": "images/t", "golden_path": "images/golden", "label": "PASS", "object_name": "t0@1"}
    planted = {"input_path": folder, "golden_path": "golden", "label": label, "object_name": name}
    return ImageSet("training set", pd.DataFrame([clean, planted]), workspace.root, workspace.lighting)


def _keys(left: ImageSet, right: ImageSet, leakage_hash: bool = True) -> list[str]:
    found = overlaps(left, right, leakage_hash)
    assert {one.left_row for one in found} <= {1}, "the clean row is not a leak"
    return [key for one in found for key in one.keys]


def test_clean_sets_do_not_overlap(workspace: Workspace, kpi: ImageSet) -> None:
    training = ImageSet(
        "training", read_table(workspace.training_csv), workspace.images_dir, workspace.lighting
    )
    assert overlaps(training, kpi) == []
    check_disjoint(training, kpi)


@pytest.mark.parametrize("folder", ["images/k", "images/k/", "images//k", "./images/k", "images/t/../k"])
def test_prefix_and_slash_differences_are_caught(workspace: Workspace, kpi: ImageSet, folder: str) -> None:
    assert "canonical" in _keys(_training(workspace, folder, "k1@1"), kpi, leakage_hash=False)


def test_backslashes_are_caught(workspace: Workspace, kpi: ImageSet) -> None:
    assert "canonical" in _keys(_training(workspace, "images\\k", "k1@1"), kpi, leakage_hash=False)


@pytest.mark.parametrize("label", ["pass", "PASS ", "shift"])
def test_relabelled_duplicates_are_caught(workspace: Workspace, kpi: ImageSet, label: str) -> None:
    assert "canonical" in _keys(_training(workspace, "images/k", "k1@1", label), kpi, leakage_hash=False)


def test_a_linked_image_is_caught(workspace: Workspace, kpi: ImageSet) -> None:
    (workspace.root / "linked").symlink_to(workspace.images_dir / "k")
    assert "canonical" in _keys(_training(workspace, "linked", "k1@1"), kpi, leakage_hash=False)


def test_a_renamed_copy_is_caught_by_its_content(workspace: Workspace, kpi: ImageSet) -> None:
    copy = workspace.images_dir / "T"
    copy.mkdir()
    for light in workspace.lighting.names:
        shutil.copy(workspace.images_dir / f"k/k2@1_{light}.jpg", copy / f"new_{light}.jpg")
    training = _training(workspace, "images/T", "new")
    assert "content" in _keys(training, kpi)
    assert _keys(training, kpi, leakage_hash=False) == []


def test_a_case_difference_where_the_file_system_knows_none_is_caught(
    workspace: Workspace, kpi: ImageSet
) -> None:
    shutil.copytree(workspace.images_dir / "k", workspace.images_dir / "K", dirs_exist_ok=True)
    assert "content" in _keys(_training(workspace, "images/K", "k1@1"), kpi)


@pytest.mark.parametrize("quality", [95, 85])
def test_a_copy_that_was_encoded_again_is_caught_by_its_look(
    workspace: Workspace, kpi: ImageSet, quality: int
) -> None:
    (workspace.images_dir / "again").mkdir()
    with Image.open(workspace.images_dir / "k/k2@1_SolderLight.jpg") as image:
        image.save(workspace.images_dir / "again/x_SolderLight.jpg", quality=quality, subsampling=2)
    assert _keys(_training(workspace, "images/again", "x"), kpi) == ["look"]


def test_another_lighting_of_the_same_sample_is_caught(workspace: Workspace, kpi: ImageSet) -> None:
    plain = Lighting((), ".jpg")
    table = pd.DataFrame(
        [{"input_path": "images/k", "golden_path": "g", "label": "x", "object_name": "k3@1_SideLight"}]
    )
    left = ImageSet("training set", table, workspace.root, plain)
    assert overlaps(left, kpi, leakage_hash=False)[0].keys == ("canonical",)
    copied = workspace.images_dir / "c/n_SolderLight.jpg"
    copied.parent.mkdir()
    shutil.copy(workspace.images_dir / "k/k3@1_SideLight.jpg", copied)
    assert "content" in _keys(_training(workspace, "images/c", "n"), kpi)


def test_upstream_key_alone_misses_prefixes_and_copies(workspace: Workspace, kpi: ImageSet) -> None:
    """Of a plain duplicate, a prefixed one and a copied one, the upstream comparison sees the first only."""
    same = kpi.table.iloc[[1]].assign(boardname="b")
    plain = ImageSet("training set", same, workspace.images_dir, workspace.lighting)
    assert "upstream" in overlaps(plain, kpi)[0].keys
    assert "upstream" not in _keys(_training(workspace, "images/k", "k1@1"), kpi)
    shutil.copytree(workspace.images_dir / "k", workspace.images_dir / "copy")
    assert "upstream" not in _keys(_training(workspace, "images/copy", "k1@1"), kpi)


def test_check_disjoint_names_both_rows_and_the_keys(workspace: Workspace, kpi: ImageSet) -> None:
    with pytest.raises(
        InputError, match=r"training set row 3 \(images/k/k1@1\) = KPI set row 3 by canonical"
    ):
        check_disjoint(_training(workspace, "images/k", "k1@1"), kpi)


def test_images_that_do_not_exist_have_no_content(workspace: Workspace, kpi: ImageSet) -> None:
    assert _keys(_training(workspace, "images/nowhere", "x"), kpi) == []


def test_empty_sets_overlap_with_nothing(kpi: ImageSet) -> None:
    empty = ImageSet("empty", kpi.table.head(0), kpi.root, kpi.lighting)
    assert overlaps(empty, kpi) == overlaps(kpi, empty) == []


def test_an_image_that_is_none_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken\.jpg cannot be read"):
        thumbnail(broken)


def test_canonical_key_takes_off_one_lighting_only(tmp_path: Path) -> None:
    lighting = Lighting(("Ring",), ".jpg")
    assert canonical_key(tmp_path / "D1_RedLight_Ring.jpg", lighting).endswith("/D1_RedLight")
    assert canonical_key(tmp_path / "C1@1_TopLight.png", lighting).endswith("/C1@1")


@pytest.mark.parametrize("contrast", [12, 150])
def test_no_false_alarm_on_ten_thousand_clean_pairs(tmp_path: Path, contrast: int) -> None:
    """Photographs of one scene, each off by less than two pixels, with its own noise and brightness."""
    rng = np.random.default_rng(0)
    scene = Image.fromarray(rng.integers(60, 60 + contrast, (20, 20)).astype(np.uint8)).resize((80, 80))
    for number in range(200):
        x, y = rng.uniform(5, 9, 2)
        shot = np.asarray(
            scene.transform((64, 64), Image.Transform.AFFINE, (1, 0, x, 0, 1, y), 2), dtype=float
        )
        shot = shot * rng.uniform(0.95, 1.05) + rng.normal(0, 3, shot.shape)
        Image.fromarray(shot.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{number}.jpg", quality=95)
    rows = pd.DataFrame(
        {"input_path": ".", "golden_path": ".", "label": "PASS", "object_name": [str(n) for n in range(200)]}
    )
    left, right = (
        ImageSet(name, rows.iloc[part], tmp_path, Lighting((), ".jpg"))
        for name, part in (("left", slice(0, 100)), ("right", slice(100, 200)))
    )
    assert len(left.table) * len(right.table) == 10_000
    assert overlaps(left, right) == []


def test_same_look_leaves_out_flat_images() -> None:
    flat = np.full((3, 256), 200, dtype=np.float32)
    assert same_look(flat, flat) == []
    assert same_look(flat[:0], flat) == []
