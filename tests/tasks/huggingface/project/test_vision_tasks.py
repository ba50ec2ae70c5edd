"""Every vision task as a rendered project: smoke test, training, evaluation and samples of a tiny model."""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import ClassLabel
from PIL import Image

from tasks.huggingface.kinds import TASKS
from tasks.huggingface.project.render import FILES, config_of, render_project

sys.path.insert(0, str(Path(__file__).parent))
import scenes

PROJECT_MODULES = {file.stem for file in FILES.glob("*.py")} | {"task"}
DETECTION_SIZE = {"shortest_edge": 64, "longest_edge": 96}
CASES = {
    "vit": ("tiny_vit", "image-classification", "labels", {}),
    "convnext": ("tiny_convnext", "image-classification", "labels", {"head_learning_rate": 1e-2}),
    "detr": ("tiny_detr", "object-detection", "boxes", {"image_size": DETECTION_SIZE}),
    "yolos": ("tiny_yolos", "object-detection", "boxes", {"image_size": DETECTION_SIZE}),
    "segformer": (
        "tiny_segformer",
        "semantic-segmentation",
        "classes",
        {"label_names": ["ground", *scenes.NAMES], "image_size": {"height": 64, "width": 64}},
    ),
    "instances": ("tiny_mask2former", "instance-segmentation", "outlines", {}),
    "panoptic": ("tiny_mask2former", "panoptic-segmentation", "ids", {}),
    "depth": (
        "tiny_glpn",
        "depth-estimation",
        "depth",
        {"depth_scale": 0.001, "image_size": {"height": 64, "width": 96}},
    ),
}
SMALL = {
    "num_train_epochs": 1,
    "max_steps": 2,
    "per_device_train_batch_size": 3,
    "per_device_eval_batch_size": 3,
    "gradient_accumulation_steps": 1,
    "learning_rate": 1e-3,
    "head_learning_rate": None,
}


def made_project(folder, model, task, kind, n_train=6, n_eval=4, **values):
    """A rendered project with prepared data."""
    names = {"label_names": scenes.NAMES} if kind in ("boxes", "outlines", "ids") else {}
    config = config_of(
        {
            "model_id": str(model),
            "model_short_name": "tiny",
            "task": task,
            "auto_model_class": TASKS[task].auto_class,
            **SMALL,
            **names,
            **values,
        }
    )
    render_project(config, folder)
    for seed, (split, n) in enumerate({"train": n_train, "eval": n_eval}.items()):
        rows = scenes.coloured_noise(n, seed) if kind == "labels" else scenes.squares(n, seed, kind)
        rows.save_to_disk(str(folder / "data" / split))
    return config


@pytest.fixture
def opened(monkeypatch):
    """Give the scripts of a project as modules, with its folder as the working directory."""

    def open_project(folder):
        for name in PROJECT_MODULES & set(sys.modules):
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(str(folder))
        names = ("common", "task", "train", "run_eval", "infer")
        return SimpleNamespace(**{name: importlib.import_module(name) for name in names})

    yield open_project
    for name in PROJECT_MODULES & set(sys.modules):
        del sys.modules[name]


@pytest.mark.parametrize("column", ["scene", "label"])
def test_classes_that_are_numbered_get_no_names_of_another_column(tmp_path, opened, column):
    made_project(tmp_path, "a/model", "semantic-segmentation", "classes", num_labels=2)
    rows = scenes.squares(2, 0, "classes")
    rows = rows.add_column(column, [0, 1], feature=ClassLabel(names=["street", "room"]))
    rows.save_to_disk(str(tmp_path / "data/train"))
    config = opened(tmp_path).common.read_config(tmp_path / "config.yaml")
    assert importlib.import_module("vision").class_names(config) == ["class 0", "class 1"]


SLOW = ("convnext", "yolos", "panoptic")  # they differ little from the case before them


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CASES]
)
def test_a_task_trains_is_measured_and_shown(name, request, tmp_path, opened, capsys):
    fixture, task, kind, values = CASES[name]
    model = request.getfixturevalue(fixture)
    made_project(tmp_path, model, task, kind, **values)
    project = opened(tmp_path)

    assert project.train.main(["--smoke", "--max_steps", "1"]) == 0
    assert "SMOKE PASSED" in capsys.readouterr().out
    smoke = json.loads((tmp_path / "checkpoints/smoke/trainer_state.json").read_text())
    assert np.isfinite(smoke["log_history"][0]["loss"])
    assert not (tmp_path / "checkpoints/final").exists()

    assert (
        project.run_eval.main(["--checkpoint", str(model), "--output", "reports/baseline_results.json"]) == 0
    )
    assert project.train.main([]) == 0
    assert project.run_eval.main(["--checkpoint", "checkpoints/final"]) == 0
    for report in ("baseline_results", "eval_results"):
        figures = json.loads((tmp_path / f"reports/{report}.json").read_text())
        assert figures["primary_metric"]["name"] == TASKS[task].primary_metric
        assert figures["primary_metric"]["higher_is_better"] == TASKS[task].higher_is_better
        assert np.isfinite(figures["primary_metric"]["value"])
        assert figures["n_eval"] == 4
    assert figures["checkpoint"] == "checkpoints/final"

    assert project.infer.main(["--checkpoint", "checkpoints/final", "--n_samples", "2"]) == 0
    samples = sorted(file.name for file in (tmp_path / "reports/inference_samples").iterdir())
    expected = (f"sample_{i}_{what}" for i in (0, 1) for what in ("input.jpg", "meta.json", "pred.jpg"))
    assert samples == list(expected)


@pytest.mark.parametrize("name", ["detr", "segformer"])
def test_the_best_checkpoint_is_what_is_saved_to_the_last_bit(name, request, tmp_path, opened):
    """What the trainer's own reload silently fails to do (many tensors are stored under other names)."""
    from safetensors.torch import load_file

    fixture, task, kind, values = CASES[name]
    made_project(tmp_path, request.getfixturevalue(fixture), task, kind, **values)
    project = opened(tmp_path)
    project.train.main([])
    best = json.loads((tmp_path / "checkpoints/trainer_state.json").read_text())["best_model_checkpoint"]
    ours, theirs = (load_file(Path(p) / "model.safetensors") for p in ("checkpoints/final", best))
    assert ours.keys() == theirs.keys()
    assert all((ours[key] == theirs[key]).all() for key in ours)
    assert (tmp_path / "checkpoints/final/model.safetensors").stat().st_mode & 0o777 == 0o644

    config = project.common.read_config("config.yaml")
    fresh = project.task.load_model(config, "checkpoints/final", for_training=False)
    again = fresh.__class__.from_pretrained(best)
    assert all((a == b).all() for a, b in zip(fresh.parameters(), again.parameters(), strict=True))


def test_a_training_that_was_cut_short_goes_on_with_the_weights_of_its_last_checkpoint(
    tiny_detr, tmp_path, opened
):
    made_project(tmp_path, tiny_detr, "object-detection", "boxes", image_size=DETECTION_SIZE)
    project = opened(tmp_path)
    config = project.common.read_config("config.yaml")
    keywords = project.common.training_arguments(config, smoke=False)
    project.train.main([])
    last = "checkpoints/checkpoint-2"
    (tmp_path / "checkpoints/final").rename(tmp_path / "checkpoints/cut-short")
    assert project.common.checkpoint_to_resume(config, keywords) == last

    trainer, _ = project.train.prepared(config, keywords, last)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train(resume_from_checkpoint=last)
    assert trainer.state.global_step == 2
    after = trainer.model.state_dict()
    assert all((before[name] == after[name]).all() for name in before)

    assert project.train.main([]) == 0
    assert (tmp_path / "checkpoints/final/model.safetensors").is_file()


def test_a_head_gets_its_own_learning_rate(tiny_vit, tmp_path, opened):
    made_project(tmp_path, tiny_vit, "image-classification", "labels", head_learning_rate=0.5)
    project = opened(tmp_path)
    config = project.common.read_config("config.yaml")
    trainer, _ = project.train.prepared(config, project.common.training_arguments(config, smoke=True), None)
    rates = {
        group["lr"]: group["params"] for group in trainer.create_optimizer().param_groups if group["params"]
    }
    assert set(rates) == {0.5, 1e-3}
    heads = {id(p) for name, p in trainer.model.named_parameters() if name.startswith("classifier")}
    in_groups = [p for g in trainer.optimizer.param_groups if g["lr"] == 0.5 for p in g["params"]]
    assert {id(p) for p in in_groups} == heads


@pytest.fixture
def task(opened, tmp_path, monkeypatch):
    """A task module on its own."""
    monkeypatch.syspath_prepend(str(FILES))
    yield importlib.import_module
    for name in PROJECT_MODULES & set(sys.modules):
        del sys.modules[name]


@pytest.mark.parametrize(
    ("pixels", "mode", "grey"),
    [
        (np.array([[0, 256, 65535]], dtype=np.uint16), "I;16", [0, 1, 255]),
        (np.array([[0, 2048, 4095]], dtype=np.uint16), "I;16", [0, 128, 255]),
        (np.array([[0, 1, 255]], dtype=np.uint16), "I;16", [0, 1, 255]),
        (np.array([[0, 30000, 60000]], dtype=np.int32), "I", [0, 117, 233]),
        (np.array([[0, 100, 200]], dtype=np.int32), "I", [0, 100, 200]),
        (np.array([[0, 0.5, 1]], dtype=np.float32), "F", [0, 128, 255]),
        (np.array([[-1, np.nan, 1e6]], dtype=np.float32), "F", [0, 0, 255]),
        (np.array([[0, 1, 255]], dtype=np.uint8), "L", [0, 1, 255]),
    ],
)
def test_grey_of_more_than_8_bit_keeps_its_shades(task, pixels, mode, grey):
    image = Image.fromarray(pixels)
    assert image.mode == mode
    row = {"image": image}
    for picture in (
        task("vision").image_of(row),
        *task("task_image_text_to_text").images_of(row),
    ):
        assert np.asarray(picture)[0].tolist() == [[shade] * 3 for shade in grey]


def test_boxes_stay_on_their_square_through_augmentation(task):
    detection = task("task_object_detection")
    image = Image.new("RGB", (100, 80))
    image.paste((255, 255, 255), (20, 30, 50, 60))
    boxes, classes = np.array([[20.0, 30, 30, 30]]), np.array([1])
    for change in (detection.perspective, detection.augmented):
        for _ in range(10):
            moved, found, kept = change(image, boxes, classes)
            lit = np.argwhere(np.array(moved.convert("L")) > 128)
            (top, left), (bottom, right) = lit.min(axis=0), lit.max(axis=0) + 1
            x, y, w, h = found[0]
            assert np.abs(np.array([x, y, x + w, y + h]) - [left, top, right, bottom]).max() <= 2
            assert kept.tolist() == [1]
    assert boxes.tolist() == [[20, 30, 30, 30]]


def test_boxes_are_cut_at_the_border_and_empty_ones_are_left_out(task):
    detection = task("task_object_detection")
    row = {"objects": {"bbox": [[-5, 0, 10, 10], [50, 50, 5, 5], [3, 3, 0, 4]], "category_id": [0, 1, 2]}}
    boxes, classes = detection.boxes_of(row | {"_size": (20, 20)})
    assert boxes.tolist() == [[0, 0, 5, 10]]
    assert classes.tolist() == [0]


def test_without_a_mask_boxes_are_fractions_of_the_padded_frame(task):
    import torch

    detection = task("task_object_detection")
    row = {"pixel_values": torch.ones(3, 10, 20), "labels": {"boxes": torch.tensor([[0.5, 0.5, 1.0, 1.0]])}}
    large = {"pixel_values": torch.ones(3, 20, 40), "labels": {"boxes": torch.zeros(0, 4)}}
    batch = detection.collator({}, None, masked=False)([row, large])
    assert "pixel_mask" not in batch
    assert batch["labels"][0]["boxes"].tolist() == [[0.25, 0.25, 0.5, 0.5]]
    batch = detection.collator({}, None)([row, large])
    assert batch["pixel_mask"][0].sum() == 200
    assert batch["labels"][0]["boxes"].tolist() == [[0.5, 0.5, 1.0, 1.0]]


def test_average_precision_of_perfect_and_of_no_predictions(task):
    coco = task("coco")
    truth = coco.boxes_as_annotations(0, np.array([[0.0, 0, 10, 10], [20, 20, 10, 10]]), np.array([0, 1]))
    corners = np.array([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    found = {"boxes": corners, "scores": np.array([0.9, 0.8]), "labels": np.array([0, 1])}
    names = {0: "red", 1: "blue"}
    perfect = coco.average_precision(truth, coco.boxes_as_results(0, found), 1, names, "bbox")
    assert perfect["map"] == pytest.approx(1.0)
    assert perfect["per_class"] == pytest.approx({"red": 1.0, "blue": 1.0})
    assert coco.average_precision(truth, [], 1, names, "bbox")["map"] == 0.0
    assert coco.average_precision([], [], 1, names, "bbox")["map"] == 0.0


def test_a_crowd_is_no_object_and_what_is_found_in_it_does_not_count(task):
    coco, detection = task("coco"), task("task_object_detection")
    objects = {"bbox": [[0, 0, 10, 10], [20, 20, 30, 30]], "category_id": [0, 0], "iscrowd": [0, 1]}
    row = {"objects": objects, "_size": (60, 60)}
    assert detection.boxes_of(row)[0].tolist() == [[0, 0, 10, 10]]
    corners = np.array([[0.0, 0, 10, 10], [25, 25, 35, 35]])
    found = {"boxes": corners, "scores": np.array([0.8, 0.9]), "labels": np.array([0, 0])}
    truth = [*coco.boxes_as_annotations(0, *detection.boxes_of(row)),
             *coco.boxes_as_annotations(0, *detection.boxes_of(row, True), True)]  # fmt: skip
    figures = coco.average_precision(truth, coco.boxes_as_results(0, found), 1, {0: "red"}, "bbox")
    assert figures["map"] == pytest.approx(1.0)


def test_average_precision_of_masks(task):
    coco = task("coco")
    mask = np.zeros((8, 6), dtype=bool)
    mask[2:5, 1:4] = True
    truth = coco.masks_as_annotations(0, [mask], [1])
    for found, expected in (([mask], 1.0), ([~mask], 0.0), ([], 0.0)):
        results = coco.masks_as_results(0, found, [0.9] * len(found), [1] * len(found))
        figures = coco.average_precision(truth, results, 2, {0: "red", 1: "blue"}, "segm")
        assert figures["map"] == pytest.approx(expected)


def test_intersection_over_union_and_ignored_pixels(task):
    segmentation = task("task_semantic_segmentation")
    truth, found = np.array([[0, 0], [1, 255]]), np.array([[0, 1], [1, 2]])
    scores = segmentation.scores_of(segmentation.confusion_of(truth, found, 3), {0: "a", 1: "b", 2: "c"})
    assert scores == {
        "mean_iou": 0.5,
        "pixel_accuracy": pytest.approx(2 / 3),
        "per_class": {"a": 0.5, "b": 0.5},
    }
    with pytest.raises(SystemExit, match="class 7 in a mask, but the model knows 3"):
        segmentation.confusion_of(np.array([7]), np.array([0]), 3)


@pytest.mark.parametrize("kind", ["outlines", "ids"])
def test_a_crowd_is_no_object_to_learn(task, kind):
    universal, coco = task("task_universal_segmentation"), task("coco")
    row = scenes.squares(1, 0, kind)[0]
    first, *others = universal.segments_of(row)[0]
    if kind == "ids":
        row["segments_info"][0]["iscrowd"] = 1
    else:
        row["objects"]["iscrowd"] = [1] + [0] * len(others)
    assert len(universal.segments_of(row)[0]) == len(others)
    crowds = universal.segments_of(row, crowd=True)
    assert (crowds[0][0] == first).all()
    assert [one["iscrowd"] for one in coco.masks_as_annotations(0, *crowds, crowd=True)] == [1]


def test_outlines_and_ids_give_the_same_masks(task):
    universal = task("task_universal_segmentation")
    for outlined, numbered in zip(scenes.squares(5, 3, "outlines"), scenes.squares(5, 3, "ids"), strict=True):
        drawn, classes = universal.segments_of(outlined)
        mapped, same = universal.segments_of(numbered)
        assert mapped[-1].tolist() == drawn[-1].tolist()  # the one on top is whole in both
        assert same[-1] == classes[-1]


def test_what_is_evaluated_is_reached_without_the_rows_of_the_training(task, tmp_path):
    scenes.squares(2, 0, "outlines").save_to_disk(str(tmp_path / "eval"))
    universal = task("task_universal_segmentation")
    assert len(universal.dataset({"local_data_dir": str(tmp_path)}, None, "eval")) == 2


def test_panoptic_matches_are_counted_by_class_and_void_pixels_are_not(task):
    universal = task("task_universal_segmentation")
    left, right = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    left[:, :2], right[:, 2:] = True, True
    none, both = np.zeros((4, 4), bool), [left, right]
    no_crowd, one = ([], []), ([left], [0])

    def counted(truth, found, void):
        return universal.matches(truth, found, no_crowd, void, 2).tolist()

    assert counted((both, [0, 1]), (both, [0, 0]), none) == [[1, 1, 1, 0], [0, 0, 0, 1]]
    assert counted(one, (both, [0, 1]), right) == [[1, 1, 0, 0], [0, 0, 0, 0]]
    assert counted(one, ([left | right], [0]), right) == [[1, 1, 0, 0], [0, 0, 0, 0]]


class Answering:
    """Model and processor in one, which find these segments in every picture."""

    def __init__(self, drawn, labels):
        self.config = SimpleNamespace(num_labels=2, id2label={0: "part", 1: "chip"})
        self.device, self.drawn = "cpu", drawn
        self.listed = [{"id": number, "label_id": label} for number, label in enumerate(labels, start=1)]

    def __call__(self, image=None, **given):
        import torch

        return {"pixel_values": torch.zeros(1, 3, 4, 8)}

    def post_process_instance_segmentation(self, outputs, **given):
        return [{"segmentation": None, "segments_info": []}]

    def post_process_panoptic_segmentation(self, outputs, **given):
        import torch

        return [{"segmentation": torch.tensor(self.drawn), "segments_info": self.listed}]


@pytest.mark.parametrize(
    ("found", "labels", "crowd", "quality"),
    [
        ((1, 2), [0, 0], 1, 2 / 3),  # a wrong segment on a crowd of another class counts
        ((1, 2), [0, 0], 0, 1),
        ((1, 1), [0], 1, 0),  # so do the pixels of a crowd in the union, of whatever class it is
        ((1, 1), [0], 0, 0),
    ],
)
@pytest.mark.parametrize("kind", ["ids", "outlines"])
def test_a_crowd_excuses_what_is_found_on_it_in_its_class_alone(task, found, labels, crowd, quality, kind):
    left = np.arange(8) < 4
    row = {"image": Image.new("RGB", (8, 4))}
    if kind == "ids":
        row["annotation"] = Image.fromarray(np.tile(np.where(left, 1, 2).astype(np.uint8), (4, 1)))
        row["segments_info"] = [{"id": 1, "category_id": 0}, {"id": 2, "category_id": crowd, "iscrowd": 1}]
    else:
        corners = [[[x, 0, x + 3, 0, x + 3, 3, x, 3]] for x in (0, 4)]
        row["objects"] = {"segmentation": corners, "category_id": [0, crowd], "iscrowd": [0, 1]}
    answering = Answering(np.tile(np.where(left, *found), (4, 1)), labels)
    config = {"task": "panoptic-segmentation", "score_threshold": 0.5}
    figures = task("task_universal_segmentation").evaluate(config, answering, answering, [row])
    assert figures["panoptic_quality"] == pytest.approx(quality)


def test_panoptic_quality_is_the_mean_over_the_classes_that_occur(task):
    universal = task("task_universal_segmentation")
    assert universal.panoptic_quality(np.array([[9, 9, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]])) == 0.5
    assert universal.panoptic_quality(np.zeros((2, 4))) == 0.0


@pytest.mark.parametrize(("wanted", "side"), [(None, 32), ({"height": 64, "width": 64}, 64)])
def test_a_mask_is_judged_on_the_whole_picture_where_the_processor_would_crop(task, tmp_path, wanted, side):
    from transformers import MobileViTImageProcessor

    segmentation = task("task_semantic_segmentation")
    size, crop = {"shortest_edge": 36}, {"height": 32, "width": 32}
    MobileViTImageProcessor(size=size, crop_size=crop, do_center_crop=True).save_pretrained(tmp_path)
    processor = segmentation.load_processor({"reduce_labels": False, "image_size": wanted}, str(tmp_path))
    mask = np.zeros((48, 96), dtype=np.int64)
    mask[:, :8] = 1  # would be cut away
    coded = processor(Image.new("RGB", (96, 48)), segmentation_maps=mask, return_tensors="pt")
    assert coded["labels"].shape == (1, side, side)
    assert coded["labels"].unique().tolist() == [0, 1]


def test_errors_of_depth_where_it_is_known(task):
    import torch

    depth = task("task_depth_estimation")
    truth, found = np.array([[2.0, 0.0, 4.0]]), np.array([[3.0, 9.0, 4.0]])
    assert depth.errors_of(found, truth) == pytest.approx((0.25, np.sqrt(0.5), 0.5))
    known = torch.tensor([[[1.0, 2.0], [0.0, 4.0]]])
    assert depth.scale_invariant_loss(known, known).item() == pytest.approx(1e-4)
    assert depth.scale_invariant_loss(known, torch.zeros_like(known)).item() == 0.0
