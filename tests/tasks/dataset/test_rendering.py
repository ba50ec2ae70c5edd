from dataclasses import replace

import numpy as np
import pytest

from tasks.dataset.canvas import LIGHTS
from tasks.dataset.rendering import DEFECTS, KINDS, Capture, Part, defects_of, render

SIZE = 64


def _picture(kind: str, capture: Capture, light: str = "SolderLight") -> np.ndarray:
    return render([Part(kind, marking="123")], [capture], [light], SIZE)[light][0].astype(float)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("light", LIGHTS)
def test_every_defect_is_visible_under_every_lighting(kind: str, light: str) -> None:
    """A defect changes an area of the picture more than the variation of good parts does."""
    golden = _picture(kind, Capture(), light)
    for defect in defects_of(kind):
        changed = np.abs(_picture(kind, Capture(label=defect), light) - golden).max(axis=-1) > 40
        assert changed.sum() > 15, defect


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_deterministic_and_independent_of_the_batch(kind: str) -> None:
    captures = [Capture(noise=4, seed=seed, shift=(seed, 0.5), solder=0.9) for seed in range(3)]
    parts = [Part(kind, quarter_turns=turns, marking="7") for turns in range(3)]
    together = render(parts, captures, LIGHTS, SIZE)
    for number in range(3):
        alone = render([parts[number]], [captures[number]], LIGHTS, SIZE)
        for light in LIGHTS:
            assert np.array_equal(together[light][number], alone[light][0])


def test_noise_differs_between_lightings_and_brightness_scales() -> None:
    part, capture = Part("ic"), Capture(noise=5, seed=1)
    first, second = (render([part], [capture], lights, SIZE) for lights in (LIGHTS[:2], LIGHTS[:1]))
    assert np.array_equal(first[LIGHTS[0]], second[LIGHTS[0]])
    dark, light = (_picture("ic", replace(Capture(), gain=gain)).mean() for gain in (0.8, 1.0))
    assert dark == pytest.approx(0.8 * light, rel=0.03)


def test_only_chips_stand_up() -> None:
    assert {kind: "tombstone" in defects_of(kind) for kind in KINDS} == {
        "resistor": True,
        "capacitor": True,
        "transistor": False,
        "ic": False,
    }
    assert set(DEFECTS) == {defect for kind in KINDS for defect in defects_of(kind)}
