import pytest

from blocks.versions import image_uri
from tasks.registry import ACTIONS

UPSTREAM = [
    "images.tao_toolkit.pyt",
    "images.tao_toolkit.deploy",
    "images.tao_toolkit.data_services",
    "images.metropolis_sdg.paidf_anomalygen",
    "images.native.engine",
]


@pytest.mark.parametrize("key", sorted({*UPSTREAM, *(action.image for action in ACTIONS)}))
def test_every_key_in_use_names_an_image_with_a_tag(key):
    assert ":" in image_uri(key).rsplit("/", 1)[-1]
    assert not image_uri(key).endswith(":latest")


def test_own_versions_file_wins(tmp_path, monkeypatch):
    file = tmp_path / "versions.yaml"
    file.write_text("images: {native: {engine: 'site/engine:7'}}")
    monkeypatch.setenv("TAO_VERSIONS_FILE", str(file))
    assert image_uri("images.native.engine") == "site/engine:7"


@pytest.mark.parametrize("text", ["images: {native: {engine: ''}}", "images: {}", "images: {native: x}", ""])
def test_key_without_an_image_names_key_and_file(tmp_path, monkeypatch, text):
    file = tmp_path / "versions.yaml"
    file.write_text(text)
    monkeypatch.setenv("TAO_SKILL_BANK_PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"versions\.yaml has no image under images\.native\.engine"):
        image_uri("images.native.engine")


def test_missing_versions_file_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.setenv("TAO_VERSIONS_FILE", str(tmp_path / "absent.yaml"))
    with pytest.raises(ValueError, match="set TAO_VERSIONS_FILE"):
        image_uri("images.native.engine")
