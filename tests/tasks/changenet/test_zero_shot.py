import json

import numpy as np
import pandas as pd
import pytest

from tasks.changenet import work
from tasks.errors import InputError


def scores(spec):
    work.inference(spec)
    return pd.read_csv(spec.results_dir / "inference.csv")["siamese_score"].to_numpy()


def test_without_a_checkpoint_the_distance_of_features_is_the_score(spec_of):
    spec = spec_of("native.zero_shot=true", "inference.checkpoint=null", name="inference")
    found = scores(spec)
    assert len(found) == 13
    assert np.isfinite(found).all()
    assert found.min() >= -1e-6
    assert len(set(found)) > 2
    assert json.loads((spec.results_dir / "inference_meta.json").read_text())["checkpoint"] is None


def test_equal_seeds_give_equal_scores(spec_of):
    first, second = (scores(spec_of("native.zero_shot=true", name="inference")) for _ in range(2))
    assert (first == second).all()


def test_weights_that_are_wanted_and_not_there_are_an_error(spec_of):
    spec = spec_of("native.zero_shot=true", "native.backbone_init=pretrained", name="inference")
    with pytest.raises(InputError, match="pretrained_backbone_path is empty"):
        work.inference(spec)
