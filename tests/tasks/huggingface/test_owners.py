"""Who owns a model, by the registry file."""

import pytest

from tasks.errors import StageFailed
from tasks.huggingface.owners import owner_of


@pytest.fixture
def registry(tmp_path):
    file = tmp_path / "owners.yaml"
    file.write_text("owners:\n- {pattern: nvidia/tao-*, flow: tao-training}\n")
    return file


def test_owned_model_is_handed_over(registry):
    assert owner_of("nvidia/TAO-detector", registry) == "tao-training"


def test_unclaimed_model_goes_on(registry):
    assert owner_of("google/vit", registry) is None
    assert owner_of("google/vit") is None


@pytest.mark.parametrize("content", ["owners: [", "owners: {}", "owners:\n- {pattern: x}\n"])
def test_broken_registry_stops(registry, content):
    registry.write_text(content)
    with pytest.raises(StageFailed, match="registry of model owners"):
        owner_of("google/vit", registry)
