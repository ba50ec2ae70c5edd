import numpy as np
import pytest

from tasks.classifier.sample import HARD, LABELS, ShapeSizes, rendered, write_shapes_workspace
from tasks.errors import InputError

SIZES = ShapeSizes(train=40, validation=4, kpi=4, pool=40)


def hard_share(root, name):
    files = list((root / name).glob("*/*.png"))
    return sum(not file.stem.endswith("plain") for file in files) / len(files)


def test_same_seed_gives_the_same_files(tmp_path):
    first, second, third = (
        write_shapes_workspace(tmp_path / name, seed, SIZES) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    contents = [
        {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*.png")}
        for root in (first, second, third)
    ]
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_pool_has_what_the_training_set_lacks(tmp_path):
    root = write_shapes_workspace(tmp_path / "ws", 0, SIZES)
    assert hard_share(root, "train") < 0.2 < hard_share(root, "pool")
    assert sorted(folder.name for folder in (root / "train").iterdir()) == list(LABELS)


def test_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match="not an empty folder"):
        write_shapes_workspace(tmp_path)


@pytest.mark.parametrize("label", LABELS)
def test_dark_and_small_shapes_stand_out_less(label):
    def spread(hard):
        return np.mean([rendered(label, hard, np.random.default_rng(seed)).std() for seed in range(20)])

    assert spread("dark") < spread("plain")
    assert spread("small") < spread("plain")
    assert set(HARD) == {"small", "dark", "turned"}
