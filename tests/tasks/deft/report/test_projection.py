import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.deft.report.files import LoopFiles
from tasks.deft.report.projection import GRID, embedding_map, two_dimensions


@given(seed=st.integers(0, 50), count=st.integers(2, 12), size=st.integers(2, 6))
def test_a_map_holds_a_share_of_the_variance_and_stays_in_its_grid(seed, count, size):
    vectors = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    flat, variance = two_dimensions(vectors)
    assert flat.shape == (count, 2)
    assert flat.min() >= 0
    assert flat.max() <= GRID
    assert 0 <= variance <= 1 + 1e-9


def test_points_of_a_plane_lose_nothing():
    plane = np.random.default_rng(0).normal(size=(30, 2)) @ np.random.default_rng(1).normal(size=(2, 7))
    assert two_dimensions(plane.astype(np.float32))[1] == pytest.approx(1, abs=1e-6)


def test_equal_vectors_have_no_variance():
    flat, variance = two_dimensions(np.ones((4, 3), dtype=np.float32))
    assert variance == 0
    assert not flat.any()


def test_the_map_of_an_iteration(run):
    points = embedding_map(LoopFiles.of(run.folder), "iter1")
    assert (len(points.weak), len(points.mined), points.sampled, points.pool) == (3, 4, 26, 30)
    assert embedding_map(LoopFiles.of(run.folder), "baseline") is None
