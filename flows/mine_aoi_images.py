"""Mining: the pool images that look most like a model's weak samples."""

import logging
from pathlib import Path
from typing import Annotated, Literal

import pyarrow.parquet as pq
from prefect import flow
from pydantic import Field

from blocks.reaping import reap
from tasks.artifacts import timestamp_folder
from tasks.errors import InputError
from tasks.mining.pool import convert_pool
from tasks.mining.report import write_report
from tasks.mining.report.facts import ReportInputs
from tasks.mining.task import EncoderChoice, Neighbours, Search, find_neighbours
from tasks.publishing import publish_file
from tasks.stage import load_runtime

logger = logging.getLogger("deft.flow")


@flow(name="mine-aoi-images", on_cancellation=[reap])
def mine_aoi_images(
    target_parquet: Path,
    pool: Path,
    results_dir: Path | None = None,
    topn: Annotated[int, Field(ge=1)] = 5,
    knn_metric: Literal["cosine", "euclidean", "manhattan"] = "cosine",
    filter_by_label: bool = False,
    encoder: Literal["ChangeNet", "SigLIP", "CLIP"] = "SigLIP",
    encoder_path: str | None = None,
    encoder_config: Path | None = None,
    batch_size: Annotated[int, Field(ge=1)] = 64,
    on_bad_image: Literal["fail", "exclude"] = "fail",
    runtime: str = "inline",
) -> Neighbours:
    """Embed weak images and a pool with one encoder and write the unique nearest pool images.

    Args:
        target_parquet: weak images with filepath and, if wanted, label: (a part of) a gaps parquet.
        pool: pool images, CSV or parquet with filepath and, if wanted, label.
        results_dir: output folder; by default mining_results/<clock> beside the target parquet.
        topn: nearest pool images looked up for each weak image.
        knn_metric: distance between embeddings; cosine for SigLIP and CLIP.
        filter_by_label: keep only neighbours that have the label of their weak image.
        encoder: SigLIP, CLIP, or a ChangeNet checkpoint of the native engine.
        encoder_path: hub id, local snapshot folder or checkpoint; required for ChangeNet.
        encoder_config: spec of the checkpoint's model; required for ChangeNet.
        batch_size: images per forward pass.
        on_bad_image: fail names unreadable pool images; exclude leaves them out and lists them.
        runtime: where actions run: inline, or the type/name of a saved runtime block.
    """
    if encoder == "ChangeNet" and not (encoder_path and encoder_config):
        raise InputError("encoder ChangeNet needs encoder_path (a checkpoint) and encoder_config (its spec)")
    folder = results_dir or timestamp_folder(target_parquet.absolute().parent / "mining_results")
    prepared = convert_pool(pool.absolute(), folder.absolute() / "pool.parquet", on_bad_image)
    found = find_neighbours(
        target_parquet,
        prepared.parquet,
        EncoderChoice(
            model=encoder,
            model_path=encoder_path,
            model_config_path=encoder_config,
            batch_size=batch_size,
        ),
        folder.absolute(),
        Search(topn=topn, knn_metric=knn_metric, filter_by_label=filter_by_label),
        output="mined.parquet",
        runtime=load_runtime(runtime),
    )
    count = pq.read_metadata(found.mined).num_rows
    ReportInputs.of(target_parquet, pool, prepared, loop=False).write(folder.absolute())
    report = write_report(folder)
    logger.info("%d of %d pool images mined; %s; report: %s", count, prepared.rows, found.mined, report)
    publish_file("mining report", report)
    return found.model_copy(update={"report": report})
