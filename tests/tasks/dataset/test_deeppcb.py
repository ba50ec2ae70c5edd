"""A made-up DeepPCB tree, and the real one where it lies beside the checkout."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.dataset.deeppcb import default_groups, import_deeppcb, pass_windows
from tasks.dataset.deeppcb_source import DEFECTS, Box, defects_of, find_boards
from tasks.dataset.leakage import ImageSet, check_disjoint
from tasks.dataset.table import is_pass, read_table
from tasks.dataset.workspace import check_sets
from tasks.errors import InputError

REAL = Path(__file__).parents[4] / "shared/data/deeppcb"
SIDE = 320


def _write_board(folder: Path, name: str, rng: np.random.Generator, boxes: list[tuple[int, ...]]) -> None:
    images, notes = folder, folder.with_name(f"{folder.name}_not")
    images.mkdir(parents=True, exist_ok=True)
    notes.mkdir(exist_ok=True)
    template = np.kron(rng.integers(0, 2, (40, 40)), np.ones((8, 8))).astype(np.uint8) * 255
    test = template.copy()
    for x1, y1, x2, y2, _ in boxes:
        test[y1:y2, x1:x2] ^= 255
    for kind, pixels in (("temp", template), ("test", test)):
        Image.fromarray(pixels).save(images / f"{name}_{kind}.jpg", quality=95)
    (notes / f"{name}.txt").write_text("".join(" ".join(map(str, box)) + "\n" for box in boxes))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three groups of 3, 4 and 5 boards; each board has one defect of every type."""
    rng = np.random.default_rng(0)
    for boards, group in ((3, "00001"), (4, "00002"), (5, "00003")):
        for board in range(boards):
            boxes = [(5 + 50 * (kind - 1), 100, 25 + 50 * (kind - 1), 120, kind) for kind in DEFECTS]
            _write_board(tmp_path / f"src/PCBData/group{group}/{group}", f"{group}{board:03d}", rng, boxes)
    return tmp_path / "src"


def _sets(workspace) -> dict[str, ImageSet]:
    files = {
        "training": workspace.training_csv,
        "validation": workspace.validation_csv,
        "kpi": workspace.kpi_csv,
        "pool": workspace.pool_csv,
    }
    return {
        name: ImageSet(name, read_table(file), workspace.images_dir, workspace.lighting)
        for name, file in files.items()
    }


def test_a_tree_becomes_a_workspace(tree: Path, tmp_path: Path) -> None:
    workspace = import_deeppcb(tree, tmp_path / "ws")
    check_sets(workspace)
    sets = _sets(workspace)
    assert {name: set(one.table["comp_type_1"]) for name, one in sets.items()} == {
        "training": {"group00001"},
        "validation": {"group00001"},
        "kpi": {"group00002"},
        "pool": {"group00003"},
    }
    boards = [set(one.table["boardname"]) for one in sets.values()]
    assert sum(map(len, boards)) == len(set.union(*boards)) == 12
    for one in sets.values():
        assert set(one.table["label"]) == {"PASS", *DEFECTS.values()}
        assert is_pass(one.table["label"]).mean() == pytest.approx(0.5, abs=0.05)
    for name in ("training", "validation", "kpi"):
        check_disjoint(sets["pool"], sets[name])


def test_pass_crops_equal_their_golden_and_defect_crops_do_not(tree: Path, tmp_path: Path) -> None:
    workspace = import_deeppcb(tree, tmp_path / "ws", crop=64)
    for row in read_table(workspace.kpi_csv).itertuples():
        test, golden = (
            np.asarray(
                Image.open(workspace.images_dir / folder / f"{row.object_name}_SolderLight.png"), dtype=int
            )
            for folder in (row.input_path, row.golden_path)
        )
        assert test.shape == golden.shape == (64, 64)
        differs = (np.abs(test - golden) > 128).sum()
        assert differs < 20 if row.label == "PASS" else differs > 150


def test_shares_limits_and_seed(tree: Path, tmp_path: Path) -> None:
    workspace = import_deeppcb(tree, tmp_path / "a", pass_share=0.25, limits={"pool": 20}, seed=3)
    pool = read_table(workspace.pool_csv)
    assert len(pool) == 20
    assert is_pass(pool["label"]).sum() == 5
    again = import_deeppcb(tree, tmp_path / "b", pass_share=0.25, limits={"pool": 20}, seed=3)
    assert again.pool_csv.read_bytes() == workspace.pool_csv.read_bytes()


def test_a_group_of_several_sets_is_dealt_by_board_image(tree: Path, tmp_path: Path) -> None:
    everywhere = {name: ["group00003"] for name in ("training", "validation", "kpi", "pool")}
    sets = _sets(import_deeppcb(tree, tmp_path / "ws", groups=everywhere))
    boards = [set(one.table["boardname"]) for one in sets.values()]
    assert all(boards)
    assert sum(map(len, boards)) == len(set.union(*boards)) == 5


def test_two_groups_go_to_all_sets(tree: Path) -> None:
    boards = [board for board in find_boards(tree) if board.group != "group00001"]
    assert default_groups(boards)["kpi"] == ["group00003", "group00002"]


def test_pass_windows_touch_no_defect_and_show_structure() -> None:
    template = np.zeros((256, 256), dtype=np.uint8)
    template[:, 128:] = 255
    windows = pass_windows(template, [Box(130, 0, 140, 100, "open")], 64, 50, np.random.default_rng(0))
    assert windows
    for left, top in windows:
        assert 64 < left < 128, "both bright and dark"
        assert top >= 108


def _refused(tree: Path, tmp_path: Path, message: str, **arguments: object) -> None:
    with pytest.raises(InputError, match=message):
        import_deeppcb(tree, tmp_path / "ws", **arguments)
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 2 3 4", "is not `x1 y1 x2 y2 type`"),
        ("a b c d 1", "is not `x1 y1 x2 y2 type`"),
        ("1 2 30 40 7", "unknown defect type 7"),
        ("300 2 330 40 1", "the box is not inside the image of 320 x 320"),
        ("30 2 20 40 1", "the box is not inside the image"),
        ("-1 2 20 40 1", "the box is not inside the image"),
    ],
)
def test_malformed_annotation_names_file_and_line(
    tree: Path, tmp_path: Path, line: str, message: str
) -> None:
    note = tree / "PCBData/group00002/00002_not/00002001.txt"
    note.write_text(f"5 5 25 25 1\n\n{line}\n")
    _refused(tree, tmp_path, rf"00002001\.txt line 3 .*{message}")


@pytest.mark.parametrize(
    "lost", ["00002/00002001_temp.jpg", "00002/00002001_test.jpg", "00002_not/00002001.txt"]
)
def test_missing_files_are_named(tree: Path, tmp_path: Path, lost: str) -> None:
    (tree / "PCBData/group00002" / lost).unlink()
    _refused(tree, tmp_path, f"lacks 1 files: .*{lost}")


def test_broken_image(tree: Path, tmp_path: Path) -> None:
    (tree / "PCBData/group00002/00002/00002001_test.jpg").write_bytes(b"\xff\xd8")
    _refused(tree, tmp_path, r"00002001_test\.jpg cannot be read")


def test_pair_of_different_sizes(tree: Path, tmp_path: Path) -> None:
    Image.new("L", (320, 300)).save(tree / "PCBData/group00002/00002/00002001_test.jpg")
    _refused(tree, tmp_path, "differ in size")


def test_source_that_is_no_deeppcb_tree(tmp_path: Path) -> None:
    _refused(tmp_path, tmp_path, "holds no DeepPCB groups")


def test_arguments_out_of_range(tree: Path, tmp_path: Path) -> None:
    _refused(tree, tmp_path, "pass_share is 1", pass_share=1.0)
    _refused(tree, tmp_path, "smaller than a crop of 512", crop=512)
    _refused(tree, tmp_path, "groups names group9", groups={"training": ["group9"]})
    _refused(tree, tmp_path, "no board images for validation, kpi, pool", groups={"training": ["group00001"]})


@pytest.mark.skipif(not REAL.is_dir(), reason="DeepPCB is not at ../shared/data/deeppcb")
def test_real_boards(tmp_path: Path) -> None:
    boards = find_boards(REAL)
    assert len(boards) == 493
    assert sum(len(defects_of(board, 640, 640)) for board in boards) == 3472


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="DeepPCB is not at ../shared/data/deeppcb")
def test_real_import(tmp_path: Path) -> None:
    workspace = import_deeppcb(REAL, tmp_path / "ws", limits={"training": 1600})
    check_sets(workspace)
    sets = _sets(workspace)
    assert len(sets["training"].table) == 1600
    for name in ("training", "validation", "kpi"):
        check_disjoint(sets["pool"], sets[name])
