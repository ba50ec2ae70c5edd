from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError
from tasks.huggingface.kinds import TASKS
from tasks.huggingface.settings import SHORT_NAME, FinetuneSettings, settings_from, short_name

VIT = "google/vit-base-patch16-224"


def test_the_defaults():
    settings = settings_from({"model_id": VIT})
    assert (settings.n_train, settings.n_eval, settings.n_epochs, settings.lora_r) == (
        10_000,
        1_000,
        None,
        None,
    )
    assert (settings.train_split, settings.eval_split, settings.training_method) == (
        "train",
        "validation",
        "sft",
    )
    assert settings.push_to_hub
    assert not any(
        [settings.skip_baseline, settings.emit_report, settings.emit_unit_tests, settings.emit_progress_log]
    )
    assert settings.source == "recommend"
    assert settings.min_disk_gb == 100


def test_the_environment_sets_the_least_disk(monkeypatch):
    monkeypatch.setenv("MIN_DISK_GB", "20")
    assert settings_from({"model_id": VIT}).min_disk_gb == 20


def test_every_task_is_one_of_the_flow():
    for task in TASKS:
        assert settings_from({"model_id": VIT, "task_type": task}).task_type == task


def test_sources(tmp_path):
    assert settings_from({"model_id": VIT, "dataset_id": "beans"}).source == "hf"
    assert settings_from({"model_id": VIT, "local_dataset_path": str(tmp_path)}).source == "local"


def test_a_model_may_be_a_folder(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    settings = settings_from({"model_id": "mine"})
    assert settings.model_id == str(tmp_path / "mine")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "model_id: required"),
        ({"model_id": "/absent/model"}, "model_id: no such folder"),
        ({"model_id": "a/b/c"}, "model_id: not a name on the hub"),
        ({"model_id": VIT, "dataset_id": "bad name"}, "dataset_id: not a name on the hub"),
        ({"model_id": VIT, "local_dataset_path": "/absent"}, "local_dataset_path: no such file or folder"),
        ({"model_id": VIT, "dataset_id": "beans", "local_dataset_path": "/"}, "both set; keep one"),
        ({"model_id": VIT, "local_dataset_format": "coco"}, "counts with local_dataset_path only"),
        ({"model_id": VIT, "local_dataset_path": "/", "local_dataset_format": "tar"}, "local_dataset_format"),
        ({"model_id": VIT, "dataset_config_name": "main"}, "counts with dataset_id only"),
        ({"model_id": VIT, "n_train": 0}, "n_train"),
        ({"model_id": VIT, "n_epochs": -1}, "n_epochs"),
        ({"model_id": VIT, "lora_r": 0}, "lora_r"),
        ({"model_id": VIT, "lora_r": 8, "use_lora": False}, "lora_r counts with use_lora only"),
        ({"model_id": VIT, "training_method": "ppo"}, "training_method"),
        ({"model_id": VIT, "training_method": "dpo", "task_type": "object-detection"}, "dpo is for"),
        ({"model_id": VIT, "eval_split": "train[90%"}, "eval_split: not like train"),
        ({"model_id": VIT, "train_split": "train+validation"}, "train_split: not like train"),
        ({"model_id": VIT, "model_short_name": "My Model"}, "model_short_name"),
        ({"model_id": VIT, "epochs": 3}, "unknown key epochs"),
        ({"model_id": VIT, "MIN_DISK_GB": "50.5"}, "min_disk_gb"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(values, message, monkeypatch):
    values = dict(values)
    if disk := values.pop("MIN_DISK_GB", None):
        monkeypatch.setenv("MIN_DISK_GB", disk)
    with pytest.raises(InputError, match=message) as caught:
        settings_from(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split", ["train", "train[90%:]", "train[:100]", "train[10:20]"])
def test_splits_may_be_parts(split):
    assert settings_from({"model_id": VIT, "train_split": split}).train_split == split


def test_names_follow_from_model_and_data():
    settings = settings_from({"model_id": "facebook/ConvNeXt-tiny-224", "dataset_id": "uoft-cs/cifar10"})
    assert settings.short_name == "convnext-tiny-224-cifar10"
    assert settings.project_in(Path("output")) == Path("output/convnext-tiny-224-cifar10").absolute()
    assert settings.push_target("ada") == "ada/convnext-tiny-224-cifar10-finetuned"
    assert settings.push_target(None) is None


def test_what_is_stated_goes_before_what_follows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stated = {"model_short_name": "mine", "output_dir": "out", "hf_model_repo": "team/boards"}
    settings = settings_from({"model_id": VIT} | stated)
    assert settings.short_name == "mine"
    assert settings.project_in(Path("output")) == tmp_path / "out"
    assert settings.push_target("ada") == "team/boards"
    assert settings_from({"model_id": VIT, "push_to_hub": False} | stated).push_target("ada") is None


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_short_names_suit_images_and_folders(words):
    try:
        name = short_name(*words)
    except InputError:
        return
    assert SHORT_NAME.fullmatch(name)
    assert len(name) <= 64


def test_a_name_of_nothing_is_refused():
    with pytest.raises(InputError, match="set model_short_name"):
        short_name("***", "")


def test_settings_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        FinetuneSettings(model_id=VIT).n_train = 5
