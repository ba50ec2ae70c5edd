import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.changenet import backbone
from tasks.changenet.network import ChangeNet, MeanAndMax, contrastive_loss, loss_of, scores_of


def network(spec):
    torch.manual_seed(0)
    return ChangeNet(backbone.fresh(spec.model, "random", spec.data.shape), spec).eval()


EUCLIDEAN = ("model.classify.difference_module=euclidean", "train.classify.loss=contrastive")


@pytest.mark.parametrize("head", ["pool", "flatten"])
def test_learnable_gives_two_logits(spec_of, head):
    net = network(spec_of(f"native.head={head}"))
    assert net(torch.rand(3, 3, 32, 32), torch.rand(3, 3, 32, 32)).shape == (3, 2)


@pytest.mark.parametrize("head", ["pool", "flatten"])
def test_euclidean_gives_distances_that_vanish_for_equal_images(spec_of, head):
    net = network(spec_of(f"native.head={head}", *EUCLIDEAN))
    x, y = torch.rand(3, 3, 32, 32), torch.rand(3, 3, 32, 32)
    assert (net(x, y) > 0).all()
    assert net(x, x).max() < 1e-4
    assert torch.allclose(net(x, y), net(y, x), atol=1e-4)


def test_the_test_image_stands_first(spec_of):
    net = network(spec_of())
    x, y = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    assert not torch.allclose(net(x, y), net(y, x))


@pytest.mark.parametrize("used", [1, 2, 3, 4])
def test_the_coarsest_levels_are_fused_first(spec_of, used):
    net = network(spec_of(f"model.classify.learnable_difference_modules={used}"))
    assert len(net.branch.fuse) == used
    fused = net.branch.fused(*net.levels(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)))
    assert fused.shape == (2, 8, 8, 8)


@pytest.mark.parametrize("shape", [(32, 32), (96, 40), (50, 70)])
def test_any_image_size_goes_through_the_pooling_head(spec_of, shape):
    assert network(spec_of())(torch.rand(2, 3, *shape), torch.rand(2, 3, *shape)).shape == (2, 2)


def test_pooling_joins_mean_and_maximum():
    x = torch.tensor([[[[0.0, 4.0]]]])
    assert MeanAndMax()(x).tolist() == [[2.0, 4.0]]


def test_cross_entropy_is_weighted_by_class(spec_of):
    logits, defect = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
    # -log softmax: 0.126928 for the first row, log 2 for the second.
    expected = (1 * 0.126928 + 10 * 0.693147) / 11
    assert loss_of(spec_of())(logits, defect).item() == pytest.approx(expected, abs=1e-5)


def test_contrastive_takes_each_distance_with_its_own_label():
    distance, defect = torch.tensor([0.1, 0.2, 2.1, 1.8]), torch.tensor([0, 0, 1, 1])
    right = contrastive_loss(distance, defect, 2.0).item()
    assert right == pytest.approx((0.01 + 0.04 + 0 + 0.04) / 4, abs=1e-6)
    assert contrastive_loss(distance, 1 - defect, 2.0).item() > 50 * right


def test_contrastive_is_the_loss_of_euclidean(spec_of):
    spec = spec_of(*EUCLIDEAN, "model.classify.train_margin_euclid=3")
    distance, defect = torch.tensor([1.0]), torch.tensor([1])
    assert loss_of(spec)(distance, defect).item() == pytest.approx(4)


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), min_size=1, max_size=8))
def test_scores_rise_with_the_logit_difference(rows):
    logits = torch.tensor(rows)
    scores = scores_of(logits)
    assert torch.allclose(scores, torch.sigmoid(logits[:, 1] - logits[:, 0]), atol=1e-6)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_distances_are_scores():
    assert scores_of(torch.tensor([0.0, 3.5])).tolist() == [0.0, 3.5]
