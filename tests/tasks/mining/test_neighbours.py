import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from tasks.errors import InputError
from tasks.mining import neighbours
from tasks.mining.neighbours import Pairs, nearest

SCIPY = {"cosine": "cosine", "euclidean": "euclidean", "manhattan": "cityblock"}


def blocks(source: np.ndarray, rows: int) -> list[np.ndarray]:
    return [source[first : first + rows] for first in range(0, len(source), rows)]


def rows_of(pairs: Pairs, targets: int, topn: int) -> np.ndarray:
    return pairs.source.reshape(targets, topn)


def brute_force(source: np.ndarray, target: np.ndarray, topn: int, metric: str) -> np.ndarray:
    distances = cdist(target.astype(np.float64), source.astype(np.float64), SCIPY[metric])
    return np.argsort(distances, axis=1, kind="stable")[:, :topn]


def with_ties(random: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    """Vectors of which many repeat exactly."""
    vectors = random.standard_normal((rows, dim)).astype(np.float32)
    copies = random.integers(0, rows, rows // 3)
    vectors[random.integers(0, rows, rows // 3)] = vectors[copies]
    return vectors


@pytest.mark.parametrize("metric", SCIPY)
def test_equals_scipy_on_2000_by_200_with_ties(metric: str):
    random = np.random.default_rng(5)
    source, target = with_ties(random, 2000, 64), random.standard_normal((200, 64)).astype(np.float32)
    found = nearest(blocks(source, 333), target, 7, metric)
    assert np.array_equal(rows_of(found, 200, 7), brute_force(source, target, 7, metric))
    expected = cdist(target.astype(float), source.astype(float), SCIPY[metric])[found.target, found.source]
    assert np.allclose(found.distance, expected, rtol=1e-12, atol=1e-12)
    assert np.array_equal(found.rank.reshape(200, 7), np.tile(np.arange(1, 8), (200, 1)))


@pytest.mark.parametrize("metric", SCIPY)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_neither_blocks_nor_scale_nor_offset_change_the_result(metric: str, data: st.DataObject):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    sources, targets = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 8))
    dim, block = data.draw(st.integers(2, 70)), data.draw(st.integers(1, 61))
    offset = data.draw(st.sampled_from([0.0, 1.0, 100.0, 1e4]))
    scale = data.draw(st.sampled_from([1e-12, 1e-3, 1.0, 1e9]))
    source = ((with_ties(random, sources, dim) + offset) * scale).astype(np.float32)
    target = ((random.standard_normal((targets, dim)) + offset) * scale).astype(np.float32)
    topn = data.draw(st.integers(1, sources))
    found = nearest(blocks(source, block), target, topn, metric)
    whole = exact(metric, source, target)
    order = np.argsort(whole, axis=1, kind="stable")[:, :topn]
    assert np.array_equal(rows_of(found, targets, topn), order)
    assert np.array_equal(found.distance, np.take_along_axis(whole, order, axis=1).ravel())


def exact(metric: str, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """All distances in float64, every pair by itself; scipy's own rounding may order near-ties otherwise."""
    measure = neighbours.METRICS[metric]
    return np.array(
        [[measure.distance(s[None].astype(float), t[None].astype(float))[0] for s in source] for t in target]
    )


@pytest.mark.parametrize("metric", SCIPY)
def test_ties_go_to_the_earlier_source_row(metric: str):
    source = np.tile(np.float32([[1, 2, 3]]), (9, 1))
    found = nearest(blocks(source, 2), np.float32([[1, 2, 3], [3, 2, 1]]), 4, metric)
    assert rows_of(found, 2, 4).tolist() == [[0, 1, 2, 3]] * 2


def test_an_identical_vector_is_at_distance_zero_exactly():
    vectors = np.random.default_rng(0).standard_normal((50, 37)).astype(np.float32)
    for metric in SCIPY:
        assert nearest([vectors], vectors, 1, metric).distance.tolist() == [0.0] * 50


def test_within_groups_only_pairs_of_a_group_count():
    random = np.random.default_rng(1)
    source = random.standard_normal((90, 8)).astype(np.float32)
    target = random.standard_normal((10, 8)).astype(np.float32)
    of_source = np.arange(90) % 4
    of_source[of_source == 3] = 2
    of_target = np.arange(10) % 4  # nobody in the pool is in group 3
    found = nearest(blocks(source, 7), target, 30, "cosine", (of_source, of_target))
    distances = cdist(target, source, "cosine")
    for row in range(10):
        same = np.flatnonzero(of_source == of_target[row])
        expected = same[np.argsort(distances[row, same], kind="stable")][:30]
        assert found.source[found.target == row].tolist() == expected.tolist()
        assert found.rank[found.target == row].tolist() == list(range(1, len(expected) + 1))


def test_many_targets_are_searched_in_parts(monkeypatch: pytest.MonkeyPatch):
    random = np.random.default_rng(2)
    source, target = (random.standard_normal((rows, 5)).astype(np.float32) for rows in (40, 23))
    whole = nearest([source], target, 3)
    monkeypatch.setattr(neighbours, "TARGETS_AT_ONCE", 4)
    monkeypatch.setattr(neighbours, "NUMBERS_AT_ONCE", 1)
    parts = nearest(blocks(source, 6), target, 3)
    for name in ("target", "source", "rank", "distance"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))


def test_few_pairs_are_evaluated_exactly(monkeypatch: pytest.MonkeyPatch):
    random = np.random.default_rng(3)
    source, target = (random.standard_normal((rows, 64)).astype(np.float32) for rows in (20_000, 20))
    evaluated = []
    distances = neighbours._Search._distances
    monkeypatch.setattr(
        neighbours._Search,
        "_distances",
        lambda self, block, t, s: evaluated.append(len(t)) or distances(self, block, t, s),
    )
    nearest(blocks(source, 4096), target, 5, "cosine")
    assert sum(evaluated) < 20 * 40


def test_different_dimensions_are_refused():
    with pytest.raises(InputError, match="have 3 numbers, target vectors 4"):
        nearest([np.ones((2, 3), np.float32)], np.ones((1, 4), np.float32), 1)


def test_zero_vectors_have_no_cosine_but_a_distance():
    source = np.float32([[1, 0], [0, 0], [0, 1]])
    with pytest.raises(InputError, match="source vectors of the rows 2 are zero"):
        nearest(blocks(source, 1), source[:1], 1, "cosine")
    with pytest.raises(InputError, match="target vectors of the rows 2"):
        nearest([source[:1]], source, 1, "cosine")
    assert nearest([source], source, 1, "euclidean").source.tolist() == [0, 1, 2]
