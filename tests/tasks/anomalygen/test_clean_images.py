import logging
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.anomalygen.action import GENERATE
from tasks.anomalygen.clean_images import CleanPicture, CleanSource, fair_rows, order_of_likeness, usable
from tasks.anomalygen.plan import Plan
from tasks.dataset.table import is_pass, read_table
from tasks.errors import InputError


@pytest.fixture
def picture(tmp_path):
    def write(name, pixels):
        file = tmp_path / name
        Image.fromarray(np.asarray(pixels, np.uint8)).save(file)
        return file

    return write


def clean(file):
    return CleanPicture(file.name, (file,), (file,))


def test_every_golden_once_with_all_its_lightings(space, generation):
    pictures = CleanSource(generation(clean_csv=[space.training_csv, space.training_csv])).pictures
    table = read_table(space.training_csv)
    assert len(pictures) == len(table[["golden_path", "object_name"]].drop_duplicates())
    assert all(len(one.files) == 2 and one.files == one.originals for one in pictures)
    assert not (space.images_dir / pictures[0].name).is_dir()
    assert (space.images_dir / pictures[0].name).is_file()


def test_pass_samples_keep_their_golden_as_original(space, generation):
    pictures = CleanSource(generation(paint_on="pass_sample")).pictures
    table = read_table(space.training_csv)
    assert len(pictures) == is_pass(table["label"]).sum()
    assert all("golden" in str(one.originals[0]) and one.files[0] != one.originals[0] for one in pictures)


def test_several_csvs_are_one_source(space, generation):
    one = CleanSource(generation(paint_on="pass_sample")).pictures
    both = CleanSource(
        generation(paint_on="pass_sample", clean_csv=[space.training_csv, space.validation_csv])
    ).pictures
    assert len(both) > len(one)
    assert [item.name for item in both[: len(one)]] == [item.name for item in one]


def test_no_pass_row_is_refused(space, generation, tmp_path):
    table = read_table(space.training_csv)
    table[~is_pass(table["label"])].to_csv(tmp_path / "defects.csv", index=False)
    with pytest.raises(InputError, match="no row to paint on"):
        _ = CleanSource(generation(paint_on="pass_sample", clean_csv=tmp_path / "defects.csv")).pictures


def test_rows_without_golden_are_left_out(space, generation, tmp_path):
    table = read_table(space.training_csv)
    table.loc[:2, "golden_path"] = " "
    table.to_csv(tmp_path / "pool.csv", index=False)
    changed = generation(clean_csv=tmp_path / "pool.csv")
    assert len(CleanSource(changed).pictures) == len(CleanSource(generation()).pictures) - 3


def test_missing_pictures_are_named(space, generation, tmp_path):
    row = {"input_path": "x", "golden_path": "gone", "label": "PASS", "object_name": "U1@1"}
    pd.DataFrame([row]).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(InputError, match=r"2 clean pictures do not exist: .*gone/U1@1_"):
        _ = CleanSource(generation(clean_csv=tmp_path / "rows.csv")).pictures


def test_weak_pictures_are_dropped_by_path_and_by_content(picture, tmp_path, caplog):
    rng = np.random.default_rng(0)
    files = [picture(f"{n}.png", rng.integers(0, 255, (8, 8, 3))) for n in range(3)]
    copy = tmp_path / "copy.png"
    shutil.copy(files[1], copy)
    (tmp_path / "link.png").symlink_to(files[0])
    with caplog.at_level(logging.WARNING, logger="deft"):
        kept = usable([clean(file) for file in files], [tmp_path / "link.png", copy])
    assert [one.files[0] for one in kept] == [files[2]]
    assert "2 of 3 clean pictures" in caplog.text
    with pytest.raises(InputError, match="all 2 clean pictures are measured ones"):
        usable([clean(file) for file in files[:2]], files)


def test_nothing_is_painted_on_what_is_measured(space, generation):
    """Also where the KPI set's own rows are offered as clean pictures."""
    offered = generation(
        paint_on="pass_sample",
        clean_csv=[space.training_csv, space.kpi_csv, space.validation_csv],
        keep_out=[space.kpi_csv, space.validation_csv],
    )
    kept = Plan(offered).pictures
    alone = Plan(generation(paint_on="pass_sample")).pictures
    assert {one.name for one in kept} == {one.name for one in alone}
    assert {space.kpi_csv, space.validation_csv} <= set(GENERATE.reads(offered))


def test_keep_out_needs_clean_csv(generation, tmp_path):
    with pytest.raises(InputError, match="keep_out goes with clean_csv"):
        generation(clean_csv=None, dataset_dir=tmp_path, keep_out=tmp_path / "kpi.csv")


def test_a_weak_picture_as_golden_is_dropped_too(picture):
    files = [picture(f"{n}.png", np.full((4, 4, 3), n)) for n in range(2)]
    with pytest.raises(InputError, match="all 1 clean"):
        usable([CleanPicture("a", (files[0],), (files[1],))], [files[1]])


def test_clean_pictures_like_weak_samples_come_first_in_rounds(picture):
    ramp = np.repeat(np.arange(0, 240, 15)[None], 16, 0)
    rng = np.random.default_rng(1)

    def variant(name, base, noise):
        return picture(name, np.clip(base + rng.normal(0, noise, base.shape), 0, 255))

    weak = [picture("w0.png", ramp), picture("w1.png", ramp.T)]
    candidates = [
        variant("far1.png", ramp.T, 60),
        variant("near1.png", ramp.T, 2),
        variant("near0.png", ramp // 2 + 40, 2),
        variant("far0.png", ramp, 60),
    ]
    order = order_of_likeness(candidates, weak, ["a", "b"])
    assert [candidates[n].name for n in order] == ["near0.png", "near1.png", "far0.png", "far1.png"]


def test_pictures_of_one_grey_are_like_nothing(picture):
    flat = [picture(f"{n}.png", np.full((8, 8), 10 * n)) for n in range(3)]
    assert order_of_likeness(flat[:2], [flat[2]], ["a"]) == [0, 1]


def test_a_weak_picture_that_is_gone_is_named(picture, tmp_path):
    file = picture("a.png", np.zeros((4, 4)))
    with pytest.raises(InputError, match=r"gone\.png.*similar_to_weak=false"):
        order_of_likeness([file], [tmp_path / "gone.png"], ["a"])


def test_rounds_over_the_labels():
    assert fair_rows(["a", "a", "b", "a", "b"]) == [0, 2, 1, 4, 3]
