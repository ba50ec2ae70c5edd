from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from tasks.classifier.training import drawn_flips, drawn_order, flipped
from tasks.errors import StageFailed
from tasks.status import STATUS_FILE, status_lines

SEEDS = st.integers(0, 2**31)


@given(rows=st.integers(1, 200), seed=SEEDS, epoch=st.integers(0, 99))
def test_every_epoch_goes_through_all_rows_in_an_order_of_its_own(rows, seed, epoch):
    order = drawn_order(rows, seed, epoch)
    assert sorted(order.tolist()) == list(range(rows))
    assert (drawn_order(rows, seed, epoch) == order).all()


def test_orders_and_flips_of_two_epochs_and_two_seeds_differ():
    orders = {tuple(drawn_order(50, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}
    flips = {tuple(drawn_flips(50, 0.5, seed, epoch).ravel()) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == len(flips) == 4


@given(probability=st.floats(0, 1), seed=SEEDS)
@settings(max_examples=20)
def test_share_of_flips_is_the_probability(probability, seed):
    share = drawn_flips(2000, probability, seed, 0).mean()
    assert share == pytest.approx(probability, abs=0.06)


@given(seed=SEEDS)
@settings(max_examples=10)
def test_images_are_mirrored_one_by_one_and_back(seed):
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (4, 3, 5, 6), np.uint8))
    flips = torch.tensor([[False, False], [True, False], [False, True], [True, True]])
    mirrored = flipped(images, flips)
    assert torch.equal(mirrored[0], images[0])
    assert torch.equal(mirrored[1], images[1].flip(2))
    assert torch.equal(mirrored[2], images[2].flip(1))
    assert torch.equal(flipped(mirrored, flips), images)


def metrics_of(outputs):
    lines = status_lines(outputs[STATUS_FILE])
    return [line["kpi"] for line in lines if line["message"] == "Eval metrics generated."]


def test_same_seed_gives_the_same_weights_whatever_torchs_generator_does(shapes, tmp_path):
    first = shapes.train(tmp_path / "a")
    torch.rand(7)
    second, third = shapes.train(tmp_path / "b"), shapes.train(tmp_path / "c", seed=2)
    weights = [load_file(outputs["last"]) for outputs in (first, second, third)]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    assert not all(weights[0][name].equal(weights[2][name]) for name in weights[0])


def test_trainings_in_threads_do_not_disturb_each_other(shapes, tmp_path):
    def weights(place, seed):
        return load_file(shapes.train(tmp_path / place / str(seed), seed=seed)["last"])

    alone = [weights("alone", seed) for seed in range(4)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(partial(weights, "together"), range(4)))
    for left, right in zip(alone, together, strict=True):
        assert all(left[name].equal(right[name]) for name in left)


@pytest.mark.parametrize("metric", ["val_error", "val_loss"])
def test_best_checkpoint_is_of_the_epoch_with_the_lowest_metric(shapes, tmp_path, metric):
    outputs = shapes.train(tmp_path / "run", num_epochs=5, checkpoint_metric=metric)
    found = metrics_of(outputs)
    assert [line["epoch"] for line in found] == [0, 1, 2, 3, 4]
    best = min(found, key=lambda line: (line[metric], line["val_loss"], line["epoch"]))
    assert outputs["best"].name == f"model_best_{int(best['epoch']):03d}.safetensors"
    assert outputs["last"].name == "model_epoch_004_step_00005.safetensors"
    assert len(list(outputs["best"].parent.glob("*.safetensors"))) == 2


def test_stop_file_ends_a_training_after_its_epoch(shapes, tmp_path):
    folder = tmp_path / "run" / "train"
    folder.mkdir(parents=True)
    (folder / "stop").touch()
    with pytest.raises(StageFailed, match="stopped on request after epoch 1"):
        shapes.train(tmp_path / "run", num_epochs=9)
    lines = status_lines(folder / STATUS_FILE)
    assert sum(line["message"] == "Eval metrics generated." for line in lines) == 1
    assert lines[-1]["status"] == "FAILURE"


def test_diverging_training_says_what_to_lower(shapes, tmp_path):
    with pytest.raises(StageFailed, match=r"lower train\.optim\.lr"):
        shapes.train(tmp_path / "run", optim={"lr": 1e30, "weight_decay": 0.01})
