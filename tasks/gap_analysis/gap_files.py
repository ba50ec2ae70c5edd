"""Whether the images that a gaps parquet names are there (spec gap-analysis A.6)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.artifacts import existing_file
from tasks.errors import InputError

ALL_UP_TO = 5000
RANDOM_ROWS = 8


def check_gap_files(parquet: Path) -> None:
    """Check the files of the first, the last and 8 random rows; of all rows if there are 5000 or fewer.

    Raises:
        InputError: GAP-E07: some files do not exist; three are named, with a guess at the cause. Or the
            parquet is missing or has no column `filepath`.
    """
    existing_file(parquet, "gaps parquet")
    try:
        paths = pq.read_table(parquet, columns=["filepath"])["filepath"].to_pylist()
    except (pa.ArrowInvalid, KeyError) as error:
        raise InputError(f"gaps parquet {parquet} cannot be read: {' '.join(str(error).split())}") from error
    files = [Path(path) for path in _sample(paths)]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise InputError(
            f"GAP-E07: {len(missing)} of {len(files)} files looked for of {parquet} do not exist: "
            f"{', '.join(map(str, missing[:3]))}; {_guess(missing[0])}"
        )


def _sample(paths: list[str]) -> list[str]:
    if len(paths) <= ALL_UP_TO:
        return paths
    rows = np.random.default_rng(0).choice(len(paths), RANDOM_ROWS, replace=False)
    return [paths[0], paths[-1], *(paths[row] for row in rows)]


def _guess(file: Path) -> str:
    shorter = _without_repeat(file)
    if shorter is not None:
        return f"{shorter} exists: kpi_media_path is in input_path already; set kpi_media_path to empty"
    if file.parent.is_dir():
        there = sorted(entry.name for entry in file.parent.iterdir())[:3]
        return f"the folder exists and holds {', '.join(there) or 'nothing'}; check input_map and image_ext"
    if not file.is_absolute():
        return "the paths are relative; set kpi_media_path to the image root"
    known = next(parent for parent in file.parents if parent.is_dir())
    return f"only {known} exists; check that kpi_media_path is the image root, and that it is mounted"


def _without_repeat(file: Path) -> Path | None:
    """The existing file that is left when a sequence of folders standing there twice is dropped once."""
    parts = file.parts
    for start in range(len(parts)):
        for length in range(1, (len(parts) - start) // 2 + 1):
            second = start + length
            shorter = Path(*parts[:start], *parts[second:])
            if parts[start:second] == parts[second : second + length] and shorter.is_file():
                return shorter
    return None
