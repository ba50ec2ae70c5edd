import json

import pandas as pd
import pytest
from PIL import Image
from pycocotools.coco import COCO

from tasks.errors import InputError
from tasks.export.formats import CSV, FIELDS, write_export
from tasks.export.samples import sample_id, samples_of
from tests.tasks.export.conftest import LABELS


@pytest.fixture
def samples(run):
    return samples_of(run)


def test_csv_comes_back_as_it_was(samples, tmp_path):
    file = write_export(samples, "csv", tmp_path / "out")
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    assert list(table["label"]) == [one.label for one in samples]
    assert list(table["input_path"]) == [one.input_path for one in samples]
    assert [float(value) for value in table["score"][: len(LABELS)]] == [
        one.score for one in samples if one.score
    ]
    assert set(table["set"]) == {"weak", "mined"}
    for row in table.to_dict("records"):
        assert (tmp_path / "out" / row["filepath"]).is_file()
        assert not row["golden"] or (tmp_path / "out" / row["golden"]).is_file()


def test_corrected_label_finds_its_row(samples, tmp_path):
    """What a person changes in the table is found again by input_path and object_name, and by the id."""
    file = write_export(samples, "csv", tmp_path / "out")
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    table.loc[1, "label"] = "open"
    corrected = table[["id", "set", "input_path", "object_name", "label"]]
    corrected.to_csv(tmp_path / "corrected.csv", index=False)
    back = pd.read_csv(tmp_path / "corrected.csv", dtype=str, keep_default_na=False)
    changed = [(old, new) for old, new in zip(samples, back.to_dict("records"), strict=True)
               if old.label != new["label"]]  # fmt: skip
    assert [(old.object_name, new["label"]) for old, new in changed] == [("x 01", "open")]
    row = changed[0][1]
    assert row["id"] == sample_id(row["set"], row["input_path"], row["object_name"])


def test_coco_is_whole(samples, tmp_path):
    content = json.loads(write_export(samples, "coco", tmp_path / "out").read_text())
    assert {one["name"] for one in content["categories"]} == {*LABELS, "short"}
    names = {one["id"]: one["name"] for one in content["categories"]}
    images = {one["id"]: one for one in content["images"]}
    for one, sample in zip(content["annotations"], samples, strict=True):
        image = images[one["image_id"]]
        with Image.open(tmp_path / "out" / image["file_name"]) as opened:
            assert (image["width"], image["height"]) == opened.size
        assert one["bbox"] == [0, 0, image["width"], image["height"]]
        assert names[one["category_id"]] == sample.label
        assert image["deft"]["input_path"] == sample.input_path


def test_coco_loads_with_pycocotools(samples, tmp_path):
    loaded = COCO(str(write_export(samples, "coco", tmp_path / "out")))
    short = loaded.getCatIds(catNms=["short"])
    assert len(loaded.getAnnIds(catIds=short)) == 3


def test_fiftyone_folder_says_of_every_field_what_it_holds(samples, tmp_path):
    out = write_export(samples, "fiftyone", tmp_path / "out").parent
    head = json.loads((out / "metadata.json").read_text())
    documents = json.loads((out / "samples.json").read_text())["samples"]
    declared = {one["db_field"]: one["ftype"].rsplit(".", 1)[1] for one in head["sample_fields"]}
    kinds = {"StringField": str, "FloatField": float, "BooleanField": bool}
    assert set(FIELDS) < set(declared)
    for document, sample in zip(documents, samples, strict=True):
        assert set(document) == set(declared)
        assert document["ground_truth"]["label"] == sample.label
        assert document["tags"][:2] == [sample.set, sample.phase]
        assert (out / document["filepath"]).is_file()
        for name, value in document.items():
            if value is not None and declared[name] in kinds:
                assert isinstance(value, kinds[declared[name]]), name


def test_images_are_links_or_copies(samples, tmp_path):
    write_export(samples, "csv", tmp_path / "links")
    write_export(samples, "csv", tmp_path / "copies", copy=True)
    linked, copied = (next((tmp_path / name / "data").iterdir()) for name in ("links", "copies"))
    assert linked.is_symlink()
    assert not copied.is_symlink()


def test_folder_that_holds_something_is_left_alone(samples, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        write_export(samples, "csv", tmp_path / "out")
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_empty_folder_will_do(samples, tmp_path):
    (tmp_path / "out").mkdir()
    assert write_export(samples, "csv", tmp_path / "out").name == CSV


def test_image_that_is_none_is_named_before_anything_is_written(samples, tmp_path):
    samples[0].image.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"x 00_Solder Light\.PNG is no image"):
        write_export(samples, "coco", tmp_path / "out")
    assert not (tmp_path / "out").exists()
