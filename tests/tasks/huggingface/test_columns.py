import pytest
from PIL import Image

from tasks.huggingface.columns import KINDS, NAMES, check_columns
from tasks.huggingface.project.files.data_rows import REQUIRED

BOXES = {"image": "image", "objects": "struct", "objects.bbox": "list of list of float"}
TURNS = {"messages": "list of struct", "messages.role": "string", "messages.content": "string"}


def test_every_required_column_has_names_and_kinds():
    for choices in REQUIRED.values():
        for column in set().union(*choices):
            assert NAMES[column][0] == column
            assert KINDS[column]


@pytest.mark.parametrize(
    ("task", "method", "kinds", "mapping"),
    [
        ("image-classification", "sft", {"image": "image", "label": "class"}, {}),
        ("image-classification", "sft", {"img": "image", "labels": "int"},
         {"img": "image", "labels": "label"}),
        ("image-classification", "sft", {"image": "image", "label": "string"}, {}),
        ("object-detection", "sft", BOXES | {"objects.category_id": "list of int"}, {}),
        ("object-detection", "sft", BOXES | {"objects.category": "list of class"},
         {"objects.category": "objects.category_id"}),
        ("object-detection", "sft", BOXES | {"objects.label": "list of int"},
         {"objects.label": "objects.category_id"}),
        ("semantic-segmentation", "sft", {"image": "image", "label": "image"}, {"label": "annotation"}),
        ("semantic-segmentation", "sft", {"image": "image", "mask": "image"}, {"mask": "annotation"}),
        ("semantic-segmentation", "sft", {"image": "image", "segmentation": "image"},
         {"segmentation": "annotation"}),
        ("panoptic-segmentation", "sft",
         {"image": "image", "annotation": "image", "segments_info": "list of struct"}, {}),
        ("panoptic-segmentation", "sft",
         {"image": "image", "annotation": "image", "segments_info": "struct"}, {}),
        ("instance-segmentation", "sft",
         BOXES | {"objects.category_id": "list of int",
                  "objects.segmentation": "list of list of list of float"},
         {}),
        ("depth-estimation", "sft", {"image": "image", "depth": "image"}, {"depth": "depth_map"}),
        ("depth-estimation", "sft", {"image": "image", "depth_map": "array"}, {}),
        ("image-text-to-text", "sft", {"image": "image"} | TURNS, {}),
        ("image-text-to-text", "sft", {"image": "image", "question": "string", "answer": "string"}, {}),
        ("image-text-to-text", "sft",
         {"image": "image", "question": "string", "answers": "list of string"}, {}),
        ("image-text-to-text", "sft",
         {"image": "image", "question": "string", "multiple_choice_answer": "string"},
         {"multiple_choice_answer": "answer"}),
        ("image-text-to-text", "sft", {"image": "image", "caption": "string"}, {"caption": "text"}),
        ("text-generation", "sft", TURNS, {}),
        ("text-generation", "sft", {"text": "string"}, {}),
        ("text-generation", "sft", {"prompt": "string", "completion": "string"}, {}),
        ("text-generation", "sft", {"instruction": "string", "response": "string"},
         {"instruction": "prompt", "response": "completion"}),
        ("text-generation", "dpo", {"prompt": "string", "chosen": "string", "rejected": "string"}, {}),
        ("text-generation", "grpo", {"question": "string", "answer": "string"}, {"question": "prompt"}),
        ("text-generation", "grpo", {"prompt": "string", "answer": "int"}, {}),
        ("text-generation", "grpo", {"prompt": "string", "answer": "float"}, {}),
    ],
)  # fmt: skip
def test_columns_that_fit_by_renaming_alone(task, method, kinds, mapping):
    found = check_columns(task, method, kinds)
    assert found.problems == ()
    assert found.mapping == mapping


@pytest.mark.parametrize(
    ("task", "kinds", "message"),
    [
        ("image-classification", {"image": "image"}, "no label"),
        ("image-classification", {"image": "string", "label": "int"},
         "image holds string, image must be image"),
        ("image-classification", {"image": "image", "label": "image"}, "label holds image"),
        ("image-classification", {"img": "image", "picture": "image", "label": "int"},
         "img and picture could each be image; say which by column_mapping"),
        ("object-detection", {"image": "image", "objects": "list of struct"}, "objects holds list of struct"),
        ("object-detection", BOXES, "no objects.category_id"),
        ("instance-segmentation", BOXES | {"objects.category_id": "list of int"}, "no objects.segmentation"),
        ("text-generation", {"messages": "list of struct", "messages.from": "string"}, "role and content"),
        ("grpo", {"prompt": "string"}, "no answer"),
        ("image-text-to-text", {"image": "image", "question": "string", "answer": "int"}, "no messages"),
        ("text-generation", {"conversations": "list of struct"}, r"has conversations \(list of struct\)"),
    ],
)  # fmt: skip
def test_what_has_to_be_decided_by_a_person(task, kinds, message):
    found = check_columns(task, "sft", kinds)
    assert not found.fits
    assert len(found.problems) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(found.problems[0])


def test_rewards_of_ones_own_need_no_answer():
    assert check_columns("text-generation", "grpo", {"prompt": "string"}, rewards=["own"]).fits


FINE = {"img": "image", "fine_label": "class", "coarse_label": "class"}
ASKED = {"instruction": "string", "input": "string", "output": "string"}


@pytest.mark.parametrize(
    ("task", "kinds", "given", "mapping"),
    [
        # What is given is added to what is found.
        ("image-classification", FINE, {"fine_label": "label"}, {"fine_label": "label", "img": "image"}),
        ("image-classification", FINE | {"label": "image"}, {"coarse_label": "label"},
         {"coarse_label": "label", "img": "image"}),
        ("image-classification", FINE, {"fine_label": "labels"}, {"fine_label": "label", "img": "image"}),
        ("image-classification", {"img": "image", "photo": "image", "label": "int"}, {"img": "image"},
         {"img": "image"}),
        ("text-generation", ASKED | {"text": "string"}, {}, {}),
        ("text-generation", ASKED, {"instruction": "prompt"},
         {"instruction": "prompt", "output": "completion"}),
    ],
)  # fmt: skip
def test_what_a_person_maps_comes_first(task, kinds, given, mapping):
    found = check_columns(task, "sft", kinds, (), given)
    assert found.problems == ()
    assert found.mapping == mapping


@pytest.mark.parametrize(
    ("kinds", "given", "message"),
    [
        (FINE, {"fine_label": "class_id"}, "no label"),
        (FINE, {"img": "label", "fine_label": "image"}, "image holds class"),
        (FINE, {"finelabel": "label"}, "has no column finelabel"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(kinds, given, message):
    assert message in check_columns("image-classification", "sft", kinds, (), given).problems[0]


@pytest.mark.parametrize(
    ("method", "kinds", "left"),
    [
        ("sft", ASKED, "input"),
        ("sft", {"instruction": "string", "context": "string", "response": "string"}, "context"),
        (
            "dpo",
            {"system": "string", "question": "string", "chosen": "string", "rejected": "string"},
            "system",
        ),
    ],
)
def test_a_column_that_belongs_to_the_prompt_is_not_dropped_in_silence(method, kinds, left):
    found = check_columns("text-generation", method, kinds)
    assert f"column {left} would be dropped" in found.problems[0]


def rows(*boxes):
    return [
        {"image": Image.new("RGB", (100, 50)), "objects": {"bbox": list(boxes), "category": [0] * len(boxes)}}
    ]


@pytest.mark.parametrize(
    ("boxes", "form", "notes"),
    [
        ([[60, 20, 30, 20]], "xywh", 0),
        ([[60, 20, 90, 40]], "xyxy", 0),
        ([[10, 10, 20, 20]], "xywh", 1),
        ([[60, 20, 30, 20], [60, 20, 90, 40]], None, 0),
        ([], "xywh", 0),
    ],
)
def test_the_format_of_boxes_is_seen_by_where_they_lie(boxes, form, notes):
    found = check_columns(
        "object-detection", "sft", BOXES | {"objects.category": "list of int"}, rows(*boxes)
    )
    assert found.bbox_format == form
    assert found.fits is (form is not None)
    assert len(found.notes) == notes


def test_boxes_are_looked_at_under_names_that_a_person_maps():
    kinds = {"photo_rgb": "image", "marks": "struct", "marks.corners": "list of list of float",
             "marks.category": "list of int"}  # fmt: skip
    row = {"photo_rgb": Image.new("RGB", (40, 40)), "marks": {"corners": [[20, 20, 39, 39]], "category": [0]}}
    given = {"photo_rgb": "image", "marks": "objects", "marks.corners": "objects.bbox"}
    found = check_columns("object-detection", "sft", kinds, [row], given)
    assert (found.problems, found.bbox_format) == ((), "xyxy")
    assert found.mapping == given | {"marks.category": "objects.category_id"}


def test_a_row_with_more_boxes_than_categories():
    wrong = rows([1, 1, 5, 5])
    wrong[0]["objects"]["category"] = []
    found = check_columns("object-detection", "sft", BOXES | {"objects.category": "list of int"}, wrong)
    assert "row 0" in found.problems[0]
