from pathlib import Path

import pyarrow as pa
import pytest

from tasks.artifacts import write_parquet
from tasks.errors import InputError
from tasks.gap_analysis.gap_files import check_gap_files


@pytest.fixture
def image(tmp_path):
    file = tmp_path / "data" / "kpi" / "board" / "C1_Top.jpg"
    file.parent.mkdir(parents=True)
    file.touch()
    return file


def parquet_of(tmp_path, files):
    return write_parquet(
        tmp_path / "g.parquet", pa.table({"filepath": pa.array(map(str, files), pa.string())})
    )


def test_files_that_exist(tmp_path, image):
    check_gap_files(parquet_of(tmp_path, [image, image]))


def test_no_rows_have_no_missing_files(tmp_path):
    check_gap_files(parquet_of(tmp_path, []))


def test_three_examples_are_given(tmp_path, image):
    missing = [image.with_name(f"{number}.jpg") for number in range(5)]
    with pytest.raises(InputError, match=r"GAP-E07: 5 of 6 .*0\.jpg, .*1\.jpg, .*2\.jpg;"):
        check_gap_files(parquet_of(tmp_path, [image, *missing]))


@pytest.mark.parametrize(
    ("wrong", "guess"),
    [
        (lambda file, root: root / "data/kpi" / "data/kpi" / "board" / file.name, "is in input_path already"),
        (lambda file, root: root / "data/kpi/kpi/board" / file.name, "is in input_path already"),
        (lambda file, root: file.with_suffix(".png"), r"holds C1_Top\.jpg; check input_map and image_ext"),
        (lambda file, root: Path("board") / file.name, "the paths are relative"),
        (lambda file, root: root / "elsewhere" / "board" / file.name, "only .* exists; check that"),
    ],
    ids=["prefix twice", "part of the prefix twice", "extension", "no prefix", "wrong root"],
)
def test_guess_at_the_cause(tmp_path, image, wrong, guess):
    with pytest.raises(InputError, match=guess):
        check_gap_files(parquet_of(tmp_path, [wrong(image, tmp_path)]))


def test_of_many_rows_the_first_and_last_are_looked_at(tmp_path, image):
    rows = [image] * 6000
    check_gap_files(parquet_of(tmp_path, rows))
    for position in (0, -1):
        broken = list(rows)
        broken[position] = image.with_name("gone.jpg")
        with pytest.raises(InputError, match="1 of 10 files"):
            check_gap_files(parquet_of(tmp_path, broken))


def test_parquet_without_the_column(tmp_path):
    path = write_parquet(tmp_path / "g.parquet", pa.table({"a": [1]}))
    with pytest.raises(InputError, match="filepath"):
        check_gap_files(path)


def test_missing_parquet(tmp_path):
    with pytest.raises(InputError, match=r"gaps parquet .* No such file"):
        check_gap_files(tmp_path / "g.parquet")
