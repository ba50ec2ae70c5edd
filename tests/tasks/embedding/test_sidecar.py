import logging
from pathlib import Path
from typing import Any

import pytest

from tasks.embedding.sidecar import Sidecar, encoder_match, sidecar_path
from tasks.errors import InputError


def written(path: Path, **changes: Any) -> Path:
    values: dict[str, Any] = {
        "spec_sha256": "s",
        "model": "SigLIP",
        "model_path": "a/b",
        "revision": None,
        "weights_sha256": "w",
        "model_config_path": None,
        "batch_size": 64,
        "dim": 768,
        "rows": 2,
        "input_sha256": "i",
    }
    Sidecar(**{**values, **changes}).write(path)
    return path


def test_one_encoder_matches_and_another_is_refused_by_name(tmp_path: Path):
    source = written(tmp_path / "source.parquet")
    assert encoder_match(source, written(tmp_path / "target.parquet", rows=9, input_sha256="j")) == "yes"
    for change in (
        {"model": "CLIP"},
        {"weights_sha256": "v"},
        {"revision": "r"},
        {"dim": 512},
        {"with_golden": True},
    ):
        other = written(tmp_path / "other.parquet", **change)
        with pytest.raises(InputError, match=next(iter(change))):
            encoder_match(source, other)


def test_the_same_weights_at_another_path_are_one_encoder(tmp_path: Path):
    source = written(tmp_path / "source.parquet")
    assert encoder_match(source, written(tmp_path / "target.parquet", model_path="c/d")) == "yes"


def test_another_batch_size_is_only_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING, "deft")
    source = written(tmp_path / "source.parquet")
    assert encoder_match(source, written(tmp_path / "target.parquet", batch_size=8)) == "yes"
    assert "batch sizes" in caplog.text


def test_a_foreign_parquet_is_unverified(tmp_path: Path):
    assert encoder_match(written(tmp_path / "a.parquet"), tmp_path / "foreign.parquet") == "unverified"


def test_a_damaged_sidecar_is_an_input_error(tmp_path: Path):
    path = written(tmp_path / "a.parquet")
    sidecar_path(path).write_text('{"model": "SigLIP"}')
    with pytest.raises(InputError, match="no embedding sidecar"):
        Sidecar.of(path)
