"""`routing route`: which weak samples go to mining, which to generation."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import pyarrow as pa

from tasks.action import ActionCode
from tasks.artifacts import read_json, write_json, write_parquet, write_text
from tasks.embedding.tables import read_parquet
from tasks.errors import InputError, StageFailed
from tasks.mining.pool import read_pool
from tasks.routing.eligibility import Routing, compared, route, routing_text
from tasks.routing.headline import headline
from tasks.spec import OptionalReadPath, ReadPath, SpecModel, WritePath

logger = logging.getLogger("deft")


class RoutingSpec(SpecModel):
    """What to route.

    Attributes:
        gaps_parquet: the weak samples of gap analysis.
        pool: the mining pool, CSV or parquet with `label`; unset = nothing can be mined.
        supported_defects: labels that the generator can make; PASS = as the image to paint defects on.
        metrics_json: of the gap analysis; refused when it says that the queue is not usable.
        results_dir: where the results go.
    """

    gaps_parquet: ReadPath
    pool: OptionalReadPath = None
    supported_defects: tuple[str, ...] = ("PASS", "EXCESS_SOLDER", "MISSING", "BRIDGE")
    metrics_json: OptionalReadPath = None
    results_dir: WritePath


def outputs(spec: RoutingSpec) -> dict[str, Path]:
    """The files of a finished run."""
    return {
        "mining_gaps": spec.results_dir / "mining_gaps.parquet",
        "anomalygen_gaps": spec.results_dir / "anomalygen_gaps.parquet",
        "routing_summary.txt": spec.results_dir / "routing_summary.txt",
        "routing.json": spec.results_dir / "routing.json",
    }


def run(spec: RoutingSpec) -> None:
    """Split the weak samples; both parquets are always written, with the schema of the input.

    Raises:
        InputError: gaps, pool or metrics are not what they must be.
        StageFailed: no sample can go anywhere; everything is written before.
    """
    if spec.metrics_json and read_json(spec.metrics_json).get("queue_usable") is False:
        raise InputError(
            f"{spec.metrics_json} says queue_usable=false: this gap analysis ran in filter mode; "
            "run it again with a positive top_k_per_label"
        )
    gaps = _gaps(spec.gaps_parquet)
    labels = [str(label) for label in gaps["label"].to_pylist()]
    pool = [row["label"] for row in read_pool(spec.pool, ["label"])] if spec.pool else None
    if not spec.pool:
        logger.warning("no pool: no weak sample goes to mining")
    _log_aliases([*labels, *(pool or []), *spec.supported_defects])
    routing = route(labels, pool, spec.supported_defects)

    paths = outputs(spec)
    write_parquet(paths["mining_gaps"], gaps.filter(pa.array(routing.to_mining, pa.bool_())))
    write_parquet(paths["anomalygen_gaps"], gaps.filter(pa.array(routing.to_generation, pa.bool_())))
    text = routing_text(routing, str(paths["mining_gaps"]), str(paths["anomalygen_gaps"]))
    write_text(paths["routing_summary.txt"], text)
    write_json(paths["routing.json"], _facts(routing, spec, paths, pool))
    logger.info(text.rstrip())
    if not (any(routing.to_mining) or any(routing.to_generation)):
        raise StageFailed(
            f"{spec.gaps_parquet}: none of its {len(labels)} weak samples can be mined or generated; "
            "add images with their labels to the pool, or a generator that supports them"
        )


def _gaps(path: Path) -> pa.Table:
    gaps = read_parquet(path, "gaps_parquet", required=("filepath", "label"), may_be_empty=True)
    nameless = gaps["label"].null_count
    if nameless:
        raise InputError(f"gaps_parquet {path}: {nameless} rows have no label; fill or remove them")
    return gaps


def _log_aliases(labels: list[str]) -> None:
    for label in dict.fromkeys(labels):
        if compared(label) != label.strip().upper():
            logger.info("label %r is compared as %s", label, compared(label))


def _facts(
    routing: Routing, spec: RoutingSpec, paths: dict[str, Path], pool: list[str] | None
) -> dict[str, object]:
    return {
        "total": len(routing.to_mining),
        "to_mining": sum(routing.to_mining),
        "to_generation": sum(routing.to_generation),
        "to_both": sum(a and b for a, b in zip(routing.to_mining, routing.to_generation, strict=True)),
        "dropped": sum(item.count for item in routing.labels if not (item.mining or item.generation)),
        "gaps_parquet": spec.gaps_parquet,
        "pool": spec.pool,
        "pool_labels": None if pool is None else dict(Counter(map(compared, pool)).most_common()),
        "supported_defects": list(spec.supported_defects),
        "mining_gaps": paths["mining_gaps"],
        "anomalygen_gaps": paths["anomalygen_gaps"],
        "labels": [item.facts() for item in routing.labels],
        "dropped_labels": [item.label for item in routing.labels if not (item.mining or item.generation)],
    }


ROUTE = ActionCode(
    spec=RoutingSpec,
    run=run,
    folder=lambda spec: spec.results_dir,
    outputs=outputs,
    headline=lambda spec: headline(outputs(spec)["routing.json"]),
)
