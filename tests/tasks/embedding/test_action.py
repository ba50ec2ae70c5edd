import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks.action import Action
from tasks.embedding import action
from tasks.embedding.action import IMAGE_EMBEDDINGS, run
from tasks.embedding.sidecar import encoder_match
from tasks.embedding.spec import EmbeddingSpec
from tasks.embedding.tables import VECTOR_TYPE, vector_blocks
from tasks.errors import InputError, StageFailed

Crops = Callable[[int], list[Path]]
TableOf = Callable[..., Path]


@pytest.fixture
def spec_for(siglip: Path, tmp_path: Path) -> Callable[..., EmbeddingSpec]:
    def make(table: Path, **more: Any) -> EmbeddingSpec:
        values = {"model_path": str(siglip), "batch_size": 3, "device": "cpu"}
        return EmbeddingSpec(
            input_parquet=table, output_parquet=tmp_path / "out.parquet", **{**values, **more}
        )

    return make


def test_rows_keep_their_order_and_metadata(crops: Crops, table_of: TableOf, spec_for):
    paths = crops(7)
    table = table_of(filepath=paths, label=["PASS"] * 7, siamese_score=[0.1 * i for i in range(7)])
    spec = spec_for(table)
    run(spec)
    out = pq.read_table(spec.output_parquet)
    assert out.column_names == ["filepath", "embedding", "label", "siamese_score"]
    assert out["filepath"].to_pylist() == [str(path) for path in paths]
    assert out["siamese_score"].equals(pq.read_table(table)["siamese_score"])
    assert out.schema.field("embedding").type == VECTOR_TYPE
    meta = json.loads(spec.output_parquet.with_name("out.parquet.meta.json").read_text())
    assert (meta["rows"], meta["dim"], meta["model"], meta["batch_size"]) == (7, 16, "SigLIP", 3)
    assert meta["weights_sha256"]
    assert meta["spec_sha256"] == spec.encoder_digest


def test_the_vectors_are_stored_for_fast_reading(crops: Crops, table_of: TableOf, spec_for):
    spec = spec_for(table_of(filepath=crops(2)))
    run(spec)
    group = pq.ParquetFile(spec.output_parquet).metadata.row_group(0)
    vectors = next(
        group.column(i) for i in range(group.num_columns) if "embedding" in group.column(i).path_in_schema
    )
    assert vectors.compression == "UNCOMPRESSED"
    assert not vectors.has_dictionary_page


def test_more_rows_than_a_row_group(
    crops: Crops, table_of: TableOf, spec_for, monkeypatch: pytest.MonkeyPatch
):
    spec = spec_for(table_of(filepath=crops(5), number=list(range(5))))
    run(spec)
    whole = pq.read_table(spec.output_parquet)
    monkeypatch.setattr(action, "ROW_GROUP", 2)
    run(spec)
    parts = pq.read_table(spec.output_parquet)
    assert pq.ParquetFile(spec.output_parquet).num_row_groups == 3
    assert parts.drop_columns("embedding").equals(whole.drop_columns("embedding"))
    vectors = np.concatenate(list(vector_blocks(spec.output_parquet, "embedding", "out")))
    assert np.allclose(vectors, np.array(whole["embedding"].to_pylist()), atol=1e-5)


def test_the_same_input_gives_the_same_bytes(crops: Crops, table_of: TableOf, spec_for):
    spec = spec_for(table_of(filepath=crops(4)))
    run(spec)
    first = spec.output_parquet.read_bytes()
    run(spec)
    assert spec.output_parquet.read_bytes() == first


def test_all_unreadable_images_are_named_and_nothing_is_written(
    crops: Crops, table_of: TableOf, spec_for, tmp_path: Path
):
    paths = crops(6)
    paths[1].write_text("no image")
    paths[4].write_bytes(paths[4].read_bytes()[:60])
    spec = spec_for(table_of(filepath=paths))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"2 images cannot be read: .*crop_1\.png, .*crop_4\.png"):
        run(spec)
    assert sorted(tmp_path.iterdir()) == before


def test_missing_images_are_named_before_the_encoder_is_loaded(crops: Crops, table_of: TableOf, spec_for):
    spec = spec_for(table_of(filepath=[*crops(2), Path("/nowhere/x.png")]), model_path="not/there")
    with pytest.raises(InputError, match=r"1 images do not exist: /nowhere/x\.png"):
        run(spec)


def test_a_second_embedding_column_is_refused(crops: Crops, table_of: TableOf, spec_for):
    with pytest.raises(InputError, match="column embedding already"):
        run(spec_for(table_of(filepath=crops(1), embedding=[[1.0]])))


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_vectors_nobody_can_compare_are_refused(
    value: float, crops: Crops, table_of: TableOf, spec_for, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    class Constant:
        name, dim, fingerprint, revision, takes_golden = "SigLIP", 4, "f", None, False

        def embed(self, paths, golden_paths):
            return np.full((len(paths), 4), value, np.float32)

    monkeypatch.setattr(action, "load_encoder", lambda spec: Constant())
    with pytest.raises(StageFailed, match="2 vectors are zero or not finite"):
        run(spec_for(table_of(filepath=crops(2))))
    assert not (tmp_path / "out.parquet").exists()


def test_content_decides_the_cache_key(crops: Crops, table_of: TableOf, spec_for):
    paths = crops(3)
    spec = spec_for(table_of(filepath=paths))
    stage = Action("embedding", "image_embeddings", "tasks.embedding.action:IMAGE_EMBEDDINGS")
    before = stage.digest(spec)
    paths[0].touch()
    assert stage.digest(spec) == before
    Image.new("RGB", (5, 5)).save(paths[0])
    assert stage.digest(spec) != before
    assert set(IMAGE_EMBEDDINGS.reads(spec)) >= {*paths, Path(spec.weights_at) / "model.safetensors"}


def test_the_row_count_and_columns_are_said(
    crops: Crops, table_of: TableOf, spec_for, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "deft")
    run(spec_for(table_of(filepath=crops(2), label=["a", "b"])))
    assert "2 rows, dim 16, columns filepath, embedding, label" in caplog.text


def test_changenet_embeds_pairs_where_goldens_are_given(
    crops: Crops, table_of: TableOf, tmp_path: Path, changenet: tuple[Path, Path]
):
    paths = crops(4)
    found = {}
    for name, columns in {"single": {}, "pair": {"golden_filepath": paths[::-1]}}.items():
        spec = EmbeddingSpec(
            input_parquet=table_of(name, filepath=paths, **columns),
            output_parquet=tmp_path / f"{name}_embeddings.parquet",
            model="ChangeNet",
            model_path=str(changenet[0]),
            model_config_path=changenet[1],
            device="cpu",
        )
        run(spec)
        found[name] = next(vector_blocks(spec.output_parquet, "embedding", name))
        assert set(IMAGE_EMBEDDINGS.reads(spec)) == {changenet[0], *paths}
    assert not np.allclose(found["single"], found["pair"])
    with pytest.raises(InputError, match="with_golden True / False"):
        encoder_match(tmp_path / "pair_embeddings.parquet", tmp_path / "single_embeddings.parquet")


def test_a_pair_without_its_golden_is_named(
    crops: Crops, table_of: TableOf, tmp_path: Path, changenet: tuple[Path, Path]
):
    table = table_of(filepath=crops(2), golden_filepath=["", "x.png"])
    spec = EmbeddingSpec(
        input_parquet=table,
        output_parquet=tmp_path / "out.parquet",
        model="ChangeNet",
        model_path=str(changenet[0]),
        model_config_path=changenet[1],
    )
    with pytest.raises(InputError, match="column golden_filepath is empty in the rows 1"):
        run(spec)
