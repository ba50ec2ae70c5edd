import json
import os
import resource
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, Image, Sequence, Value, load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from tasks.huggingface.project.files import data_rows, local_boxes, local_loaders, prepare_data
from tasks.huggingface.project.files.data_rows import DataError, shortened
from tasks.huggingface.project.files.prepare_data import balanced, carved, part_of, prepare
from tasks.huggingface.project.render import beside_scripts
from tests.tasks.huggingface import datasets as sets

SCRIPTS = [Path(module.__file__) for module in (prepare_data, data_rows, local_loaders, local_boxes)]
labels = st.lists(st.integers(0, 6), min_size=2, max_size=200)


def config(folder, path=None, task="image-classification", **changes):
    """A config whose data go below `folder`."""
    source = {"local_dataset_path": str(path)} if path else {}
    numbers = {"n_train": 10_000, "n_eval": 1_000, "local_data_dir": str(folder / "data")}
    return {"task": task, **source, **numbers} | changes


def prepared(folder):
    return load_from_disk(str(folder / "data" / "train")), load_from_disk(str(folder / "data" / "eval"))


# --- sampling


@given(labels, st.integers(1, 250), st.integers(0, 5))
def test_a_balanced_sample_has_as_many_rows_as_asked_and_equal_shares(given_labels, n, seed):
    chosen = balanced(given_labels, n, seed)
    assert len(chosen) == len(set(chosen)) == min(n, len(given_labels))
    available, taken = Counter(given_labels), Counter(given_labels[index] for index in chosen)
    open_ = [label for label in available if taken[label] < available[label]]
    if open_:
        # A class that could give more has at most one row less than any other.
        assert min(taken[label] for label in open_) >= max(taken.values()) - 1
    assert chosen == balanced(given_labels, n, seed)


def test_the_remainder_goes_to_the_lowest_ids_and_the_order_is_random():
    given_labels = [0] * 20 + [1] * 20 + [2] * 20
    chosen = balanced(given_labels, 11, 42)
    assert Counter(given_labels[index] for index in chosen) == {0: 4, 1: 4, 2: 3}
    short = [0, 0, 0, 1, 2, 2]
    assert Counter(short[index] for index in balanced(short, 5, 0)) == {0: 2, 1: 1, 2: 2}
    assert chosen != sorted(chosen)
    assert chosen != balanced(given_labels, 11, 43)


@given(labels, st.integers(1, 100), st.integers(0, 5))
def test_carved_rows_are_disjoint_and_complete(given_labels, n_eval, seed):
    train, held = carved(len(given_labels), n_eval, None, seed)
    assert sorted(train + held) == list(range(len(given_labels)))
    assert len(held) == min(n_eval, len(given_labels) - 1)
    if max(Counter(given_labels).values()) > 1:
        train, held = carved(len(given_labels), n_eval, given_labels, seed)
        assert sorted(train + held) == list(range(len(given_labels)))
        assert {given_labels[index] for index in train} == set(given_labels)
        assert held or n_eval == 0


def test_a_stratified_tail_keeps_the_shares_of_classes():
    given_labels = [0] * 60 + [1] * 30 + [2] * 10
    _, held = carved(100, 10, given_labels, 42)
    assert Counter(given_labels[index] for index in held) == {0: 6, 1: 3, 2: 1}


def test_one_row_cannot_be_divided():
    with pytest.raises(DataError, match="1 row"):
        carved(1, 1, None, 0)
    with pytest.raises(DataError, match="every class has one row only"):
        carved(2, 1, [0, 1], 0)


@pytest.mark.parametrize(
    ("spec", "numbers"),
    [("train", range(10)), ("train[90%:]", [9]), ("train[:3]", [0, 1, 2]), ("train[2:4]", [2, 3])],
)
def test_parts_of_a_split(spec, numbers):
    pool = part_of(Dataset.from_dict({"text": [str(number) for number in range(10)]}), spec)
    assert list(pool.rows["text"]) == [str(number) for number in numbers]
    assert pool.numbers.tolist() == list(numbers)


@pytest.mark.parametrize("spec", ["train[abc]", "train[200%:]", "train[5:5]"])
def test_a_wrong_part_is_refused(spec):
    with pytest.raises(DataError, match="correct it"):
        part_of(Dataset.from_dict({"text": ["a"] * 10}), spec)


# --- the whole


def test_a_flat_folder_is_divided_in_equal_shares(tmp_path):
    facts = prepare(config(tmp_path, sets.flat_folder(tmp_path / "set")))
    train, evaluation = prepared(tmp_path)
    assert (len(train), len(evaluation)) == (27, 3)
    assert Counter(evaluation["label"]) == {0: 1, 1: 1, 2: 1}
    assert train.features["label"].names == ["blue", "green", "red"]
    assert facts["label_names"] == ["blue", "green", "red"]
    assert facts["train_labels"] == {"0": 9, "1": 9, "2": 9}


def test_the_pictures_are_in_the_prepared_data(tmp_path):
    prepare(config(tmp_path, sets.flat_folder(tmp_path / "set")))
    shutil.rmtree(tmp_path / "set")
    train, _ = prepared(tmp_path)
    image, label = train[0]["image"], train[0]["label"]
    assert np.asarray(image).mean((0, 1)).argmax() == {0: 2, 1: 1, 2: 0}[label]


def test_n_train_and_n_eval_bound_the_rows(tmp_path):
    prepare(config(tmp_path, sets.flat_folder(tmp_path / "set"), n_train=7, n_eval=6))
    train, evaluation = prepared(tmp_path)
    assert Counter(train["label"]) == {0: 3, 1: 2, 2: 2}
    assert Counter(evaluation["label"]) == {0: 2, 1: 2, 2: 2}


def test_a_split_that_exists_is_used_and_test_stands_for_validation(tmp_path):
    prepare(config(tmp_path, sets.split_folder(tmp_path / "set", "test")))
    train, evaluation = prepared(tmp_path)
    assert (len(train), len(evaluation)) == (12, 6)


def test_the_same_split_for_both_is_divided(tmp_path):
    prepare(config(tmp_path, sets.chats(tmp_path / "a.jsonl", 20), "text-generation", eval_split="train"))
    train, evaluation = prepared(tmp_path)
    assert (len(train), len(evaluation)) == (18, 2)
    assert not {row[0]["content"] for row in train["messages"]} & {
        row[0]["content"] for row in evaluation["messages"]
    }


def test_parts_that_overlap_are_refused(tmp_path):
    file = sets.chats(tmp_path / "a.jsonl", 20)
    wanted = config(tmp_path, file, "text-generation", train_split="train[:90%]", eval_split="train[80%:]")
    with pytest.raises(DataError, match="share 2 rows of train"):
        prepare(wanted)
    assert not (tmp_path / "data").exists()
    with pytest.raises(DataError, match="share 2 rows of train"):
        prepare(wanted | {"n_train": 1, "n_eval": 1})
    prepare(wanted | {"eval_split": "train[90%:]"})
    assert [len(rows) for rows in prepared(tmp_path)] == [18, 2]


def test_a_part_of_a_streamed_split_is_no_split_to_evaluate_on(tmp_path):
    rows = Dataset.from_dict({"text": [str(number) for number in range(3000)]})
    rows.to_parquet(tmp_path / "set" / "data" / "train-00000-of-00001.parquet")
    wanted = config(tmp_path, task="text-generation", dataset_id=str(tmp_path / "set"), n_train=500)
    with pytest.raises(DataError, match=r"train and eval_split train\[20%:40%\] overlap"):
        prepare(wanted | {"eval_split": "train[20%:40%]"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_split": "all"}, "train_split all: the data set has train; set train_split"),
        ({"eval_split": "held_out"}, "eval_split held_out: the data set has train; set eval_split"),
        ({"column_mapping": {"txt": "text"}}, "train has no column txt, only messages"),
        (
            {"task": "object-detection"},
            r"train: needs the columns image\+objects, has messages; set column_mapping",
        ),
        ({"training_method": "dpo"}, r"train: needs the columns chosen\+prompt\+rejected"),
        ({"training_method": "grpo"}, r"train: needs the columns answer\+prompt, has"),
        ({"training_method": "grpo", "reward_functions": ["own"]}, "train: needs the columns prompt, has"),
        ({"local_dataset_path": "/absent"}, "/absent: no such file or folder"),
        ({"local_dataset_path": None}, "neither dataset_id nor local_dataset_path"),
    ],
)
def test_a_wrong_config_is_refused_before_anything_is_written(tmp_path, changes, message):
    file = sets.chats(tmp_path / "a.jsonl", 20)
    with pytest.raises(DataError, match=message):
        prepare(config(tmp_path, file, "text-generation") | changes)
    assert not (tmp_path / "data").exists()


def test_what_exists_stays_unless_forced(tmp_path, caplog):
    caplog.set_level("INFO")
    wanted = config(tmp_path, sets.flat_folder(tmp_path / "set"), n_train=9)
    first = prepare(wanted)
    assert prepare(wanted) == first
    assert "changed since" not in caplog.text
    prepare(wanted | {"n_train": 6})
    assert "but n_train changed since: run again with --force" in caplog.text
    assert len(prepared(tmp_path)[0]) == 9
    prepare(wanted | {"n_train": 6}, force=True)
    assert len(prepared(tmp_path)[0]) == 6


def test_the_same_seed_gives_the_same_rows(tmp_path):
    folder = sets.flat_folder(tmp_path / "set")
    for run, seed in (("a", None), ("b", 42), ("c", 2)):
        prepare(config(tmp_path / run, folder, n_train=12, seed=seed))
    a, b, c = (
        [np.asarray(image).tobytes() for image in prepared(tmp_path / run)[0]["image"]] for run in "abc"
    )
    assert a == b != c


def test_images_without_boxes_leave_train_and_stay_in_eval(tmp_path):
    facts = prepare(config(tmp_path, sets.coco(tmp_path / "set"), "object-detection"))
    train, evaluation = prepared(tmp_path)
    assert (len(train), len(evaluation)) == (5, 6)
    assert sorted(len(value["bbox"]) for value in evaluation["objects"]) == [0, 1, 1, 1, 1, 1]
    assert facts["label_names"] == ["glove", "mask"]


@pytest.mark.parametrize("task", ["instance-segmentation", "panoptic-segmentation"])
def test_outlines_of_coco_reach_the_prepared_rows(tmp_path, task):
    prepare(config(tmp_path, sets.coco(tmp_path / "set"), task))
    assert prepared(tmp_path)[0][0]["objects"]["segmentation"] == [[[2, 3, 12, 3, 12, 11, 2, 11]]]


def boxes(folder, objects, others=None):
    """An arrow set of 4 images with these objects, the last two with the others if there are any."""
    image = str(sets.picture(folder / "1.png", size=(40, 30)))
    given = [objects, objects, *[objects if others is None else others["objects"]] * 2]
    rows = Dataset.from_list([{"image": image, "objects": one} for one in given])
    rows.cast_column("image", Image()).save_to_disk(str(folder / "set"))
    return folder / "set"


def test_corners_and_named_categories_become_xywh_and_ids(tmp_path):
    path = boxes(tmp_path, {"boxes": [[2, 3, 12, 11], [5, 5, 5, 9]], "label": ["nut", "bolt"]})
    mapping = {"objects.boxes": "objects.bbox", "objects.label": "objects.category_id"}
    wanted = config(tmp_path, path, "object-detection", bbox_format="xyxy", column_mapping=mapping)
    assert prepare(wanted)["label_names"] == ["bolt", "nut"]
    row = prepared(tmp_path)[0][0]
    assert row["objects"] == {"bbox": [[2, 3, 10, 8]], "category_id": [1], "area": [80], "iscrowd": [0]}
    assert "image_id" in row


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({"bbox": [[1, 2, 3, 4]], "category_id": [0, 1]}, "row 0: 1 boxes, 2 of category_id"),
        ({"bbox": [[1, 2, 3]], "category_id": [0]}, "row 0: a box has not four numbers"),
        ({"bbox": [[1, 2, 3, 4]]}, "needs the lists bbox and category_id"),
        ({"bbox": [[1, 2, 3, 4]] * 2, "category_id": [1, 2]}, "row 0: class 2, there are 2 names, from 0 on"),
        ({"bbox": [[0.1, 0.2, 0.5, 0.5]], "category_id": [0]}, "must be in pixels, none has an area of 1"),
        ({"bbox": [[0, 0, 1.0005, 0.5]], "category_id": [0]}, "must be in pixels"),
        ({"bbox": [[1, 2, 3, 4]], "category_id": [0], "iscrowd": [0, 1]}, "1 boxes, 2 of iscrowd"),
    ],
)
def test_wrong_boxes_are_refused_with_the_row(tmp_path, objects, message):
    with pytest.raises(DataError, match=message):
        prepare(config(tmp_path, boxes(tmp_path, objects), "object-detection", label_names=["nut", "bolt"]))


@pytest.mark.parametrize("task", ["instance-segmentation", "panoptic-segmentation"])
def test_boxes_without_outlines_are_no_masks(tmp_path, task):
    path = boxes(tmp_path, {"bbox": [[1, 2, 3, 4]], "category_id": [0]})
    with pytest.raises(DataError, match="needs the lists bbox and category_id and segmentation"):
        prepare(config(tmp_path, path, task, label_names=["nut"]))


def test_outlines_and_crowds_that_are_null_are_none(tmp_path):
    whole = {
        "bbox": [[1, 2, 3, 4]],
        "category_id": [0],
        "iscrowd": [None],
        "segmentation": [[[1, 2, 4, 2, 4, 6]]],
    }
    path = boxes(tmp_path, whole, {"objects": whole | {"segmentation": None}})
    prepare(config(tmp_path, path, "instance-segmentation", label_names=["nut"]))
    objects = [row for rows in prepared(tmp_path) for row in rows["objects"]]
    assert {row["iscrowd"][0] for row in objects} == {0}
    assert sorted(len(row["segmentation"][0]) for row in objects) == [0, 0, 1, 1]


@pytest.mark.parametrize("task", ["instance-segmentation", "panoptic-segmentation"])
@pytest.mark.parametrize("as_list", [True, False])
def test_segments_have_the_names_of_their_classes(tmp_path, task, as_list):
    kind = ClassLabel(names=["sky", "car"])
    info = [{"id": Value("int64"), "category_id": kind}] if as_list else Sequence({"category_id": kind})
    image = str(sets.picture(tmp_path / "1.png"))
    segments = [{"id": 1, "category_id": 1}] if as_list else {"category_id": [1]}
    features = {"image": Image(), "annotation": Image(), "label": ClassLabel(names=["day", "night"])}
    row = {"image": image, "annotation": image, "label": 0, "segments_info": segments}
    rows = Dataset.from_list([row] * 4, features=Features(features | {"segments_info": info}))
    rows.save_to_disk(str(tmp_path / "set"))
    wanted = config(tmp_path, tmp_path / "set", task)
    assert prepare(wanted)["label_names"] == ["sky", "car"]
    with pytest.raises(DataError, match=r"the data set has \['sky', 'car'\]"):
        prepare(wanted | {"label_names": ["sky"]}, force=True)


@pytest.mark.parametrize("categories", [[0], ["nut"]])
@pytest.mark.parametrize("nothing", [None, {"bbox": None, "category_id": None}])
def test_objects_that_are_null_are_none(tmp_path, categories, nothing):
    path = boxes(tmp_path, {"bbox": [[1, 2, 3, 4]], "category_id": categories}, {"objects": nothing})
    facts = prepare(config(tmp_path, path, "object-detection", label_names=["nut"], n_eval=2, seed=1))
    train, evaluation = prepared(tmp_path)
    assert facts["train"] == len(train)
    assert sum(len(row["bbox"]) for rows in (train, evaluation) for row in rows["objects"]) == 2


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([1, 2, 3] * 4, ["a", "b", "c"], "class 3, there are 3 names, from 0 on"),
        ([0, -1] * 6, ["a", "b"], "class -1, there are 2 names"),
        (["a", "b", None, "a"] * 3, None, "train, row 2: its label is missing"),
        (["a"] * 12, None, "one class only"),
    ],
)
def test_labels_without_a_name_or_a_choice_are_refused(tmp_path, labels, names, message):
    image = str(sets.picture(tmp_path / "1.png"))
    rows = Dataset.from_dict({"image": [image] * 12, "label": labels}).cast_column("image", Image())
    rows.save_to_disk(str(tmp_path / "set"))
    with pytest.raises(DataError, match=message):
        prepare(config(tmp_path, tmp_path / "set", label_names=names))


def test_text_where_pictures_belong_is_refused(tmp_path):
    Dataset.from_dict({"image": ["1.png"] * 4, "label": [0, 1] * 2}).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(DataError, match=r"column image holds .*string.*, not pictures"):
        prepare(config(tmp_path, tmp_path / "set"))


def test_masks_of_three_channels_keep_the_first(tmp_path):
    path = sets.segmentation(tmp_path / "set")
    for file in (path / "masks").rglob("*.png"):
        mask = PillowImage.open(file)
        PillowImage.merge("RGB", (mask, mask.point(lambda _: 9), mask)).save(file)
    prepare(config(tmp_path, path, "semantic-segmentation", label_names=["board", "chip"]))
    mask = prepared(tmp_path)[0][0]["annotation"]
    assert mask.mode == "L"
    assert set(np.unique(np.asarray(mask))) == {0, 1, 255}


@pytest.mark.parametrize(
    ("ids", "changes", "message"),
    [
        ((0, 1), {"label_names": ["board"]}, "row 0: its mask holds class 1, there are 1 names"),
        ((0, 255), {}, "masks hold 0 and 255 only"),
        ((0, 2), {}, "row 0: its mask holds class 2, there are 2 names"),
        ((0, 2), {"reduce_labels": True}, None),
        ((0, 3), {"reduce_labels": True}, "row 0: its mask holds class 3, there are 2 names"),
    ],
)
def test_a_class_id_without_a_name_is_refused(tmp_path, ids, changes, message):
    path = sets.segmentation(tmp_path / "set")
    for file in (path / "masks").rglob("*.png"):
        PillowImage.open(file).point(lambda value: ids[value] if value < 2 else value).save(file)
    wanted = config(tmp_path, path, "semantic-segmentation", label_names=["board", "chip"]) | changes
    if message is None:
        assert prepare(wanted)["train"] == 4
        return
    with pytest.raises(DataError, match=message):
        prepare(wanted)


def test_a_class_that_is_rare_is_looked_for_before_masks_are_refused(tmp_path):
    path = sets.segmentation(tmp_path / "set", each=30, splits=("train",))
    last = prepare_data.shuffled(29, prepare_data.SEED)[-1]
    for number, file in enumerate(sorted((path / "masks").rglob("*.png"))):
        if number != last:
            PillowImage.open(file).point(lambda value: value if value == 255 else 0).save(file)
    wanted = config(tmp_path, path, "semantic-segmentation", label_names=["board", "chip"])
    assert prepare(wanted | {"train_split": "train[:29]", "eval_split": "train[29:]"})["train"] == 29


def test_masks_are_not_held_open(tmp_path):
    path = sets.segmentation(tmp_path / "set", each=50)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = max(int(file.name) for file in Path("/proc/self/fd").iterdir()) + 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        prepare(config(tmp_path, path, "semantic-segmentation", label_names=["board", "chip"]))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_names_that_differ_from_the_config_are_refused(tmp_path):
    path = sets.flat_folder(tmp_path / "set")
    with pytest.raises(DataError, match="label_names"):
        prepare(config(tmp_path, path, label_names=["red", "green", "blue"]))


def test_columns_are_renamed_and_text_labels_become_classes(tmp_path):
    image = str(sets.picture(tmp_path / "1.png"))
    features = Features({"img": Image(), "fine": Value("string"), "label": Value("string")})
    rows = {"img": [image] * 8, "fine": ["b", "a"] * 4, "label": ["other"] * 8}
    Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "set"))
    prepare(
        config(
            tmp_path, tmp_path / "set", image_column_src="img", column_mapping={"fine": "label"}, n_train=4
        )
    )
    train, _ = prepared(tmp_path)
    assert train.column_names == ["image", "label"]
    assert train.features["label"] == ClassLabel(names=["a", "b"])
    assert Counter(train["label"]) == {0: 2, 1: 2}


@pytest.mark.parametrize("beside", [True, False])
def test_the_label_column_of_the_config_is_the_one_that_is_learned(tmp_path, beside):
    image = str(sets.picture(tmp_path / "1.png"))
    features = {"image": Image(), "fine": ClassLabel(names=list("abcd"))}
    rows = {"image": [image] * 12, "fine": [0, 1, 2, 3] * 3}
    if beside:
        features["label"], rows["label"] = ClassLabel(names=["x", "y"]), [0, 1] * 6
    Dataset.from_dict(rows, features=Features(features)).save_to_disk(str(tmp_path / "set"))
    facts = prepare(config(tmp_path, tmp_path / "set", label_column="fine", n_train=8, n_eval=4))
    assert facts["label_names"] == list("abcd")
    assert facts["train_labels"] == {"0": 2, "1": 2, "2": 2, "3": 2}


def test_a_table_names_its_columns_of_pictures_as_it_likes(tmp_path):
    path = sets.segmentation(tmp_path / "set")
    rows = [{"photo": f"images/train/{n}.jpg", "segm": f"masks/train/{n}.png"} for n in range(4)]
    file = sets.lines(path / "t.jsonl", rows)
    wanted = config(tmp_path, file, "semantic-segmentation", label_names=["board", "chip"])
    facts = prepare(wanted | {"image_column_src": "photo", "column_mapping": {"segm": "annotation"}})
    assert set(facts["columns"]) == {"image", "annotation"}


def test_objects_beside_masks_are_left_alone(tmp_path):
    image = str(sets.picture(tmp_path / "1.png"))
    mask = tmp_path / "mask.png"
    PillowImage.new("L", (32, 24), 1).save(mask)
    row = {"image": image, "annotation": str(mask), "objects": [{"name": "nut"}]}
    rows = Dataset.from_list([row] * 4).cast_column("image", Image()).cast_column("annotation", Image())
    rows.save_to_disk(str(tmp_path / "set"))
    wanted = config(tmp_path, tmp_path / "set", "semantic-segmentation", label_names=["board", "nut"])
    assert prepare(wanted)["train"] == 3


def test_an_unreadable_picture_is_refused(tmp_path):
    path = sets.flat_folder(tmp_path / "set")
    for file in path.rglob("*.png"):
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match="row 0: cannot be read"):
        prepare(config(tmp_path, path))


LEAVES = st.text(max_size=200) | st.integers() | st.binary(max_size=200)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@settings(max_examples=30)
@given(VALUES)
def test_shortened_values_are_short(value):
    def longest(item):
        if isinstance(item, dict | list):
            return max(map(longest, item.values() if isinstance(item, dict) else item), default=0)
        return len(str(item)) if isinstance(item, str) else 0

    assert longest(shortened(value)) <= 83


# --- as a program


FORMATS = {
    "imagefolder": (sets.flat_folder, "image-classification", {}),
    "coco": (sets.coco, "object-detection", {}),
    "segmentation": (sets.segmentation, "semantic-segmentation", {"label_names": ["board", "chip"]}),
    "questions": (sets.questions, "image-text-to-text", {}),
    "csv": (lambda folder: sets.table(folder / "t.csv"), "image-classification", {}),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_program_runs_alone(tmp_path, name):
    writer, task, changes = FORMATS[name]
    (tmp_path / "set").mkdir()
    project = tmp_path / "project"
    project.mkdir()
    for script in SCRIPTS:
        (project / script.name).write_text(beside_scripts(script.read_text()))
    wanted = config(tmp_path, writer(tmp_path / "set"), task, **changes)
    wanted.pop("local_data_dir")
    (project / "config.yaml").write_text(yaml.safe_dump(wanted))
    environment = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "prepare_data.py", "--config", "config.yaml"]
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the first: {" in done.stdout
    train, evaluation = prepared(project)
    facts = json.loads((project / "data" / "prepared.json").read_text())
    assert (facts["train"], facts["eval"]) == (len(train), len(evaluation))
    assert sorted(path.name for path in (project / "data").iterdir()) == ["eval", "prepared.json", "train"]


def test_the_program_says_in_one_line_what_is_wrong(tmp_path, capsys, caplog):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config(tmp_path, tmp_path / "absent")))
    assert prepare_data.main(["--config", str(file)]) == 1
    assert "absent: no such file or folder; check local_dataset_path" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "must hold `key: value` lines"),
        ("a: [", "cannot be read"),
        ("a: 1", "task None is not one of"),
        (None, "No such file"),
    ],
)
def test_a_config_that_is_none(tmp_path, caplog, text, message):
    file = tmp_path / "config.yaml"
    if text:
        file.write_text(text)
    assert prepare_data.main(["--config", str(file)]) == 1
    assert message in caplog.text
