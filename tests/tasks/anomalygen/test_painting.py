from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.anomalygen.bare_board import copper_of
from tasks.anomalygen.defects import DEFECTS, painter_of
from tasks.anomalygen.painting import FEATHER, PAINTERS, Painted, paint, problem
from tasks.anomalygen.surface import grown, pieces
from tasks.dataset.rendering import KINDS, Capture, Part, render
from tasks.errors import InputError

COMPONENT = ("missing", "bridge", "excess_solder")
BARE = tuple(name for name in DEFECTS if name not in COMPONENT)
LIGHTS = ("SolderLight", "SideLight", "TopLight")


def part_pictures(kind, turns=0, lights=2, noise=0.0, size=64):
    scene = render(
        [Part(kind, quarter_turns=turns, marking="47")], [Capture(noise=noise)], LIGHTS[:lights], size
    )
    return [scene[light][0] for light in LIGHTS[:lights]]


def drawn_board(look="artwork", size=64):
    """Three tracks, one with a pad: copper [size, size] and its picture."""
    copper = np.zeros((size, size), dtype=bool)
    for left in (6, 30, 48):
        copper[:, left : left + 8] = True
    copper[22:42, 44:60] = True
    rng = np.random.default_rng(5)
    if look == "artwork":
        grey = np.where(copper, 2, 252) + rng.integers(-2, 3, copper.shape)
        return copper, np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    tones = np.where(copper[:, :, None], (190, 140, 80), (30, 80, 45))
    soft = cv2.GaussianBlur(tones.astype(np.float32), (0, 0), 0.8) + rng.normal(0, 4, tones.shape)
    return copper, np.clip(soft, 0, 255).astype(np.uint8)


def painted(label, clean, seed, regions=None):
    """The first scene that one of a few generators gives."""
    found = (paint(label, clean, np.random.default_rng([seed, again]), regions) for again in range(8))
    return next(one for one in found if one is not None)


def clean_of(label, kind="resistor", look="artwork"):
    return part_pictures(kind) if label in COMPONENT else [drawn_board(look)[1]] * 2


def check_aligned(clean, result):
    outside = ~grown(result.mask, FEATHER)
    assert result.mask.any()
    assert len(result.images) == len(clean)
    for before, after in zip(clean, result.images, strict=True):
        assert after.dtype == np.uint8
        assert np.array_equal(before[outside], after[outside])
    assert problem(clean, result) is None


@pytest.mark.parametrize("label", COMPONENT)
@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("turns", [0, 1])
def test_component_defects_stay_inside_their_mask_and_pass_the_guard_rail(label, kind, turns):
    clean = part_pictures(kind, turns, lights=3)
    for seed in range(3):
        check_aligned(clean, painted(label, clean, seed))


@settings(max_examples=60, deadline=None)
@given(
    label=st.sampled_from(BARE), look=st.sampled_from(["artwork", "photograph"]), seed=st.integers(0, 10**6)
)
def test_bare_board_defects_stay_inside_their_mask_and_pass_the_guard_rail(label, look, seed):
    clean = [drawn_board(look)[1]]
    check_aligned(clean, painted(label, clean, seed))


@pytest.mark.parametrize("look", ["artwork", "photograph"])
def test_copper_is_dark_in_artwork_and_bright_in_a_photograph(look):
    copper, picture = drawn_board(look)
    assert (copper_of(picture) == copper).mean() > 0.98


def test_a_grey_picture_without_structure_has_no_copper():
    assert copper_of(np.full((64, 64, 3), 120, np.uint8)) is None


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_open_parts_a_track_in_two(seed):
    copper, picture = drawn_board()
    after = copper_of(painted("open", [picture], seed).images[0])
    assert len([area for area in pieces(after)[1] if area > 6]) == len(pieces(copper)[1]) + 1
    assert after.sum() < copper.sum()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_short_joins_two_tracks(seed):
    copper, picture = drawn_board()
    after = copper_of(painted("short", [picture], seed).images[0])
    assert len(pieces(after)[1]) == len(pieces(copper)[1]) - 1
    assert after.sum() > copper.sum()


@settings(max_examples=50, deadline=None)
@given(label=st.sampled_from(["mousebite", "spur", "copper", "pin_hole"]), seed=st.integers(0, 10**6))
def test_bites_and_islands_have_the_right_sign_and_touch_what_they_should(label, seed):
    copper, picture = drawn_board()
    result = painted(label, [picture], seed)
    after = copper_of(result.images[0])
    gains = label in ("spur", "copper")
    assert (after.sum() > copper.sum()) == gains
    other = copper if gains else ~copper
    assert (grown(result.mask, 1) & other).any() == (label in ("mousebite", "spur"))
    assert len(pieces(after)[1]) == len(pieces(copper)[1]) + (label == "copper")
    assert len(pieces(~after)[1]) == len(pieces(~copper)[1]) + (label == "pin_hole")


@pytest.mark.parametrize("label", DEFECTS)
def test_the_same_generator_gives_the_same_bytes(label):
    clean = clean_of(label)
    one, other = painted(label, clean, 3), painted(label, clean, 3)
    assert np.array_equal(one.mask, other.mask)
    assert all(np.array_equal(*pair) for pair in zip(one.images, other.images, strict=True))


@pytest.mark.parametrize("label", DEFECTS)
def test_the_clean_pictures_are_left_alone(label):
    clean = clean_of(label)
    before = [picture.copy() for picture in clean]
    painted(label, clean, 1)
    assert all(np.array_equal(*pair) for pair in zip(before, clean, strict=True))


def test_missing_uncovers_the_board_where_the_body_was():
    clean = part_pictures("capacitor")
    result = painted("missing", clean, 0)
    assert result.mask[32, 32]
    bare = clean[1][32, 3].astype(int)
    assert np.abs(result.images[1][28:37, 28:37].reshape(-1, 3).mean(axis=0) - bare).max() < 12


def test_excess_solder_and_bridges_are_metal_grey_under_white_light():
    for label in ("bridge", "excess_solder"):
        clean = part_pictures("transistor")
        result = painted(label, clean, 2)
        colours = result.images[1][result.mask].astype(int)
        assert np.median(np.ptp(colours, axis=1)) < 30
        assert colours.max() > 120


def test_a_bare_board_has_no_component_that_could_be_missing():
    assert paint("missing", [np.full((64, 64, 3), 60, np.uint8)], np.random.default_rng(0)) is None


def test_a_plain_sheet_of_copper_cannot_be_opened_but_can_have_a_hole():
    sheet = [np.full((64, 64, 3), 1, np.uint8)]
    assert paint("open", sheet, np.random.default_rng(0)) is None
    check_aligned(sheet, painted("pin_hole", sheet, 0))


def test_regions_say_where_body_and_pads_are():
    clean = part_pictures("resistor")
    regions = np.zeros_like(clean[0])
    regions[24:40, 22:42] = (255, 0, 0)
    regions[24:40, 10:20] = regions[24:40, 44:54] = (0, 255, 0)
    result = painted("missing", clean, 0, regions)
    assert result.mask[32, 32]
    assert not result.mask[32, 12]
    check_aligned(clean, painted("bridge", clean, 0, regions))


def test_regions_say_where_copper_is():
    copper, picture = drawn_board()
    regions = np.where(~copper[:, :, None], np.uint8([[[9, 9, 200]]]), np.uint8([[[0, 0, 0]]]))
    assert np.array_equal(copper_of(picture, regions), copper)


def test_every_defect_has_a_painter():
    assert tuple(PAINTERS) == DEFECTS


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("EXCESS_SOLDER", "excess_solder"),
        ("excess solder", "excess_solder"),
        ("Spurious copper", "copper"),
        ("mouse_bite", "mousebite"),
        ("pinhole", "pin_hole"),
        (" Open-circuit ", "open"),
        ("tombstone", None),
        ("", None),
    ],
)
def test_labels_are_known_in_any_spelling(label, name):
    assert painter_of(label) == name


def test_an_unknown_label_is_an_error_that_names_the_known_ones():
    with pytest.raises(InputError, match=r"tombstone.*missing"):
        paint("tombstone", clean_of("open"), np.random.default_rng(0))


@pytest.mark.parametrize("clean", [[], [np.zeros((8, 8, 3), np.uint8)], [np.zeros((64, 64), np.uint8)]])
def test_pictures_that_are_none_are_an_error(clean):
    with pytest.raises(InputError, match="one size"):
        paint("open", clean, np.random.default_rng(0))


def good_pair():
    clean = clean_of("copper")
    return clean, painted("copper", clean, 0)


def test_guard_rail_names_an_invisible_defect():
    clean, result = good_pair()
    assert "cannot be seen" in problem(clean, replace(result, images=tuple(clean)))


def test_guard_rail_names_a_change_outside_the_mask():
    clean, result = good_pair()
    images = [picture.copy() for picture in result.images]
    images[1][~grown(result.mask, 8)] ^= 1
    assert "outside the mask" in problem(clean, replace(result, images=tuple(images)))


def test_guard_rail_names_an_empty_mask():
    clean, result = good_pair()
    assert "empty" in problem(clean, replace(result, mask=np.zeros_like(result.mask)))


def test_guard_rail_names_a_mask_that_covers_too_much():
    clean, result = good_pair()
    assert "covers" in problem(clean, replace(result, mask=np.ones_like(result.mask)))


def test_guard_rail_names_a_black_picture():
    clean, result = good_pair()
    assert "black" in problem(clean, replace(result, images=(result.images[0], np.zeros_like(clean[0]))))


def test_guard_rail_names_pictures_of_another_scene():
    clean, result = good_pair()
    assert "number or size" in problem(clean[:1], result)
    assert "number or size" in problem(clean, Painted(result.images, result.mask[1:]))
