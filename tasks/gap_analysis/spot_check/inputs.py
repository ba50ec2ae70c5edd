"""What an rca folder itself does not hold: scores of all rows, golden pictures, and embeddings."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from tasks.artifacts import read_json
from tasks.dataset.table import read_table
from tasks.errors import InputError
from tasks.gap_analysis.spot_check.rules import Embeddings
from tasks.gap_analysis.vcn_files import METRICS

logger = logging.getLogger("deft")

COLUMNS = ("input_path", "object_name", "siamese_score")


def scored_rows(folder: Path) -> pd.DataFrame | None:
    """The inference CSV that `metrics.json` names, scores as numbers; None, with a warning, if it is gone."""
    try:
        facts = read_json(folder / METRICS)
        table = read_table(Path(facts["inputs"]["inference_csv"]["path"]), COLUMNS, "inference CSV")
        return table.assign(siamese_score=pd.to_numeric(table["siamese_score"]))
    except (InputError, KeyError, TypeError, ValueError) as error:
        logger.warning("spot check: the scores of all rows and the golden pictures are not known: %s", error)
        return None


def golden_files(chosen: pd.DataFrame, scored: pd.DataFrame | None) -> dict[str, Path]:
    """The golden picture of the same lighting for every sample that has one, by the sample's first file."""
    if scored is None or "golden_path" not in scored.columns:
        return {}
    folders = dict(
        zip(zip(scored["input_path"], scored["object_name"], strict=True), scored["golden_path"], strict=True)
    )
    found = {}
    for row in chosen.to_dict("records"):
        file, folder = Path(row["first_filepath"]), folders.get((row["input_path"], row["object_name"]))
        golden = _root(file.parent, row["input_path"]) / folder / file.name if folder else None
        if golden is not None and golden.is_file():
            found[row["first_filepath"]] = golden
    return found


def _root(folder: Path, input_path: str) -> Path:
    """The image root: `folder` without the `input_path` at its end."""
    parts = Path(input_path).parts
    return folder.parents[len(parts) - 1] if parts else folder


def embeddings_beside(folder: Path) -> Embeddings | None:
    """The embeddings of the latest mining in the run that an rca folder belongs to, if there was one.

    `folder` is `<run>/<phase>/rca_results/<clock>`; mining leaves `<run>/<phase>/mining_results/<clock>`.
    """
    if folder.parent.name != "rca_results":
        return None
    names = ("target_embeddings.parquet", "source_embeddings.parquet")
    places = folder.parents[2].glob("*/mining_results/*")
    whole = [place for place in places if all((place / name).is_file() for name in names)]
    if not whole:
        return None
    latest = max(whole, key=lambda place: place.name)
    return Embeddings(*(latest / name for name in names))
