"""Writing a new workspace: all of it or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tasks.artifacts import write_csv, write_yaml
from tasks.dataset.table import MANDATORY
from tasks.dataset.workspace import BASELINE_SPEC
from tasks.errors import InputError

Row = Mapping[str, str]

QUALITY = 95


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a neighbour of `folder` to fill; it takes the folder's name when all went well.

    Raises:
        InputError: the folder exists and holds something.
    """
    folder = folder.expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not an empty folder; choose another folder or remove it")
    filling = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        filling.mkdir(parents=True)
        yield filling
        filling.replace(folder)
    finally:
        shutil.rmtree(filling, ignore_errors=True)


def save_image(file: Path, pixels: npt.NDArray[np.uint8]) -> None:
    """Write RGB [h, w, 3] or grey [h, w] pixels; the extension chooses the format."""
    Image.fromarray(pixels).save(file, quality=QUALITY)


def write_sets(root: Path, sets: Mapping[str, Sequence[Row]], spec: Mapping[str, Any]) -> None:
    """Write the CSVs of a workspace, by their path in it, and its baseline spec."""
    for name, rows in sets.items():
        columns = [*MANDATORY, *(key for key in rows[0] if key not in MANDATORY)]
        write_csv(root / name, columns, rows)
    write_yaml(root / BASELINE_SPEC, dict(spec))
