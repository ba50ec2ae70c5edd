import json
import shutil
from itertools import groupby

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageDraw

from tasks.huggingface.project.files.local_boxes import split_of
from tasks.huggingface.project.files.local_loaders import (
    FORMATS,
    DataError,
    detect_format,
    load_local,
)
from tests.tasks.huggingface import datasets as sets

WRITERS = {
    "jsonl": [lambda folder: sets.chats(folder / "chats.jsonl"), sets.questions],
    "csv": [
        lambda folder: sets.table(folder / "table.csv"),
        lambda folder: sets.table(folder / "t.csv").parent,
    ],
    "parquet": [
        lambda folder: sets.table(folder / "t.parquet"),
        lambda folder: sets.table(folder / "t.parquet").parent,
    ],
    "arrow": [sets.arrow, lambda folder: sets.arrow(folder, splits=False)],
    "coco": [sets.coco, lambda folder: sets.coco(folder) / "annotations" / "instances_train2017.json"],
    "voc": [sets.voc],
    "segmentation-folder": [sets.segmentation],
    "imagefolder": [sets.flat_folder, sets.split_folder, lambda folder: sets.split_folder(folder, "test")],
}


@pytest.mark.parametrize(
    ("form", "writer"), [(form, writer) for form, writers in WRITERS.items() for writer in writers]
)
def test_every_format_is_found_and_its_rows_can_be_read(tmp_path, form, writer):
    (tmp_path / "set").mkdir()
    path = writer(tmp_path / "set")
    assert detect_format(path) == form
    data = load_local(path)
    assert data.format == form
    for rows in data.splits.values():
        assert rows[0]
        assert rows[len(rows) - 1]


def test_a_json_file_with_an_object_a_line_or_a_list_is_jsonl(tmp_path):
    rows = [{"text": f"{number}"} for number in range(4)]
    by_line = sets.lines(tmp_path / "a.json", rows)
    as_list = tmp_path / "b.json"
    as_list.write_text(json.dumps(rows))
    for file in (by_line, as_list):
        assert detect_format(file) == "jsonl"
        assert list(load_local(file).splits["train"]["text"]) == ["0", "1", "2", "3"]


def test_a_coco_file_on_one_line_is_not_taken_for_jsonl(tmp_path):
    file = sets.coco(tmp_path) / "annotations" / "instances_val2017.json"
    assert len(file.read_text().splitlines()) == 1
    assert detect_format(file) == "coco"


def test_what_is_no_data_set_is_refused_with_the_formats_there_are(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match=", ".join(FORMATS)):
        detect_format(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        load_local(tmp_path / "absent")
    with pytest.raises(DataError, match="local_dataset_format tar: not one of"):
        load_local(tmp_path, "tar")


@pytest.mark.parametrize(
    ("name", "split"),
    [("instances_val2017", "validation"), ("train-00000-of-00002", "train"), ("TEST", "test"),
     ("contest", None), ("latest", None), ("dev", "validation")],
)  # fmt: skip
def test_the_split_that_a_name_speaks_of(name, split):
    assert split_of(name) == split


# --- a folder per class


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".PNG"])
def test_images_of_every_kind_count(tmp_path, suffix):
    rows = load_local(sets.flat_folder(tmp_path, each=1, suffix=suffix)).splits["train"]
    assert len(rows) == 3
    assert rows[0]["image"].size == (32, 24)


def test_classes_are_named_by_their_folders_over_all_splits(tmp_path):
    sets.split_folder(tmp_path)
    shutil.rmtree(tmp_path / "val" / "blue")
    shutil.rmtree(tmp_path / "train" / "red")
    data = load_local(tmp_path)
    assert data.splits.keys() == {"train", "validation"}
    for rows in data.splits.values():
        assert rows.features["label"].names == ["blue", "green", "red"]
    assert set(data.splits["validation"]["label"]) == {1, 2}


def test_images_called_test_stay_in_their_class(tmp_path):
    """`load_dataset("imagefolder")` takes them for a split and leaves out the others."""
    sets.flat_folder(tmp_path, each=2)
    for colour in sets.CLASSES:
        (tmp_path / colour / "0.png").rename(tmp_path / colour / "test_0.png")
    data = load_local(tmp_path)
    assert {name: len(rows) for name, rows in data.splits.items()} == {"train": 6}


def test_a_single_class_is_refused(tmp_path):
    sets.picture(tmp_path / "only" / "1.png")
    with pytest.raises(DataError, match="found 1 class folder"):
        load_local(tmp_path, "imagefolder")


def test_a_metadata_table_beside_images_is_read(tmp_path):
    sets.picture(tmp_path / "1.png")
    sets.lines(tmp_path / "metadata.jsonl", [{"file_name": "1.png", "text": "a red picture"}])
    assert load_local(tmp_path, "imagefolder").splits["train"][0]["text"] == "a red picture"


# --- boxes


def test_coco_categories_become_contiguous_and_images_without_boxes_stay(tmp_path):
    data = load_local(sets.coco(tmp_path))
    rows = data.splits["train"]
    assert data.label_names == ["glove", "mask"]
    assert rows[0]["objects"] == {"bbox": [[2, 3, 10, 8]], "category_id": [0], "area": [80], "iscrowd": [0]}
    assert [rows[0][key] for key in ("image_id", "width", "height")] == [100, 40, 30]
    assert rows[1]["objects"]["category_id"] == [1]
    assert rows[5]["objects"]["bbox"] == []
    assert rows[5]["image"].size == (40, 30)


def test_coco_outlines_are_kept_where_they_are_asked_for(tmp_path):
    objects = load_local(sets.coco(tmp_path), polygons=True).splits["train"][0]["objects"]
    assert objects["segmentation"] == [[[2, 3, 12, 3, 12, 11, 2, 11]]]


@pytest.mark.parametrize("text", [True, False])
def test_a_run_length_mask_of_coco_becomes_outlines_of_the_same_pixels(tmp_path, text):
    pycocotools = pytest.importorskip("pycocotools.mask")
    pixels = np.random.default_rng(0).random((30, 40)) > 0.5
    runs = [len(list(run)) for _, run in groupby([False, *pixels.T.ravel()])]  # they begin with a 0
    coded = {"size": [30, 40], "counts": [runs[0] - 1, *runs[1:]]}
    if text:
        coded["counts"] = pycocotools.frPyObjects(coded, 30, 40)["counts"].decode()
    file = sets.coco(tmp_path, splits=("train",)) / "annotations" / "instances_train2017.json"
    change(file, lambda c: c["annotations"][0].update(segmentation=coded))
    outlines = load_local(tmp_path, polygons=True).splits["train"][0]["objects"]["segmentation"][0]
    drawn = Image.new("1", (40, 30))
    for outline in outlines:
        ImageDraw.Draw(drawn).polygon(outline, fill=1)
    assert (np.asarray(drawn) == pixels).all()


def test_categories_of_the_same_name_are_told_apart_by_their_ids(tmp_path):
    for split in ("train", "val"):
        file = sets.coco(tmp_path, splits=(split,)) / "annotations" / f"instances_{split}2017.json"
        change(file, lambda c: c["categories"][0].update(name="glove"))
    assert load_local(tmp_path).label_names == ["glove (7)", "glove (90)"]


def change(file, edit):
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["annotations"][1].update(image_id=5), "annotation 1: image_id 5 is not in images"),
        (
            lambda c: c["annotations"][1].update(category_id=5),
            "annotation 1: category_id 5 is not in categories",
        ),
        (
            lambda c: c["annotations"][1].update(bbox=[1, 2]),
            r"annotation 1: bbox must be \[x, y, width, height\]",
        ),
        (lambda c: c["annotations"][1].update(segmentation={"counts": "x"}), "annotation 1: segmentation is"),
        (lambda c: c["images"][1].update(file_name="gone.jpg"), "image gone.jpg is neither beside it"),
        (lambda c: c["categories"][0].update(name="other"), "category 90 is"),
        (lambda c: c.pop("categories"), "not COCO"),
    ],
)
def test_a_wrong_coco_file_is_refused_with_the_place(tmp_path, edit, message):
    file = sets.coco(tmp_path) / "annotations" / "instances_val2017.json"
    change(file, edit)
    with pytest.raises(DataError, match=message):
        load_local(tmp_path, "coco", polygons=True)


def test_boxes_without_a_size_are_left_out_and_sizes_missing_are_read(tmp_path):
    file = sets.coco(tmp_path, splits=("train",)) / "annotations" / "instances_train2017.json"
    change(file, lambda c: (c["annotations"][0].update(bbox=[2, 3, 0, 8]), c["images"][0].pop("width")))
    row = load_local(tmp_path).splits["train"][0]
    assert row["objects"]["bbox"] == []
    assert row["width"] == 40


def test_coco_annotations_beside_an_images_folder(tmp_path):
    sets.coco(tmp_path / "source", splits=("train",))
    root = tmp_path / "test_set"  # a folder's own name is no split
    shutil.copytree(tmp_path / "source" / "train2017", root / "images")
    shutil.copy(tmp_path / "source" / "annotations" / "instances_train2017.json", root / "annotations.json")
    assert load_local(root).splits.keys() == {"train"}


def test_voc_classes_are_those_of_all_splits(tmp_path):
    data = load_local(sets.voc(tmp_path))
    assert data.label_names == ["ant", "cat", "dog"]
    assert data.splits["train"][0]["objects"] == {
        "bbox": [[5, 6, 20, 10]], "category_id": [2], "area": [200], "iscrowd": [0],
    }  # fmt: skip
    assert data.splits["validation"][0]["objects"]["category_id"] == [0]
    assert (data.splits["train"][0]["width"], data.splits["train"][0]["height"]) == (40, 30)


def test_voc_without_lists_is_all_train(tmp_path):
    shutil.rmtree(sets.voc(tmp_path) / "ImageSets")
    assert {name: len(rows) for name, rows in load_local(tmp_path).splits.items()} == {"train": 6}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "Annotations" / "val1.xml").unlink(), "val1.xml: is missing"),
        (lambda f: (f / "JPEGImages" / "val1.jpg").unlink(), "val1.*: no image"),
        (lambda f: (f / "Annotations" / "val1.xml").write_text("<annot"), "val1.xml: not XML"),
        (lambda f: (f / "JPEGImages" / "val1.jpg").write_text("no"), "val1.jpg: cannot be read as an image"),
        (lambda f: (f / "Annotations" / "val1.xml").write_text("<a><object><name>x</name></object></a>"),
         "val1.xml: object x lacks a corner"),
    ],
)  # fmt: skip
def test_a_wrong_voc_file_is_refused_with_its_name(tmp_path, spoil, message):
    spoil(sets.voc(tmp_path))
    with pytest.raises(DataError, match=message):
        load_local(tmp_path)


# --- masks


def test_masks_are_paired_by_name_and_classes_named(tmp_path):
    data = load_local(sets.segmentation(tmp_path))
    assert data.label_names == ["board", "chip"]
    assert data.splits.keys() == {"train", "validation"}
    assert set(np.unique(np.asarray(data.splits["train"][0]["annotation"]))) == {0, 1, 255}


def test_the_explicit_imagefolder_takes_images_and_masks_too(tmp_path):
    assert load_local(sets.segmentation(tmp_path), "imagefolder").format == "segmentation-folder"


def lying(file):
    """A picture of 20x10 pixels whose EXIF data say that it stands upright: 10x20."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (20, 10)).save(file, exif=exif)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "masks/train/1.png").unlink(), "1.jpg: its mask .*1.png is missing"),
        (lambda f: Image.new("L", (8, 9)).save(f / "masks/train/1.png"), "1.png: is 8x9, its image 32x32"),
        (
            lambda f: (
                lying(f / "images/train/1.jpg"),
                Image.new("L", (20, 10)).save(f / "masks/train/1.png"),
            ),
            "1.png: is 20x10, its image 10x20",
        ),
        (lambda f: (f / "id2label.json").write_text('{"0": "a", "2": "b"}'), "from 0 to 1; 1 is missing"),
        (lambda f: (f / "id2label.json").write_text('{"zero": "a"}'), "must be like"),
    ],
)
def test_wrong_masks_are_refused_with_the_file(tmp_path, spoil, message):
    spoil(sets.segmentation(tmp_path))
    with pytest.raises(DataError, match=message):
        load_local(tmp_path)


# --- tables


def test_relative_image_paths_are_read_from_any_folder(tmp_path, monkeypatch):
    sets.questions(tmp_path)
    monkeypatch.chdir("/")
    rows = load_local(tmp_path).splits["train"]
    assert rows[3]["image"].size == (32, 24)
    assert rows.column_names == ["image", "question", "answer"]


@pytest.mark.parametrize("column", ["annotation", "mask", "depth_map", "depth"])
def test_a_second_column_of_paths_becomes_images_too(tmp_path, column):
    sets.questions(tmp_path)
    rows = [{"image_path": "images/0.png", column: "images/1.png", "text": "images/0.png"}]
    row = load_local(sets.lines(tmp_path / "pairs.jsonl", rows)).splits["train"][0]
    assert (row["image"].size, row[column].size, row["text"]) == ((32, 24), (32, 24), "images/0.png")
    rows = [{"image_path": "images/0.png", column: "two words"}]
    assert load_local(sets.lines(tmp_path / "words.jsonl", rows)).splits["train"][0][column] == "two words"


@pytest.mark.parametrize("column", ["photo", "image_path", "mask"])
def test_a_column_that_the_config_names_becomes_images_under_its_own_name(tmp_path, column):
    sets.questions(tmp_path)
    file = sets.lines(tmp_path / "named.jsonl", [{column: "images/0.png"}, {column: "images/1.png"}])
    rows = load_local(file, pictures=[column]).splits["train"]
    assert rows.column_names == [column]
    assert rows[1][column].size == (32, 24)
    sets.lines(file, [{column: None}, {column: "images/0.png"}])
    with pytest.raises(DataError, match=rf"row 1, column {column}: no image \(empty\); check it"):
        load_local(file, pictures=[column])


def test_a_mask_that_is_missing_in_the_first_row_is_named(tmp_path):
    sets.questions(tmp_path)
    rows = [{"image": "images/0.png", "mask": mask} for mask in (None, "images/1.png")]
    with pytest.raises(DataError, match=r"row 1, column mask: no image \(empty\); check it"):
        load_local(sets.lines(tmp_path / "pairs.jsonl", rows))


def test_several_images_a_row(tmp_path):
    sets.questions(tmp_path)
    file = sets.lines(tmp_path / "many.jsonl", [{"images": ["images/0.png", "images/1.png"], "text": "two"}])
    row = load_local(file).splits["train"][0]
    assert [image.size for image in row["images"]] == [(32, 24), (32, 24)]


def test_a_missing_image_is_named_by_row_and_column(tmp_path):
    sets.questions(tmp_path)
    (tmp_path / "images" / "2.png").unlink()
    with pytest.raises(DataError, match=r"train.jsonl, row 3, column image: no image .*2.png"):
        load_local(tmp_path)


def test_a_line_that_is_no_object_is_named(tmp_path):
    file = sets.chats(tmp_path / "chats.jsonl", 3)
    file.write_text(file.read_text() + "[1]\n")
    with pytest.raises(DataError, match=r"chats.jsonl, line 4: not a JSON object"):
        load_local(file)


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_text_labels_of_a_table_become_classes(tmp_path, name):
    rows = load_local(sets.table(tmp_path / name)).splits["train"]
    assert rows.features["label"].names == ["blue", "green", "red"]
    assert list(rows["label"]) == [0, 1, 2] * 3
    assert rows[0]["image"].size == (32, 24)


def test_a_label_that_is_missing_is_no_class(tmp_path):
    file = sets.table(tmp_path / "table.csv")
    file.write_text(file.read_text().replace("2.png,red", "2.png,"))
    rows = load_local(file).splits["train"]
    assert rows.features["label"].names == ["blue", "green", "red"]
    assert rows["label"][2] is None


def test_splits_of_tables_come_from_their_names_and_share_classes(tmp_path):
    sets.table(tmp_path / "train.csv", 9)
    sets.table(tmp_path / "val.csv", 2)
    splits = load_local(tmp_path).splits
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 9, "validation": 2}
    assert splits["validation"].features["label"].names == ["blue", "green", "red"]


def test_a_dataset_dict_keeps_its_splits(tmp_path):
    assert load_local(sets.arrow(tmp_path / "set")).splits.keys() == {"train", "validation"}


def test_arrow_images_stored_as_bytes_become_images(tmp_path):
    from datasets import Dataset

    raw = sets.picture(tmp_path / "1.png").read_bytes()
    Dataset.from_list([{"image": {"bytes": raw, "path": None}, "label": 0}]).save_to_disk(
        str(tmp_path / "set")
    )
    assert load_local(tmp_path / "set").splits["train"][0]["image"].size == (32, 24)


def test_a_folder_that_save_to_disk_did_not_write(tmp_path):
    (tmp_path / "dataset_info.json").write_text("{}")
    with pytest.raises(DataError, match="not written by save_to_disk"):
        load_local(tmp_path)
