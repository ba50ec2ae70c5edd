"""`embedding image_embeddings`: one vector per image of a parquet."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.action import ActionCode
from tasks.artifacts import sha256_of, write_atomically
from tasks.embedding.encoders import Encoder, Vectors, load_encoder
from tasks.embedding.headline import headline
from tasks.embedding.sidecar import Sidecar, sidecar_path
from tasks.embedding.spec import EmbeddingSpec
from tasks.embedding.tables import EMBEDDING, ROW_GROUP, VECTOR_TYPE, read_parquet, texts
from tasks.errors import InputError, StageFailed, listed
from tasks.images import unreadable

logger = logging.getLogger("deft")

GOLDEN = "golden_filepath"


def run(spec: EmbeddingSpec) -> None:
    """Embed every row of the input, in order, and write the parquet and then its sidecar.

    Raises:
        InputError: input, encoder or images are not what they must be; up to 20 bad images are named.
        StageFailed: the encoder gave vectors that nobody can compare (not finite, or all zero).
    """
    table = _input(spec)
    images, goldens = _images(spec, table)
    missing = [path for path in dict.fromkeys([*images, *(goldens or [])]) if not path.is_file()]
    if missing:
        raise InputError(
            f"{spec.input_parquet}: {len(missing)} images do not exist: {listed(missing)}; check the paths"
        )
    encoder = load_encoder(spec)

    def write(stream: Any) -> None:
        _write(stream, table, _vectors(encoder, images, goldens))
        # A sidecar must never describe another parquet than the one beside it.
        sidecar_path(spec.output_parquet).unlink(missing_ok=True)

    write_atomically(spec.output_parquet, write)
    _sidecar(spec, encoder, table.num_rows, goldens is not None).write(spec.output_parquet)
    names = pq.read_schema(spec.output_parquet).names
    logger.info(
        "%s: %d rows, dim %d, columns %s", spec.output_parquet, table.num_rows, encoder.dim, ", ".join(names)
    )


def _input(spec: EmbeddingSpec) -> pa.Table:
    table = read_parquet(spec.input_parquet, "input_parquet")
    if EMBEDDING in table.column_names:
        raise InputError(f"{spec.input_parquet} has a column {EMBEDDING} already; give the table without it")
    return table


def _images(spec: EmbeddingSpec, table: pa.Table) -> tuple[list[Path], list[Path] | None]:
    where = f"input_parquet {spec.input_parquet}"
    images = [Path(text) for text in texts(table, "filepath", where)]
    if spec.model != "ChangeNet" or GOLDEN not in table.column_names:
        return images, None
    return images, [Path(text) for text in texts(table, GOLDEN, where)]


def _vectors(encoder: Encoder, images: list[Path], goldens: list[Path] | None) -> Iterator[Vectors]:
    for first in range(0, len(images), ROW_GROUP):
        part = slice(first, first + ROW_GROUP)
        try:
            vectors = encoder.embed(images[part], goldens and goldens[part])
        except (InputError, OSError) as error:
            bad = unreadable([*images[first:], *(goldens or [])[first:]])
            if not bad:
                raise
            raise InputError(
                f"{len(bad)} images cannot be read: {listed(bad)}; replace them or take them out of the table"
            ) from error
        _check(vectors, images[part], encoder.dim)
        yield vectors
        if len(images) > ROW_GROUP:
            logger.info("embedded %d of %d images", min(first + ROW_GROUP, len(images)), len(images))


def _check(vectors: Vectors, images: list[Path], dim: int) -> None:
    if vectors.shape != (len(images), dim):
        raise StageFailed(f"the encoder gave {vectors.shape} for {len(images)} images of dimension {dim}")
    unusable = ~np.isfinite(vectors).all(axis=1) | ~vectors.any(axis=1)
    if unusable.any():
        paths = [images[row] for row in np.flatnonzero(unusable)]
        raise StageFailed(f"{len(paths)} vectors are zero or not finite: {listed(paths)}; check the weights")


def _write(stream: Any, table: pa.Table, blocks: Iterator[Vectors]) -> None:
    rest = [name for name in table.column_names if name != "filepath"]
    schema = pa.schema(
        [
            table.schema.field("filepath"),
            pa.field(EMBEDDING, VECTOR_TYPE, nullable=False),
            *(table.schema.field(name) for name in rest),
        ]
    )
    dictionaries = ["filepath", *rest]
    with pq.ParquetWriter(stream, schema, compression="none", use_dictionary=dictionaries) as writer:
        first = 0
        for vectors in blocks:
            rows = table.slice(first, len(vectors)).combine_chunks()
            offsets = np.arange(0, vectors.size + 1, vectors.shape[1], dtype=np.int32)
            lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors.ravel()), type=VECTOR_TYPE)
            columns = [rows["filepath"], lists, *(rows[name] for name in rest)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=ROW_GROUP)
            first += len(vectors)


def _sidecar(spec: EmbeddingSpec, encoder: Encoder, rows: int, with_golden: bool) -> Sidecar:
    config = spec.model_config_path
    return Sidecar(
        spec_sha256=spec.encoder_digest,
        model=encoder.name,
        model_path=spec.weights_at,
        revision=encoder.revision,
        weights_sha256=encoder.fingerprint,
        model_config_path=str(config) if config else None,
        model_config_sha256=sha256_of(config) if config else None,
        with_golden=with_golden,
        batch_size=spec.batch_size,
        dim=encoder.dim,
        rows=rows,
        input_sha256=sha256_of(spec.input_parquet),
    )


def _files_read(spec: EmbeddingSpec) -> list[Path]:
    images, goldens = _images(spec, _input(spec))
    return [*spec.weight_files(), *images, *(goldens or [])]


IMAGE_EMBEDDINGS = ActionCode(
    spec=EmbeddingSpec,
    run=run,
    folder=lambda spec: spec.output_parquet.parent,
    outputs=lambda spec: {
        "embeddings": spec.output_parquet,
        "embeddings_meta": sidecar_path(spec.output_parquet),
    },
    headline=headline,
    reads=_files_read,
)
