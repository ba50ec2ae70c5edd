from tasks.embedding.sidecar import Sidecar
from tasks.registry import find_action

EMBED = find_action("embedding", "image_embeddings")


def told(folder):
    values = {
        "input_parquet": folder / "in.parquet",
        "output_parquet": folder / "out.parquet",
        "model": "CLIP",
        "model_path": folder,
    }
    return EMBED.code.headline(EMBED.spec(values))


def test_says_how_many_images_and_by_which_encoder(tmp_path):
    facts = {"model": "CLIP", "model_path": "/w", "revision": None, "weights_sha256": "ab" * 32}
    sizes = {"batch_size": 2, "dim": 1024, "rows": 1, "spec_sha256": "", "input_sha256": ""}
    Sidecar(model_config_path=None, **facts, **sizes).write(tmp_path / "out.parquet")
    found = told(tmp_path)
    assert found.sentence == "1 image turned into vectors of 1,024 numbers, by the encoder CLIP."
    assert ("SHA-256 of the weights, first 12", "abababababab") in found.rows
    assert ("Revision", None) in found.rows


def test_vectors_of_a_container_that_leaves_no_sidecar_are_told_so(tmp_path):
    assert "without a sidecar" in told(tmp_path).sentence
