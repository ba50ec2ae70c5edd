from pathlib import Path

import pytest

from tasks.action import Action
from tasks.errors import InputError

ACTION = Action("image_classifier", "train", "tasks.classifier.action:TRAIN")


def spec(**values):
    return ACTION.spec({"results_dir": "/r", **values})


def test_results_lie_in_a_folder_of_the_action():
    assert spec().results_dir == Path("/r/train")


def test_dotted_names_reach_every_hyper_parameter():
    words = ["train.optim.lr=0.1", "train.optim.weight_decay=0", "train.label_smoothing=0.2"]
    given = ACTION.spec({"results_dir": "/r"}, [*words, "dataset.batch_size=4"])
    assert (given.train.optim.lr, given.train.label_smoothing, given.dataset.batch_size) == (0.1, 0.2, 4)


def test_results_dir_is_required():
    with pytest.raises(InputError, match="results_dir"):
        ACTION.spec({})


def test_unknown_keys_and_values_out_of_range_are_named():
    with pytest.raises(InputError, match=r"train\.optim\.lr.*unknown key train\.momentum"):
        spec(train={"optim": {"lr": 0}, "momentum": 0.9})


def test_config_keys_that_follow_from_the_labels_are_refused():
    with pytest.raises(InputError, match=r"model\.config: num_labels follow from"):
        spec(model={"config": {"num_labels": 3}})
