"""Reading what a mining left on disk."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from tasks.artifacts import existing_file, log_text, read_json
from tasks.embedding.sidecar import Sidecar
from tasks.errors import InputError
from tasks.mining.ledger import Selection
from tasks.mining.report.facts import (
    INPUTS,
    SEARCH,
    SIDES,
    LoopFacts,
    MiningFacts,
    ReportInputs,
    Side,
    compared,
)
from tasks.mining.summary import MiningSummary
from tasks.spec import explained
from tasks.taken_from import taken_from

NO_FILTER = re.compile(r"^.*filter_by_label.*label.*missing.*skipping.*$", re.IGNORECASE | re.MULTILINE)


def read_facts(folder: Path) -> MiningFacts:
    """Read the folder of a mining, and in the loop what lies in `mining_filter` of its iteration.

    Raises:
        InputError: the search has not ended there, or a file is not what it must be.
    """
    summary = _summary(folder)
    inputs = _inputs(folder)
    loop = _loop(folder, inputs)
    log = log_text(folder / f"{SEARCH}.log")
    spec, earlier = _origin(folder, SEARCH)
    if earlier:
        log += log_text(earlier / f"{SEARCH}.log")
    line = NO_FILTER.search(log)
    mined = (loop.folder if loop else folder) / "mined.parquet"
    paths = _column(mined, "filepath")
    used = _column(folder / "used_before.parquet", "filepath") or []
    pool, labels = _side(folder, "source", [*(paths or ()), *used])
    mined_labels, used_labels = labels[: len(labels) - len(used)], labels[len(labels) - len(used) :]
    return MiningFacts(
        folder=folder,
        inputs=inputs,
        summary=summary,
        targets=_side(folder, "target")[0],
        pool=pool,
        search_spec=spec,
        search_taken_from=earlier,
        filter_line=line.group().strip() if line else None,
        pairs=_pairs(folder / "mined_pairs.parquet"),
        mined_parquet=mined,
        mined=paths,
        mined_labels=mined_labels,
        used_before=Counter(used_labels),
        loop=loop,
    )


def _summary(folder: Path) -> MiningSummary:
    path = existing_file(folder / "mining_summary.json", "summary of a mining")
    try:
        return MiningSummary(**read_json(path))
    except TypeError as error:
        raise InputError(f"{path} is no summary of a mining: {error}") from error


def _inputs(folder: Path) -> ReportInputs | None:
    path = folder / INPUTS
    if not path.is_file():
        return None
    try:
        return ReportInputs.model_validate(read_json(path))
    except ValidationError as error:
        raise InputError(f"{path}: {explained(error)}") from error


def _loop(folder: Path, inputs: ReportInputs | None) -> LoopFacts | None:
    iteration = folder.absolute().parent.parent
    filtered = iteration / "mining_filter"
    history = filtered / "mining_history_summary.json"
    if not (inputs.loop if inputs else history.is_file()):
        return None
    try:
        selection = Selection.model_validate(read_json(history))
    except ValidationError as error:
        raise InputError(f"{history} is no selection summary: {explained(error)}") from error
    with existing_file(filtered / "knn_summary.csv", "counts of the floor").open(encoding="utf-8") as stream:
        floor = next(csv.DictReader(stream))
    rows = filtered / "mined_rows.csv"
    samples = len(pd.read_csv(rows, dtype=str)) if rows.is_file() else None
    return LoopFacts(
        label=iteration.name,
        folder=filtered,
        floor=float(floor["similarity_threshold"]) if floor["similarity_threshold"] else None,
        kept=int(floor["kept_count"]),
        rejected=int(floor["rejected_count"]),
        selection=selection,
        samples=samples if selection.selected_count else 0,
    )


def _side(folder: Path, side: str, wanted: Sequence[str] = ()) -> tuple[Side, list[str]]:
    """A side, and the labels of the wanted paths in it."""
    stem = SIDES[side]
    parquet = folder / f"{stem}.parquet"
    spec, earlier = _origin(folder, stem)
    if not parquet.is_file():
        return Side(parquet, None, [], None, None, spec, earlier), [""] * len(wanted)
    columns = pq.read_schema(parquet).names
    labels = None
    if "label" in columns:
        labels = [compared(label) for label in _column(parquet, "label") or ()]
    found = dict(zip(_column(parquet, "filepath") or (), labels, strict=True)) if labels and wanted else {}
    one = Side(
        parquet=parquet,
        rows=pq.read_metadata(parquet).num_rows,
        columns=columns,
        labels=labels,
        sidecar=Sidecar.of(parquet),
        spec=spec,
        taken_from=earlier,
    )
    return one, [found.get(path, "") for path in wanted]


def _origin(folder: Path, stem: str) -> tuple[Path | None, Path | None]:
    """The settings of a stage, and the folder that its files were taken from; a cached stage writes none."""
    found = taken_from(folder / f"{stem}.log")
    spec = (found.folder if found else folder) / f"{stem}_spec.yaml"
    return spec if spec.is_file() else None, found.folder if found else None


def _column(parquet: Path, name: str) -> list[Any] | None:
    if not parquet.is_file():
        return None
    return list(pq.read_table(parquet, columns=[name])[name].cast(pa.string()).to_pylist())


def _pairs(parquet: Path) -> pd.DataFrame | None:
    if not parquet.is_file():
        return None
    columns = ["target_filepath", "target_label", "source_filepath", "similarity", "distance", "rank"]
    pairs: pd.DataFrame = pq.read_table(parquet, columns=columns).to_pandas()
    return pairs
