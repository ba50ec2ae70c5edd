import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.mining.metrics import METRICS


@pytest.mark.parametrize("metric", METRICS)
@given(
    seed=st.integers(0, 2**32),
    dim=st.integers(1, 900),
    offset=st.sampled_from([0.0, 3.0, 1000.0]),
    scale=st.sampled_from([1e-25, 1e-10, 1.0, 1e14]),
)
@settings(max_examples=60, deadline=None)
def test_keys_stay_within_the_slack(metric: str, seed: int, dim: int, offset: float, scale: float):
    if metric == "cosine":
        scale = max(scale, 1e-10)  # much shorter vectors are refused
    measure = METRICS[metric]
    random = np.random.default_rng(seed)
    source = ((random.standard_normal((40, dim)) + offset) * scale).astype(np.float32)
    target = ((random.standard_normal((3, dim)) + offset) * scale).astype(np.float32)
    targets, block = measure.placed(target), measure.placed(source)
    keys = np.empty((3, 40), np.float32)
    measure.keys(targets, block, keys)
    for row in range(3):
        repeated = np.tile(target[row : row + 1], (40, 1)).astype(float)
        distances = measure.distance(source.astype(float), repeated)
        for column in range(40):
            ideal = measure.key_of(np.full(3, distances[column]), targets)
            slack = measure.slack(ideal, targets, block)[row]
            assert abs(float(keys[row, column]) - ideal[row]) <= slack
