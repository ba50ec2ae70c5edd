import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tasks.classifier.checkpoint import read_checkpoint, warm_start, write_checkpoint
from tasks.classifier.network import fresh
from tasks.classifier.spec import ClassifierSpec
from tasks.errors import InputError

torch.set_num_threads(1)

LABELS = ["a", "b"]
KEY = "inference.checkpoint"


def spec_of(warm=None, image_size=16, kind="resnet", **config):
    config = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic", **config}
    return ClassifierSpec.model_validate(
        {
            "results_dir": "r",
            "model": {"type": kind, "config": config if kind == "resnet" else {}},
            "train": {"pretrained_model_path": warm},
            "dataset": {"image_size": image_size},
        }
    )


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / "model_best_007.safetensors", fresh(spec_of(), LABELS), 16, 7)


def test_checkpoint_gives_back_network_and_labels(checkpoint):
    network = read_checkpoint(checkpoint, spec_of(), KEY)
    wanted = fresh(spec_of(), LABELS).state_dict()
    assert network.labels == LABELS
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in network.state_dict().items())


def test_metadata_says_config_labels_and_epoch_as_json(checkpoint):
    with safe_open(checkpoint, framework="pt") as file:
        facts = {
            name: json.loads(text)
            for name, text in file.metadata().items()
            if name not in ("format", "engine")
        }
    assert facts["labels"] == LABELS
    assert facts["epoch"] == 7
    assert facts["config"]["hidden_sizes"] == [8, 12]


def test_checkpoint_that_is_not_set_or_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"inference\.checkpoint is not set"):
        read_checkpoint(None, spec_of(), KEY)
    with pytest.raises(InputError, match=r"inference\.checkpoint .*gone: No such file"):
        read_checkpoint(tmp_path / "gone", spec_of(), KEY)


def test_other_files_are_refused(tmp_path):
    damaged, foreign = tmp_path / "damaged.safetensors", tmp_path / "foreign.safetensors"
    damaged.write_bytes(b"nothing")
    save_file({"x": torch.zeros(1)}, foreign)
    with pytest.raises(InputError, match="is not a safetensors file"):
        read_checkpoint(damaged, spec_of(), KEY)
    with pytest.raises(InputError, match="was not written by image_classifier train"):
        read_checkpoint(foreign, spec_of(), KEY)


def test_other_image_size_or_type_is_refused(checkpoint):
    with pytest.raises(InputError, match=r"was trained with dataset\.image_size = 16, this run has 32"):
        read_checkpoint(checkpoint, spec_of(image_size=32), KEY)
    with pytest.raises(InputError, match=r"was trained with model\.type = resnet, this run has vit"):
        read_checkpoint(checkpoint, spec_of(kind="vit"), KEY)


def test_warm_start_takes_the_weights(checkpoint):
    network = warm_start(spec_of(str(checkpoint)), LABELS)
    assert network.labels == LABELS


def test_warm_start_needs_the_same_labels(checkpoint):
    with pytest.raises(
        InputError, match=r"was trained with labels = \['a', 'b'\], this run has \['a', 'c'\]"
    ):
        warm_start(spec_of(str(checkpoint)), ["a", "c"])


def test_warm_start_needs_the_same_architecture(checkpoint):
    with pytest.raises(InputError, match=r"model\.config hidden_sizes = \[8, 12\], this run has \[8, 16\]"):
        warm_start(spec_of(str(checkpoint), hidden_sizes=[8, 16]), LABELS)
