import pytest

from tasks.huggingface.columns import check_columns
from tasks.huggingface.kinds import TASKS
from tasks.huggingface.project.render import config_keys
from tasks.huggingface.recommendations import OFFERED, OWN, advised_rows, offer, recommended, with_access
from tasks.huggingface.settings import settings_from


@pytest.mark.parametrize(
    ("task", "method", "least"),
    [
        ("image-classification", "sft", 5),
        ("object-detection", "sft", 4),
        ("semantic-segmentation", "sft", 4),
        ("depth-estimation", "sft", 2),
        ("image-text-to-text", "sft", 3),
        ("text-generation", "sft", 3),
        ("text-generation", "dpo", 1),
        ("text-generation", "grpo", 1),
    ],
)
def test_every_task_has_picks_that_say_what_they_are(task, method, least):
    picks = recommended(task, method)
    assert least <= len(picks) <= OFFERED
    for pick in picks:
        assert "/" in pick.id
        assert pick.columns
        assert pick.time


HOLDS = {"messages": "list of struct", "objects": "struct", "images": "list of image",
         "answers": "list of string", "chosen": "list of struct", "rejected": "list of struct"}  # fmt: skip
PARTS = {"messages": ("role", "content"), "objects": ("bbox", "category")}
BOXES = {"objects.bbox": "list of list of float", "objects.category": "list of class"}
PICTURES = {"image", "img", "annotation", "pixel_values", "semantic_segmentation", "depth", "depth_map"}


@pytest.mark.parametrize(
    ("task", "method", "pick"),
    [(task, method, pick) for task in TASKS for method in ("sft", "dpo", "grpo")
     if method == "sft" or task == "text-generation" for pick in recommended(task, method, most=99)],
    ids=lambda value: getattr(value, "id", None),
)  # fmt: skip
def test_every_pick_can_be_chosen(task, method, pick):
    columns = pick.columns.split(", ")
    kinds = {name: HOLDS.get(name, "image" if name in PICTURES else "string") for name in columns}
    kinds |= {f"{name}.{part}": "string" for name in columns for part in PARTS.get(name, ())}
    kinds |= {name: kind for name, kind in BOXES.items() if name in kinds}
    if task == "semantic-segmentation":
        kinds = {name: "image" if name == "label" else kind for name, kind in kinds.items()}
        assert pick.config["num_labels"]
    assert check_columns(task, method, kinds, (), pick.config.get("column_mapping")).problems == ()
    assert set(pick.config) <= set(config_keys())


def test_a_pick_brings_its_splits_and_leaves_what_a_person_set():
    (pick,) = recommended("text-generation", "dpo")
    chosen = pick.chosen(settings_from({"model_id": "a/b", "eval_split": "test_gen"}))
    assert chosen.dataset_id == "HuggingFaceH4/ultrafeedback_binarized"
    assert (chosen.train_split, chosen.eval_split) == ("train_prefs", "test_gen")


def test_methods_have_picks_of_their_own():
    assert not {pick.id for pick in recommended("text-generation", "dpo")} & {
        pick.id for pick in recommended("text-generation")
    }


def test_gated_picks_are_asked_for_and_open_ones_are_not(monkeypatch):
    asked = []
    picks = recommended("semantic-segmentation")
    found = with_access(picks, lambda name: bool(asked.append(name)))
    assert asked == [pick.id for pick in picks if pick.gated]
    assert {pick.access for pick in found} == {"open", "gated; accept its terms and set HF_TOKEN"}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "gated; not asked (HF_HUB_OFFLINE)" in {pick.access for pick in with_access(picks)}


def test_the_offer_ends_with_ones_own():
    lines = offer(with_access(recommended("image-classification"), lambda _: True)).splitlines()
    assert len(lines) == 2 + 5 + 1
    assert "dataset\\_id" in lines[-1]
    assert OWN.startswith("bring your own")


@pytest.mark.parametrize(
    ("parameters", "vram", "rows"),
    [
        (86e6, 24, (50_000, 100_000)),
        (2e9, 24, (10_000, 50_000)),
        (7e9, 24, None),
        (86e6, 80, (100_000, None)),
        (3e9, 80, (50_000, 100_000)),
        (8e9, 80, (10_000, 50_000)),
        (86e6, 12, None),
    ],
)
def test_rows_that_pay_off(parameters, vram, rows):
    assert advised_rows(int(parameters), vram) == rows
