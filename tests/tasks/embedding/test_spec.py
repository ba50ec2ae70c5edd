from pathlib import Path

import pytest

from tasks.embedding.spec import EmbeddingSpec
from tasks.errors import InputError
from tasks.spec import load_spec


def spec(*words: str) -> EmbeddingSpec:
    return load_spec(EmbeddingSpec, None, ["input_parquet=in.parquet", "output_parquet=out.parquet", *words])


def test_defaults_are_siglip_from_the_hub():
    assert (spec().model, spec().weights_at, spec().batch_size) == (
        "SigLIP",
        "google/siglip-base-patch16-224",
        64,
    )
    assert spec("model=CLIP").weights_at == "openai/clip-vit-base-patch32"


@pytest.mark.parametrize("word", ["siglip", "SIGLIP", "SigLIP"])
def test_model_names_ignore_case(word: str):
    assert spec(f"model={word}").model == "SigLIP"


def test_older_key_names():
    given = load_spec(EmbeddingSpec, None, ["input_path=in.parquet", "output_path=out.parquet"])
    assert given.input_parquet == Path("in.parquet").absolute()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model=resnet"], "SigLIP"),
        (["model=ChangeNet"], "takes a checkpoint"),
        (["model=SigLIP", "model_path=a.pth"], "do not go together"),
        (["model=ChangeNet", "model_path=a.pth"], "model_config_path is required"),
        (["model_config_path=a.yaml"], "remove it"),
        (["batch_size=0"], "batch_size"),
        (["output_parquet=in.parquet"], "one file"),
    ],
)
def test_contradictions_are_refused(words: list[str], says: str):
    with pytest.raises(InputError, match=says):
        spec(*words)


def test_both_steps_of_a_run_have_one_encoder_digest():
    other_files = load_spec(EmbeddingSpec, None, ["input_parquet=a.parquet", "output_parquet=b.parquet"])
    assert spec().encoder_digest == other_files.encoder_digest
    assert spec().encoder_digest != spec("model=CLIP").encoder_digest
    assert spec().encoder_digest == spec("model_path=google/siglip-base-patch16-224").encoder_digest
