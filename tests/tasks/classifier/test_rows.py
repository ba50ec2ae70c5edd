import numpy as np
import pytest
from PIL import Image

from tasks.classifier.rows import pixels_of, read_rows
from tasks.errors import InputError


def written(folder, text):
    csv = folder / "rows.csv"
    csv.write_text(text)
    return csv


def test_relative_paths_start_at_images_dir_and_absolute_ones_stay(tmp_path):
    rows = read_rows(written(tmp_path, f"filepath,label,more\na.png,x,1\n{tmp_path}/b.png,y,2\n"), tmp_path)
    assert rows.files == [tmp_path / "a.png", tmp_path / "b.png"]
    assert rows.classes() == ["x", "y"]
    assert rows.numbers(["y", "x"]).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filepath\na.png\n", "needs the columns filepath and label"),
        ("filepath,label\n", "at least one row"),
        ("filepath,label\na.png,x\nb.png, \n", r"empty in the lines 3"),
        ("filepath,label\na.png,x\na.png,y\n", r"more than once: a\.png"),
        ('filepath,label\n"a.png,x\n', "is not a CSV"),
    ],
)
def test_bad_list_is_one_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_rows(written(tmp_path, text), tmp_path)


def test_missing_list_is_named(tmp_path):
    with pytest.raises(InputError, match=r"data set .*rows\.csv: No such file"):
        read_rows(tmp_path / "rows.csv")


def test_relative_paths_need_images_dir(tmp_path):
    with pytest.raises(InputError, match="say in images_dir"):
        read_rows(written(tmp_path, "filepath,label\na.png,x\n"))


def test_label_that_a_model_does_not_know_is_named(tmp_path):
    rows = read_rows(written(tmp_path, "filepath,label\na.png,x\nb.png,y\n"), tmp_path)
    with pytest.raises(InputError, match=r"has the labels y, .* it knows: x, z"):
        rows.numbers(["x", "z"])


def test_images_are_resized_channels_first(tmp_path):
    Image.fromarray(np.full((20, 10, 3), (10, 20, 30), np.uint8)).save(tmp_path / "a.png")
    rows = read_rows(written(tmp_path, "filepath,label\na.png,x\n"), tmp_path)
    pixels = pixels_of(rows, 8)
    assert pixels.shape == (1, 3, 8, 8)
    assert pixels[0, :, 4, 4].tolist() == [10, 20, 30]


def test_all_bad_images_are_named_at_once(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    rows = read_rows(written(tmp_path, "filepath,label\na.png,x\nb.png,x\n"), tmp_path)
    with pytest.raises(InputError, match=r"2 images cannot be read: .*a\.png, .*b\.png"):
        pixels_of(rows, 8)
