import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest

from tasks.embedding.encoders import load_encoder
from tasks.embedding.spec import EmbeddingSpec
from tasks.errors import InputError


def spec(model: str, weights: Path | str, **more: Any) -> EmbeddingSpec:
    files = {"input_parquet": "in.parquet", "output_parquet": "out.parquet"}
    return EmbeddingSpec(model=model, model_path=str(weights), device="cpu", **files, **more)


@pytest.mark.parametrize(("model", "dim"), [("SigLIP", 16), ("CLIP", 12)])
def test_a_local_snapshot_gives_one_vector_per_image_whatever_the_batches(
    model: str, dim: int, crops: Callable[[int], list[Path]], request: pytest.FixtureRequest
):
    snapshot = request.getfixturevalue(model.lower())
    paths = crops(5)
    whole = load_encoder(spec(model, snapshot, batch_size=5)).embed(paths, None)
    parts = load_encoder(spec(model, snapshot, batch_size=2)).embed(paths, None)
    assert whole.shape == (5, dim)
    assert whole.dtype == np.float32
    assert np.allclose(whole, parts, atol=1e-5)
    assert len(np.unique(whole.round(4), axis=0)) == 5


def test_the_fingerprint_follows_the_weights(siglip: Path, tmp_path: Path):
    copy = shutil.copytree(siglip, tmp_path / "copy")
    original = load_encoder(spec("SigLIP", siglip))
    assert original.fingerprint == load_encoder(spec("SigLIP", copy)).fingerprint
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert original.fingerprint != load_encoder(spec("SigLIP", copy)).fingerprint


def test_a_snapshot_of_another_family_is_refused(clip: Path):
    with pytest.raises(InputError, match="type clip, not SigLIP"):
        load_encoder(spec("SigLIP", clip))


def test_a_folder_that_is_no_snapshot(tmp_path: Path):
    with pytest.raises(InputError, match=r"config\.json: No such file"):
        load_encoder(spec("SigLIP", tmp_path))


def test_a_snapshot_without_weights(siglip: Path, tmp_path: Path):
    copy = shutil.copytree(siglip, tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be loaded"):
        load_encoder(spec("SigLIP", copy))


def test_a_path_that_does_not_exist_is_not_taken_for_a_hub_id(tmp_path: Path):
    with pytest.raises(InputError, match="neither a snapshot folder nor a hub id"):
        load_encoder(spec("SigLIP", tmp_path / "none"))


def test_the_hub_out_of_reach_asks_for_a_local_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="local snapshot folder"):
        load_encoder(spec("SigLIP", "google/siglip-base-patch16-224"))


def test_a_hub_id_in_the_local_cache_is_found_with_its_commit(
    siglip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    cached = tmp_path / "models--maker--tiny"
    commit = "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(siglip, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub._snapshot_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    encoder = load_encoder(spec("SigLIP", "maker/tiny"))
    assert encoder.revision == commit
    assert encoder.dim == 16


def test_a_gpu_that_is_not_there():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    wanted = EmbeddingSpec(input_parquet="in.parquet", output_parquet="out.parquet", device="cuda")
    with pytest.raises(InputError, match="device=cpu"):
        load_encoder(wanted)
