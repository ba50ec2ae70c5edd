import logging
import shutil

import pytest

from tasks.classifier.workspace import (
    check_disjoint,
    folder_rows,
    inference_values,
    read_baseline,
    read_list,
    training_values,
    write_row_lists,
)
from tasks.errors import InputError


def copied(shapes, origin, target, label="circle"):
    """Put a copy of the first image of a set into another one."""
    source = next((shapes.root / origin / label).iterdir())
    return shutil.copy(source, shapes.root / target / label / "copy.png")


def test_lists_hold_every_image_with_the_label_of_its_folder(shapes):
    rows = read_list(shapes.lists.kpi)
    assert len(rows) == 32
    assert all(row["filepath"].split("/")[:2] == ["kpi", row["label"]] for row in rows)
    assert {row["origin"] for row in rows} == {"kpi"}


def test_workspace_without_a_pool_has_no_pool_list(shapes, tmp_path):
    shutil.rmtree(shapes.root / "pool")
    assert write_row_lists(shapes.root, tmp_path).pool is None


@pytest.mark.parametrize(
    ("origin", "target"),
    [
        ("kpi", "train"),
        ("validation", "train"),
        ("validation", "kpi"),
        ("kpi", "pool"),
        ("validation", "pool"),
    ],
)
def test_image_in_two_sets_is_refused_before_anything_is_written(shapes, tmp_path, origin, target):
    copied(shapes, origin, target)
    with pytest.raises(InputError, match=r"1 images are in two sets .*copy\.png"):
        write_row_lists(shapes.root, tmp_path / "lists")
    assert not (tmp_path / "lists").exists()


def test_copies_in_the_pool_are_left_out_and_counted(shapes, tmp_path, caplog):
    copied(shapes, "train", "pool", "circle")
    copied(shapes, "pool", "pool", "cross")
    with caplog.at_level(logging.INFO, "deft"):
        lists = write_row_lists(shapes.root, tmp_path)
    assert "2 images are copies of others" in caplog.text
    assert len(read_list(lists.pool)) == 40


def test_empty_set_unknown_label_and_odd_file_are_named(shapes, tmp_path):
    (shapes.root / "kpi" / "circle" / "notes.txt").touch()
    with pytest.raises(InputError, match=r"not an image .*notes\.txt"):
        folder_rows(shapes.root, "kpi")
    (shapes.root / "kpi" / "circle" / "notes.txt").unlink()
    (shapes.root / "pool" / "circle").rename(shapes.root / "pool" / "ring")
    with pytest.raises(InputError, match="has the labels ring, which train lacks"):
        write_row_lists(shapes.root, tmp_path)
    shutil.rmtree(shapes.root / "kpi")
    with pytest.raises(InputError, match="has no images in kpi"):
        write_row_lists(shapes.root, tmp_path)


def test_disjoint_sets_pass(shapes):
    check_disjoint(shapes.root, read_list(shapes.lists.train), read_list(shapes.lists.kpi))


def test_training_values_keep_the_spec_and_set_what_is_given(shapes, tmp_path):
    spec = read_baseline(shapes.root)
    values = training_values(
        spec,
        shapes.root,
        training_csv=shapes.lists.train,
        validation_csv=shapes.lists.validation,
        results_dir=tmp_path,
        pretrained_model_path=tmp_path / "m.safetensors",
        seed=7,
    )
    assert values["train"]["num_epochs"] == spec["train"]["num_epochs"]
    assert values["train"]["seed"] == 7
    assert values["train"]["pretrained_model_path"] == str(tmp_path / "m.safetensors")
    assert values["model"] == spec["model"]
    assert "pretrained_model_path" not in spec["train"]


def test_scores_depend_on_no_training_key(shapes, tmp_path):
    values = inference_values(
        read_baseline(shapes.root),
        shapes.root,
        rows_csv=shapes.lists.kpi,
        checkpoint=tmp_path / "m.safetensors",
        results_dir=tmp_path,
    )
    assert "train" not in values
