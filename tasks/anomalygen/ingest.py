"""`anomalygen ingest`: generated pairs become training rows."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks.anomalygen.pairs import GUARDRAIL, SIDES, Ingestion, Pair
from tasks.anomalygen.spec import IngestSpec
from tasks.anomalygen.tree import GeneratedTree
from tasks.artifacts import write_csv, write_json
from tasks.dataset.building import save_image
from tasks.dataset.table import MANDATORY, lighting_of, read_table, row_files
from tasks.images import decoded

logger = logging.getLogger("deft")

ORIGIN = "sdg"
METADATA = (
    "project",
    "boardname",
    "comp_type_2",
    "mpass_mfail",
    "is_valid",
    "comp_name",
    "part_type",
    "number_of_pins",
    "description",
    "comp_type_1",
)
"""The columns that make the mandatory four the 14-column production form; empty here."""
COLUMNS = (*MANDATORY, *METADATA, "origin")
JPEG = frozenset({".jpg", ".jpeg"})
MOST_EXAMPLES = 5


def ingest(spec: IngestSpec) -> None:
    """Write the pictures of the admitted pairs, the rows and the summary.

    Raises:
        InputError: a file is missing or not what it must be.
        StageFailed: the tree does not hold what it promises. Nothing is written in both cases.
    """
    ingestion = Ingestion(spec)
    ingestion.check_allocation()
    admitted = ingestion.admitted
    if len(ingestion.lighting.names) > 1 and not (ingestion.tree.sdg / "lighting").is_dir():
        logger.warning(
            "%s has one picture a sample; it stands for all %d lightings",
            ingestion.tree.sdg,
            len(ingestion.lighting.names),
        )
    files = outputs_of_tables(spec)
    converted = _save_pictures(ingestion, stale=list(files.values()))
    rows = {pair.name: _row(ingestion, pair) for pair in ingestion.pairs}
    raw = [{**rows[pair.name], GUARDRAIL: int(pair.passed)} for pair in ingestion.pairs]
    write_csv(files["sdg_rows.raw.csv"], [*COLUMNS, GUARDRAIL], raw)
    write_csv(files["sdg_rows.csv"], COLUMNS, [rows[pair.name] for pair in admitted])
    write_json(files["ingest_summary.json"], _summary(ingestion, converted))
    logger.info("%d pairs are training rows, %d were blocked", len(admitted), len(rows) - len(admitted))


def _save_pictures(ingestion: Ingestion, stale: Sequence[Path]) -> int:
    """Put both folders in place; gives how many pictures had to be converted to JPEG.

    `stale`, the tables of an earlier run, go before its pictures do: rows never lack their pictures.
    """
    places = {side: ingestion.folder(side) for _, side in SIDES}
    new = {side: folder.with_name(f".{folder.name}.tmp") for side, folder in places.items()}
    for folder in new.values():
        shutil.rmtree(folder, ignore_errors=True)  # a run was killed here
    try:
        converted = sum(
            _save_side(ingestion, pair, side, folder)
            for side, folder in new.items()
            for pair in ingestion.admitted
        )
        for file in stale:
            file.unlink(missing_ok=True)
        for side, folder in places.items():
            shutil.rmtree(folder, ignore_errors=True)
            new[side].replace(folder)
    finally:
        for folder in new.values():
            shutil.rmtree(folder, ignore_errors=True)
    return converted


def _save_side(ingestion: Ingestion, pair: Pair, side: str, folder: Path) -> int:
    """Save a picture under each lighting; gives how many had to be converted to JPEG."""
    converted = 0
    folder.mkdir(parents=True, exist_ok=True)
    names = ingestion.lighting.file_names(pair.object_name)
    for source, name in zip(ingestion.sources[side, pair.name], names, strict=True):
        picture, target = decoded(source), folder / name
        kinds = {source.suffix.lower(), target.suffix.lower()}
        if len(kinds) == 1 or kinds <= JPEG:
            shutil.copyfile(source, target)  # JPEG is not encoded twice
        else:
            save_image(target, np.asarray(picture))
            converted += target.suffix.lower() in JPEG
    return converted


def _row(ingestion: Ingestion, pair: Pair) -> dict[str, str]:
    workspace = ingestion.spec.workspace
    ng, ok = (
        folder.relative_to(workspace).as_posix() if folder.is_relative_to(workspace) else str(folder)
        for folder in (ingestion.folder("ng"), ingestion.folder("ok"))
    )
    return {
        "input_path": ng,
        "golden_path": ok,
        "label": pair.label,
        "object_name": pair.object_name,
        "origin": ORIGIN,
    }


def _summary(ingestion: Ingestion, converted: int) -> dict[str, object]:
    admitted = ingestion.admitted
    return {
        "input_count": len(ingestion.pairs),
        "paired_count": len(ingestion.pairs),
        "skipped_unpaired_count": 0,  # an unpaired sample is an error
        "examples": [pair.object_name for pair in admitted[:MOST_EXAMPLES]],
        "converted_to_jpg_count": converted,
        "labels": dict(sorted(Counter(pair.label for pair in admitted).items())),
        "guardrail_blocked": len(ingestion.pairs) - len(admitted),
    }


def files_read(spec: IngestSpec) -> list[Path]:
    """Every file of the tree, and the request if it is a file."""
    tree = GeneratedTree(spec.sdg_dir)
    request = [Path(spec.requested).expanduser()] if isinstance(spec.requested, str) else []
    pictures = sorted(file for file in tree.sdg.rglob("*") if file.is_file())
    return [tree.result_csv, tree.allocation, tree.request, *request, *pictures]


def outputs_of_tables(spec: IngestSpec) -> dict[str, Path]:
    """The rows and the summary, by file name."""
    return {
        name: spec.results_dir / name for name in ("sdg_rows.raw.csv", "sdg_rows.csv", "ingest_summary.json")
    }


def outputs(spec: IngestSpec) -> dict[str, Path]:
    """What a finished run has left: the tables, and the pictures of its rows."""
    tables = outputs_of_tables(spec)
    if not tables["sdg_rows.csv"].is_file():
        return tables
    rows, lighting = read_table(tables["sdg_rows.csv"]), lighting_of(spec.train_yaml)
    sides = (row_files(rows, spec.workspace, lighting, column) for column in ("input_path", "golden_path"))
    pictures = (file for side in sides for files in side for file in files)
    return tables | {f"{file.parent.name}/{file.name}": file for file in pictures}
