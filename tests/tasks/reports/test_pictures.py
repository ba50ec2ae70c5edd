import base64
import io

import numpy as np
from PIL import Image

from tasks.reports.pictures import data_uri, thumbnail, write_thumbnail


def picture(path, width, height, mode="RGB"):
    Image.fromarray(np.full((height, width, 3), 200, np.uint8)).convert(mode).save(path)
    return path


def test_a_small_crop_keeps_its_pixels(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[1, 2] = 255
    file = tmp_path / "crop.png"
    Image.fromarray(pixels).save(file)
    large = np.asarray(thumbnail(file, 64))
    assert large.shape == (64, 64, 3)
    assert set(np.unique(large)) == {0, 255}
    assert large[:, :, 0].sum() == 255 * 16 * 16


def test_other_shapes_are_padded_not_stretched(tmp_path):
    found = np.asarray(thumbnail(picture(tmp_path / "wide.png", 40, 10), 40))
    assert (found[20] == 200).all()
    assert (found[0] == 128).all()


def test_grey_and_transparent_pictures_are_rgb(tmp_path):
    for mode in ("L", "LA", "P"):
        assert thumbnail(picture(tmp_path / f"{mode}.png", 8, 8, mode), 16).mode == "RGB"


def test_a_picture_that_cannot_be_read(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG no picture")
    assert thumbnail(broken, 16) is None
    assert data_uri(tmp_path / "absent.png", 16) is None
    assert write_thumbnail(broken, tmp_path / "out.png", 16) is False
    assert not (tmp_path / "out.png").exists()


def test_a_picture_inside_a_page(tmp_path):
    head, data = data_uri(picture(tmp_path / "a.png", 300, 300), 96).split(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (96, 96)


def test_a_picture_beside_a_report(tmp_path):
    target = tmp_path / "rca_images" / "1.png"
    assert write_thumbnail(picture(tmp_path / "a.png", 300, 200), target, 128)
    assert Image.open(target).size == (128, 128)
