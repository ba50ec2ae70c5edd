import numpy as np
import pandas as pd
import pytest
import torch

from tasks.changenet.features import difference_vector, load_changenet_encoder
from tasks.changenet.files import LATEST
from tasks.errors import InputError


@pytest.fixture
def encoder(trained):
    return load_changenet_encoder(trained / "train" / LATEST, trained / "train" / "experiment.yaml", "cpu")


@pytest.fixture
def files(data):
    rows = pd.read_csv(data / "kpi.csv", dtype=str)
    names = [f"{name}_SolderLight.png" for name in rows["object_name"]]
    folder = data / "images" / "kpi"
    return [folder / "test" / name for name in names], [folder / "golden" / name for name in names]


def test_images_and_pairs_have_one_dimension(encoder, files):
    tests, goldens = files
    for given in (None, goldens):
        vectors = encoder.embed(tests, given, 4)
        assert vectors.shape == (13, encoder.dim)
        assert vectors.dtype == np.float32
        assert np.isfinite(vectors).all()
        assert (np.linalg.norm(vectors, axis=1) > 0.5).all()


def test_vectors_do_not_depend_on_the_batch(encoder, files):
    np.testing.assert_allclose(encoder.embed(*files, 1), encoder.embed(*files, 13), atol=1e-5)


def test_no_images_give_no_vectors(encoder):
    assert encoder.embed([], None, 4).shape == (0, encoder.dim)


def test_the_golden_changes_the_vector(encoder, files):
    tests, goldens = files
    assert not np.allclose(encoder.embed(tests, goldens, 8), encoder.embed(tests, tests, 8))


def test_a_vector_joins_three_parts_of_unit_length():
    generator = torch.Generator().manual_seed(0)
    levels = [[torch.rand(2, c, s, s, generator=generator) for c, s in ((3, 8), (4, 4))] for _ in range(2)]
    vector = difference_vector(torch.rand(2, 5, 8, 8, generator=generator), *levels)
    assert vector.shape == (2, 2 * 5 + 3 * 7)
    for part in (vector[:, :10], vector[:, 10:17], vector[:, 17:]):
        assert torch.allclose(part.norm(dim=1), torch.ones(2), atol=1e-5)


def test_rise_and_fall_point_to_different_places():
    plain, change = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    change[0, 0, 1, 1] = 1
    concern = torch.zeros(1, 3, 4, 4)
    concern[0, :, 1, 1] = 9
    surplus = difference_vector(concern, [plain + change], [plain])
    missing = difference_vector(concern, [plain], [plain + change])
    assert (surplus[0, 6:] @ missing[0, 6:]).item() < 0
    assert surplus[0, 6:].abs().sum() > 0


def test_a_config_that_does_not_belong_to_the_checkpoint_is_refused(trained, tmp_path):
    text = (trained / "train" / "experiment.yaml").read_text()
    (tmp_path / "other.yaml").write_text(text.replace("embed_dim: 8", "embed_dim: 4"))
    with pytest.raises(InputError, match=r"embed_dim = 8, the spec has 4"):
        load_changenet_encoder(trained / "train" / LATEST, tmp_path / "other.yaml", "cpu")


def test_a_baseline_spec_without_results_dir_serves(trained, tmp_path):
    text = (trained / "train" / "experiment.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("results_dir:")]
    (tmp_path / "baseline.yaml").write_text("\n".join(lines))
    assert load_changenet_encoder(trained / "train" / LATEST, tmp_path / "baseline.yaml", "cpu").dim > 0
