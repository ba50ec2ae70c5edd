from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.errors import InputError
from tasks.images import decoded, unreadable


def test_16_bit_greys_are_scaled_not_clipped(tmp_path: Path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 256, 32768, 65535]], np.uint16)).save(path)
    assert np.asarray(decoded(path))[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str):
    path = tmp_path / "image.tif"
    Image.new(mode, (3, 2)).save(path)
    assert decoded(path).mode == "RGB"


def test_missing_empty_truncated_and_foreign_files_are_unreadable(tmp_path: Path):
    good = tmp_path / "good.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(good)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:900])
    (tmp_path / "text.png").write_text("no image")
    bad = [tmp_path / name for name in ("none.jpg", "empty.jpg", "cut.jpg", "text.png")]
    assert unreadable([good, *bad, bad[0]]) == bad
    with pytest.raises(InputError, match=r"none\.jpg cannot be read: No such file"):
        decoded(bad[0])
