import copy
from pathlib import Path

import pytest

from tasks.artifacts import read_json, write_text, write_yaml
from tasks.changenet.action import INFERENCE
from tasks.dataset.specs import baseline_spec, read_spec
from tasks.deft.handover import consumer_spec, hand_over
from tasks.errors import StageFailed
from tasks.spec import merged_spec, validated

FOUR_FIELDS = (
    ("dataset", "classify", "infer_dataset", "csv_path"),
    ("dataset", "classify", "infer_dataset", "images_dir"),
    ("inference", "results_dir"),
    ("results_dir",),
)


@pytest.fixture
def training():
    spec = baseline_spec(["SolderLight", "WhiteLight"], image_ext=".png", image_size=48)
    spec["dataset"]["classify"] |= {"concat_type": "grid", "grid_map": {"x": 2, "y": 1}}
    spec["model"]["backbone"] |= {"pretrained_backbone_path": "/weights/c_radio.safetensors"}
    return spec


def at(spec, path):
    for key in path:
        spec = spec[key]
    return spec


def leaves(value, path=()):
    if isinstance(value, dict) and value:
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
    return [path]


def test_just_the_four_fields_of_the_consumer_are_empty(training):
    spec = consumer_spec(training, 0.3, Path("/run/model"))
    empty = [path for path in leaves(spec) if at(spec, path) == "" and path != ("encryption_key",)]
    assert sorted(empty) == sorted(FOUR_FIELDS)


@pytest.mark.parametrize(
    "key", ["concat_type", "grid_map", "image_ext", "input_map", "image_width", "image_height", "num_input"]
)
def test_what_would_silently_give_other_scores_is_as_in_training(training, key):
    spec = consumer_spec(training, 0.3, Path("/run/model"))
    assert spec["dataset"]["classify"][key] == training["dataset"]["classify"][key]


def test_model_is_the_trained_one_with_the_threshold_as_margin(training):
    spec = consumer_spec(training, 0.3125, Path("/run/model"))
    expected = copy.deepcopy(training["model"])
    expected["classify"]["eval_margin"] = 0.3125
    assert spec["model"] == expected
    assert spec["train"] == {"classify": {"loss": "ce"}}
    assert not {"train_dataset", "validation_dataset", "test_dataset"} & set(spec["dataset"]["classify"])
    classify = spec["dataset"]["classify"]
    assert (classify["batch_size"], classify["workers"]) == (1, 1)
    assert classify["augmentation_config"]["augment"] is False
    assert spec["inference"]["checkpoint"] == "/model/best.pth"


def test_no_threshold_leaves_the_margin_as_it_was(training):
    assert consumer_spec(training, None, Path("/m"))["model"] == training["model"]


@pytest.mark.parametrize(("loss", "difference"), [("contrastive", "learnable"), ("ce", "euclidean")])
def test_loss_that_does_not_belong_to_the_difference_module_is_refused(training, loss, difference):
    training["train"]["classify"]["loss"] = loss
    training["model"]["classify"]["difference_module"] = difference
    with pytest.raises(StageFailed, match="contrastive needs euclidean"):
        consumer_spec(training, 0.3, Path("/m"))


def test_checkpoint_is_found_in_the_run_where_no_container_mounts_it(training, tmp_path):
    folder = tmp_path / "model"
    write_text(folder / "best.pth", "x")
    spec = consumer_spec(training, 0.3, folder)
    spec["results_dir"] = str(tmp_path)
    spec["inference"]["results_dir"] = str(tmp_path)
    spec["dataset"]["classify"]["infer_dataset"] = {"csv_path": "/x.csv", "images_dir": "/x"}
    tree = merged_spec(INFERENCE.spec, spec, [], INFERENCE.rebase)
    assert validated(INFERENCE.spec, tree, "spec").inference.checkpoint == folder / "best.pth"


def test_files_name_the_best_phase(played, training, tmp_path):
    played.advance_to("loop_stop")
    state = played.state
    write_yaml(state.phase("iter1").training_spec, training)
    files = hand_over(played.folder, state, "iter1", tmp_path / "images")
    facts = read_json(Path(files["best_model"]))
    assert facts["iteration"] == "iter1"
    assert facts["far_pct"] == 30.0
    assert facts["threshold"] == 0.25
    assert facts["backbone_container_path"] == "/backbone/c_radio.safetensors"
    assert facts["backbone_type"] == "resnet_micro"
    assert facts["metric_contract"]["target"] == 10
    link = played.folder / "model" / "best.pth"
    assert link.resolve() == state.phase("iter1").best_ckpt_path.resolve()
    assert not link.readlink().is_absolute()
    assert read_spec(Path(files["best_model_inference_spec"]))["task"] == "classify"
