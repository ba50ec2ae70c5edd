"""The rows of a data set: which images, with which labels, and their pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from tasks.artifacts import existing_file
from tasks.classifier.spec import ClassifierSpec, DataSetName
from tasks.errors import InputError, listed
from tasks.images import decoded, unreadable

COLUMNS = ("filepath", "label")


@dataclass(frozen=True)
class Rows:
    """Rows of a CSV, in order.

    Attributes:
        origin: the CSV.
        filepaths: as the CSV spells them.
        files: where the images lie.
        labels: of each row.
    """

    origin: Path
    filepaths: list[str]
    files: list[Path]
    labels: list[str]

    def __len__(self) -> int:
        return len(self.files)

    def classes(self) -> list[str]:
        """The labels that occur, sorted."""
        return sorted(set(self.labels))

    def numbers(self, classes: Sequence[str]) -> npt.NDArray[np.int64]:
        """The place of each row's label in `classes`; raises `InputError` for labels not among them."""
        unknown = [label for label in self.classes() if label not in classes]
        if unknown:
            raise InputError(
                f"{self.origin} has the labels {listed(unknown)}, which the model does not know; "
                f"it knows: {listed(classes)}"
            )
        place = {label: number for number, label in enumerate(classes)}
        return np.array([place[label] for label in self.labels], np.int64)


def read_rows(csv: Path, images_dir: Path | None = None) -> Rows:
    """The rows of a CSV with `filepath` and `label`; other columns are left alone.

    Raises:
        InputError: no such file, no rows, a column missing, an empty field, a path given twice, or a
            relative path without `images_dir`.
    """
    try:
        table = pd.read_csv(existing_file(csv, "data set"), dtype=str, keep_default_na=False)
    except ValueError as error:
        raise InputError(f"{csv} is not a CSV: {' '.join(str(error).split())}") from error
    absent = [name for name in COLUMNS if name not in table.columns]
    if absent or table.empty:
        raise InputError(f"{csv} needs the columns filepath and label, and at least one row")
    empty = np.flatnonzero((table[list(COLUMNS)].apply(lambda column: column.str.strip()) == "").any(axis=1))
    if len(empty):
        raise InputError(f"{csv}: filepath or label is empty in the lines {listed((empty + 2).tolist())}")
    twice = table["filepath"][table["filepath"].duplicated()].tolist()
    if twice:
        raise InputError(f"{csv} has the same image more than once: {listed(twice)}; keep one row of each")
    paths = table["filepath"].tolist()
    if images_dir is None and not all(Path(path).is_absolute() for path in paths):
        raise InputError(f"{csv} has relative paths; say in images_dir of the data set where they start")
    return Rows(csv, paths, [(images_dir or Path()) / path for path in paths], table["label"].tolist())


def rows_of(spec: ClassifierSpec, name: DataSetName) -> Rows:
    """The rows of a data set of the spec; raises `InputError` when it is not set, or as `read_rows`."""
    data_set = getattr(spec.dataset, name)
    if data_set.csv_path is None:
        raise InputError(f"dataset.{name}.csv_path is not set; give a CSV with filepath and label")
    return read_rows(data_set.csv_path, data_set.images_dir)


def image_files(spec: ClassifierSpec, *names: DataSetName) -> Iterator[Path]:
    """The images of data sets; raises as `rows_of`."""
    for name in names:
        yield from rows_of(spec, name).files


def pixels_of(rows: Rows, side: int) -> npt.NDArray[np.uint8]:
    """The images as [rows, 3, side, side].

    Raises:
        InputError: images are missing or cannot be decoded; up to 20 are named.
    """
    pixels = np.empty((len(rows), 3, side, side), np.uint8)
    try:
        for row, file in enumerate(rows.files):
            image = decoded(file).resize((side, side), Image.Resampling.BILINEAR)
            pixels[row] = np.asarray(image).transpose(2, 0, 1)
    except InputError as error:
        bad = unreadable(rows.files)
        raise InputError(f"{rows.origin}: {len(bad)} images cannot be read: {listed(bad)}") from error
    return pixels
