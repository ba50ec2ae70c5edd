import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.changenet.augmentation import NUMBERS, augmented, random_numbers
from tasks.changenet.data_spec import Augmentation

OFF = {
    "augment": True,
    "random_flip": {"enable": False},
    "random_rotate": {"enable": False},
    "random_color": {"enable": False},
}


def config(**changes):
    return Augmentation.model_validate({**OFF, **changes})


def images(rows=4, side=16):
    return torch.rand(rows, 2, 1, 3, side, side, generator=torch.Generator().manual_seed(0))


def numbers(rows=4, **places):
    out = torch.full((rows, NUMBERS), 0.5)
    for place, value in places.items():
        out[:, int(place[1:])] = value
    return out


def test_all_off_and_augment_false_change_nothing():
    x = images()
    assert torch.equal(augmented(x, random_numbers(1, 0, 4), config()), x)
    off = Augmentation(augment=False, with_random_blur=True)
    assert augmented(x, random_numbers(1, 0, 4), off) is x


@given(seed=st.integers(0, 2**32), epoch=st.integers(0, 1000))
def test_both_images_of_a_pair_are_changed_alike(seed, epoch):
    one = torch.rand(3, 1, 2, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    everything = Augmentation(augment=True, with_random_crop=True, with_random_blur=True)
    out = augmented(one.expand(3, 2, 2, 3, 16, 16).clone(), random_numbers(seed, epoch, 3), everything)
    assert torch.equal(out[:, 0], out[:, 1])
    assert out.min() >= 0
    assert out.max() <= 1 + 1e-6


def test_numbers_follow_from_seed_and_epoch():
    assert torch.equal(random_numbers(1, 2, 5), random_numbers(1, 2, 5))
    assert not torch.equal(random_numbers(1, 2, 5), random_numbers(1, 3, 5))
    assert torch.equal(random_numbers(1, 2, 5), random_numbers(1, 2, 9)[:5])


def test_flips_are_exact():
    x = images()
    flip = config(random_flip={"enable": True, "hflip_probability": 1, "vflip_probability": 0})
    assert torch.allclose(augmented(x, numbers(), flip), x.flip(-1), atol=1e-5)
    flip = config(random_flip={"enable": True, "hflip_probability": 0, "vflip_probability": 1})
    assert torch.allclose(augmented(x, numbers(), flip), x.flip(-2), atol=1e-5)


def test_flip_comes_before_rotation():
    x = images()
    both = config(
        random_flip={"enable": True, "hflip_probability": 1, "vflip_probability": 0},
        random_rotate={"enable": True, "rotate_probability": 1, "angle_list": [90, 90, 90]},
    )
    assert torch.allclose(augmented(x, numbers(), both), x.flip(-1).rot90(1, (-2, -1)), atol=1e-4)


@pytest.mark.parametrize(("draw", "turns"), [(0.1, 1), (0.5, 2), (0.9, 3)])
def test_right_angles_turn_counter_clockwise_and_are_exact(draw, turns):
    x = images()
    rotate = config(random_rotate={"enable": True, "rotate_probability": 1, "angle_list": [90, 180, 270]})
    assert torch.allclose(augmented(x, numbers(n3=draw), rotate), x.rot90(turns, (-2, -1)), atol=1e-4)


def test_a_rotation_keeps_the_size_and_fills_with_black():
    x = torch.ones(1, 2, 1, 3, 8, 16)
    rotate = config(random_rotate={"enable": True, "rotate_probability": 1, "angle_list": [90, 90, 90]})
    out = augmented(x, numbers(1), rotate)[0, 0, 0, 0]
    assert out.shape == (8, 16)
    assert out[:, 4:12].min() > 0.99
    assert out[:, :4].max() < 0.01


def test_crops_enlarge_or_shrink_about_the_drawn_area():
    x = torch.zeros(1, 2, 1, 3, 40, 40)
    x[..., 15:25, 15:25] = 1
    crop = config(with_random_crop=True)
    assert augmented(x, numbers(1, n4=0.0), crop).mean() > x.mean() * 1.15
    assert augmented(x, numbers(1, n4=0.999), crop).mean() < x.mean() * 0.9


def test_blur_grows_with_its_radius_and_keeps_the_mean():
    x = torch.zeros(1, 2, 1, 3, 17, 17)
    x[..., 8, 8] = 1
    blur = config(with_random_blur=True)
    peaks = [augmented(x, numbers(1, n8=u), blur)[0, 0, 0, 0, 8, 8].item() for u in (0.0, 0.5, 1.0)]
    assert peaks[0] == pytest.approx(1)
    assert peaks[0] > peaks[1] > peaks[2]
    assert augmented(x, numbers(1, n8=1.0), blur).mean().item() == pytest.approx(x.mean().item(), rel=1e-3)


def color(**strengths):
    base = {
        "enable": True,
        "brightness": 0,
        "contrast": 0,
        "saturation": 0,
        "hue": 0,
        "color_probability": 0.2,
    }
    return config(random_color={**base, **strengths})


def test_color_probability_is_turned_around_as_the_container_does_unless_plain():
    x = images() * 0.5
    bright = color(brightness=0.5)
    drawn = numbers(n9=0.5, n10=1.0)
    assert torch.allclose(augmented(x, drawn, bright), x * 1.5, atol=1e-6)
    assert torch.allclose(augmented(x, drawn, bright, plain_color=True), x, atol=1e-6)


def test_contrast_keeps_the_mean_grey_and_saturation_the_luma():
    x = images() * 0.4 + 0.3
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    out = augmented(x, numbers(n9=0.9, n11=0.0), color(contrast=0.5))
    assert torch.allclose((out * luma).sum(-3).mean((-1, -2)), (x * luma).sum(-3).mean((-1, -2)), atol=1e-4)
    assert out.std() < 0.6 * x.std()
    grey = augmented(x, numbers(n9=0.9, n12=0.0), color(saturation=1))
    assert torch.allclose(grey, (x * luma).sum(-3, keepdim=True).expand_as(x), atol=1e-3)


def test_hue_turns_colours_and_leaves_grey():
    grey = torch.rand(2, 2, 1, 1, 8, 8).expand(2, 2, 1, 3, 8, 8)
    drawn = numbers(2, n9=0.9, n13=0.9)
    assert torch.allclose(augmented(grey, drawn, color(hue=0.5)), grey, atol=1e-3)
    red = torch.zeros(1, 2, 1, 3, 4, 4)
    red[..., 0, :, :] = 0.5
    assert not torch.allclose(augmented(red, drawn[:1], color(hue=0.5)), red, atol=0.1)
