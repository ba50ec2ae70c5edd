"""The ChangeNet CSV: reading it, its labels, and the image files that its rows name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tasks.artifacts import existing_file
from tasks.errors import InputError, listed

MANDATORY = ("input_path", "golden_path", "label", "object_name")
PASS = "PASS"


def read_table(path: Path, required: Sequence[str] = MANDATORY, what: str = "CSV") -> pd.DataFrame:
    """Read a CSV with every column as text, so that digit-only names keep their zeros.

    UTF-8 with or without a byte-order mark; empty fields are empty strings.

    Raises:
        InputError: no such file, not a CSV, no rows, or required columns absent (all are named).
    """
    try:
        table = pd.read_csv(
            existing_file(path, what), dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{what} {path} cannot be read as CSV: {' '.join(str(error).split())}") from error
    missing = [column for column in required if column not in table.columns]
    if missing:
        raise InputError(
            f"{what} {path} lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}"
        )
    if table.empty:
        raise InputError(f"{what} {path} contains no rows")
    return table


def is_pass(labels: Iterable[str]) -> npt.NDArray[np.bool_]:
    """For every label whether it says PASS, case and outer blanks aside."""
    return np.fromiter((label.strip().upper() == PASS for label in labels), dtype=bool)


def normalised_label(label: str) -> str:
    """`PASS` exactly, or the defect's name stripped and lower-cased (spec deft-loop 1.2)."""
    stripped = label.strip()
    return PASS if stripped.upper() == PASS else stripped.lower()


@dataclass(frozen=True)
class Lighting:
    """The lightings of a data set in the order of `input_map`, and the image extension.

    An empty tuple of names means one image per sample without a lighting suffix.
    """

    names: tuple[str, ...]
    image_ext: str

    def file_names(self, object_name: str) -> list[str]:
        """One file name per lighting."""
        suffixes = [f"_{name}" if name else "" for name in self.names] or [""]
        return [f"{object_name}{suffix}{self.image_ext}" for suffix in suffixes]

    def files(self, root: Path, folder: str, object_name: str) -> list[Path]:
        """One path per lighting; an absolute `folder` replaces `root`."""
        return [root / folder / name for name in self.file_names(object_name)]


def lighting_of(train_yaml: Path) -> Lighting:
    """The lightings that a train YAML names in `dataset.classify.input_map` and `image_ext`.

    `input_map` is a mapping (key order counts, the values are never read) or a list; null or empty
    means one image per sample without a suffix.

    Raises:
        InputError: no such file, not YAML, or one of the two keys is absent or malformed (it is named).
    """
    text = existing_file(train_yaml, "train YAML").read_text(encoding="utf-8")
    try:
        tree = OmegaConf.create(yaml.safe_load(text) or {})
        section = OmegaConf.select(tree, "dataset.classify")
        if not isinstance(section, DictConfig):
            section = DictConfig({})
        absent = [key for key in ("input_map", "image_ext") if key not in section.keys()]  # noqa: SIM118
        if absent:
            raise InputError(
                f"train YAML {train_yaml} lacks {' and '.join(f'dataset.classify.{key}' for key in absent)}; "
                "add what is absent (input_map: null for one image per sample)"
            )
        lights, image_ext = section["input_map"], section["image_ext"]
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise InputError(f"train YAML {train_yaml} cannot be read: {' '.join(str(error).split())}") from error
    if lights is not None and not isinstance(lights, DictConfig | ListConfig):
        raise InputError(
            f"train YAML {train_yaml}: dataset.classify.input_map must map or list the lightings, "
            f"or be null; it is {lights!r}"
        )
    if not isinstance(image_ext, str) or not image_ext:
        raise InputError(
            f"train YAML {train_yaml}: dataset.classify.image_ext must be an extension such as .jpg; "
            f"it is {image_ext!r}"
        )
    return Lighting(tuple(str(light) for light in lights or ()), image_ext)


def row_files(table: pd.DataFrame, root: Path, lighting: Lighting, column: str) -> list[list[Path]]:
    """For every row the image files of `input_path` or `golden_path`, one per lighting."""
    return [
        lighting.files(root, folder, name)
        for folder, name in zip(table[column], table["object_name"], strict=True)
    ]


def missing_images(table: pd.DataFrame, root: Path, lighting: Lighting) -> list[str]:
    """Every image file of the table that does not exist, as `row N: path` (the header is row 1)."""
    return [
        f"row {number + 2}: {file}"
        for column in ("input_path", "golden_path")
        for number, files in enumerate(row_files(table, root, lighting, column))
        for file in files
        if not file.is_file()
    ]


def check_images(table: pd.DataFrame, root: Path, lighting: Lighting, what: str) -> None:
    """Check that every image of every row exists.

    Raises:
        InputError: some do not; says how many and names up to 20 with their row (header is row 1).
    """
    missing = missing_images(table, root, lighting)
    if missing:
        raise InputError(
            f"{what}: {len(missing)} images do not exist below {root}: {listed(missing)}; "
            f"check images_dir, input_map and image_ext"
        )


def check_classes(labels: Iterable[str], what: str) -> None:
    """Check that there are both PASS and defect rows.

    Raises:
        InputError: a label set with one class; training and the FAR need both.
    """
    passes = is_pass(labels)
    if passes.all() or not passes.any():
        kind = "PASS" if passes.all() else "defect"
        raise InputError(
            f"{what}: label set with one class: all {len(passes)} rows are {kind} rows; "
            "add rows of the other class (the column label holds PASS or a defect's name)"
        )
