"""Embedding and neighbour search as Prefect tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from blocks.runtime import Runtime
from tasks.stage import run_stage


class EncoderChoice(BaseModel):
    """One encoder for both sides of a search; used twice, so that the two cannot differ."""

    model_config = ConfigDict(frozen=True)

    model: str
    model_path: str | None = None
    model_config_path: Path | None = None
    batch_size: int = 64

    def values(self) -> dict[str, Any]:
        """The encoder's keys of an embedding spec."""
        return {name: value for name, value in self.model_dump().items() if value is not None}


class Search(BaseModel):
    """What counts as near: how many neighbours, by which distance, and whether labels must agree.

    Labels agree after the search (`post`, as the container does) or by a search within each label.
    """

    model_config = ConfigDict(frozen=True)

    topn: int
    knn_metric: str
    filter_by_label: bool
    filter_mode: Literal["post", "within_label"] = "post"


class Neighbours(BaseModel):
    """What a search leaves, and the report of it where one was written."""

    target_embeddings: Path
    source_embeddings: Path
    mined: Path
    pairs: Path
    report: Path | None = None


def find_neighbours(
    targets: Path,
    pool: Path,
    encoder: EncoderChoice,
    folder: Path,
    search: Search,
    *,
    output: str,
    runtime: Runtime,
    exclude: Path | None = None,
) -> Neighbours:
    """Embed the weak images and the pool with one encoder, and find each weak image's nearest.

    Args:
        targets: parquet of weak images.
        pool: parquet of pool images.
        encoder: for both.
        folder: where all of it goes.
        search: what counts as near.
        output: file name of the mined parquet.
        runtime: where to run it.
        exclude: parquet of pool images that are not to be found.

    Raises:
        DeftError: as the two actions do.
    """
    embeddings = {}
    for side, table in (("target", targets), ("source", pool)):
        label = f"{side}_embeddings"
        values = {
            **encoder.values(),
            "input_parquet": table,
            "output_parquet": folder / f"{label}.parquet",
        }
        stage = run_stage("embedding", "image_embeddings", values, runtime, label=label)
        embeddings[side] = stage.path("embeddings")
    # NVIDIA's image cannot leave samples out, nor look within a label.
    own_search = exclude is not None or search.filter_mode != "post"
    stage = run_stage(
        "tmm",
        "nearest_neighbors",
        {
            "source_parquet": embeddings["source"],
            "target_parquet": embeddings["target"],
            "output_parquet": folder / output,
            **({"exclude_parquet": exclude} if exclude else {}),
            "topn": search.topn,
            "knn_metric": search.knn_metric,
            "filter_by_label": "true" if search.filter_by_label else "false",
            "filter_mode": search.filter_mode,
        },
        runtime,
        native=own_search,
    )
    return Neighbours(
        target_embeddings=embeddings["target"],
        source_embeddings=embeddings["source"],
        mined=stage.path("mined"),
        pairs=stage.path("mined_pairs"),
    )
