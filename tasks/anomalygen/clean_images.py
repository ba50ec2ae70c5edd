"""The clean pictures to paint on: where they come from, which may be used, and in what order."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.anomalygen.dataset_folder import DatasetFolder, files_of, open_dataset
from tasks.anomalygen.spec import GenerateSpec
from tasks.artifacts import sha256_of
from tasks.dataset.leakage import thumbnail
from tasks.dataset.table import MANDATORY, Lighting, is_pass, lighting_of, read_table, row_files
from tasks.errors import InputError, listed
from tasks.mining.floor import fair_order

logger = logging.getLogger("deft")

ONE_PICTURE = Lighting((), ".png")


@dataclass(frozen=True)
class CleanPicture:
    """One scene without a defect.

    Attributes:
        name: its path below the image root, for records.
        files: the pictures to paint on, one a lighting.
        originals: the OK pictures of the pair, one a lighting; `files` themselves or golden crops.
        mask: its CAD mask, if it has one.
    """

    name: str
    files: tuple[Path, ...]
    originals: tuple[Path, ...]
    mask: Path | None = None


@dataclass(frozen=True)
class CleanSource:
    """What a spec's `dataset_dir` or `clean_csv` gives; raises `InputError` when that is not usable."""

    spec: GenerateSpec

    @cached_property
    def dataset(self) -> DatasetFolder | None:
        """The checked data set folder, None when the pictures come from CSVs."""
        return open_dataset(self.spec.dataset_dir, self.spec.project) if self.spec.dataset_dir else None

    @cached_property
    def table(self) -> pd.DataFrame:
        """The rows of all CSVs."""
        tables = [read_table(file, what="clean_csv")[list(MANDATORY)] for file in self.spec.clean_csv]
        return pd.concat(tables, ignore_index=True)

    @cached_property
    def lighting(self) -> Lighting:
        """The lightings of a picture."""
        return lighting_of(self.spec.train_yaml) if self.spec.train_yaml and not self.dataset else ONE_PICTURE

    @property
    def texture(self) -> str:
        """The part of a defect id before `+`."""
        return self.dataset.texture if self.dataset else self.spec.project

    @property
    def labels(self) -> list[str]:
        """The labels that the data set knows."""
        return list(self.dataset.anomalies) if self.dataset else self.table["label"].tolist()

    @cached_property
    def pictures(self) -> list[CleanPicture]:
        """Every clean picture, each once.

        Raises:
            InputError: files do not exist, or there is no picture to paint on.
        """
        pictures = self._of_dataset(self.dataset) if self.dataset else self._of_table
        if not pictures:
            raise InputError(
                f"clean_csv {listed(self.spec.clean_csv)}: no row to paint on; "
                "a row needs a golden_path, and the label PASS with paint_on=pass_sample"
            )
        files = (file for picture in pictures for file in (*picture.files, *picture.originals))
        missing = [file for file in dict.fromkeys(files) if not file.is_file()]
        if missing:
            raise InputError(
                f"{len(missing)} clean pictures do not exist: {listed(missing)}; "
                "check images_dir, and input_map and image_ext of train_yaml"
            )
        return pictures

    @cached_property
    def kept_out(self) -> list[Path]:
        """The test crops that nothing may be painted on, every lighting."""
        root = self.spec.images_dir or Path()
        tables = [read_table(file, what="keep_out") for file in self.spec.keep_out]
        rows = [row_files(table, root, self.lighting, "input_path") for table in tables]
        return [file for table in rows for files in table for file in files]

    def files(self) -> list[Path]:
        """Every file that decides what the clean pictures are and show."""
        if self.spec.dataset_dir:
            return files_of(self.spec.dataset_dir)
        shown = (file for picture in self._of_table for file in (*picture.files, *picture.originals))
        return [*self.spec.clean_csv, *dict.fromkeys(shown), *self.spec.keep_out, *self.kept_out]

    def _of_dataset(self, dataset: DatasetFolder) -> list[CleanPicture]:
        return [
            CleanPicture(str(file.relative_to(self.spec.dataset_dir or "")), (file,), (file,), mask)
            for file, mask in zip(dataset.clean, dataset.masks, strict=True)
        ]

    @cached_property
    def _of_table(self) -> list[CleanPicture]:
        rows = self.table[self.table["golden_path"].str.strip() != ""]  # PASS rows of a pool may have none
        painted_on = "golden_path"
        if self.spec.paint_on == "pass_sample":
            rows = rows[is_pass(rows["label"])]
            painted_on = "input_path"
        pictures: dict[Path, CleanPicture] = {}
        for folder, golden, name in zip(
            rows[painted_on], rows["golden_path"], rows["object_name"], strict=True
        ):
            picture = self._picture(folder, golden, name)
            pictures.setdefault(picture.files[0].resolve(), picture)
        return list(pictures.values())

    def _picture(self, folder: str, golden: str, name: str) -> CleanPicture:
        root = self.spec.images_dir
        assert root is not None
        files, originals = (tuple(self.lighting.files(root, path, name)) for path in (folder, golden))
        inside = files[0].is_relative_to(root)
        return CleanPicture(str(files[0].relative_to(root) if inside else files[0]), files, originals)


def usable(pictures: Sequence[CleanPicture], measured: Sequence[Path]) -> list[CleanPicture]:
    """The pictures that are none of `measured`, by path or by content.

    Those are the weak samples' own, which come from the KPI set, and others of validation and KPI set:
    what is trained on must not show them.

    Raises:
        InputError: none is left.
    """
    paths = {file.resolve() for file in measured}
    contents = {sha256_of(file) for file in measured if file.is_file()}
    absent = sum(not file.is_file() for file in measured)
    if absent:
        logger.warning("%d measured pictures do not exist; only their paths are compared", absent)
    kept = [
        picture
        for picture in pictures
        if not any(
            file.resolve() in paths or sha256_of(file) in contents
            for file in dict.fromkeys((*picture.files, *picture.originals))
        )
    ]
    if len(kept) < len(pictures):
        logger.warning(
            "%d of %d clean pictures are measured ones and are not used",
            len(pictures) - len(kept),
            len(pictures),
        )
    if not kept:
        raise InputError(
            f"all {len(pictures)} clean pictures are measured ones; "
            "give clean pictures that are not in the KPI set"
        )
    return kept


def random_order(count: int, seed: int) -> list[int]:
    """A random order of `count` pictures."""
    return [int(number) for number in np.random.default_rng([seed]).permutation(count)]


def order_of_likeness(clean: Sequence[Path], weak: Sequence[Path], weak_labels: Sequence[str]) -> list[int]:
    """The order in which clean pictures are used so that those like the weak samples come first.

    Likeness is the cosine of 16 x 16 grey thumbnails, each less its mean. The weakest sample of every
    label comes first, then the second of every label; in each round a weak sample gives the most alike
    clean picture that it has left.

    Raises:
        InputError: a weak sample's picture does not exist, or a picture cannot be decoded.
    """
    missing = [file for file in weak if not file.is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} pictures of weak samples do not exist: {listed(missing)}; "
            "check gaps_parquet, or give similar_to_weak=false"
        )
    similarity = _looks(clean) @ _looks([weak[row] for row in fair_rows(weak_labels)]).T
    order = fair_order(similarity.argmax(axis=1), similarity.max(axis=1))
    return [int(number) for number in order]


def fair_rows(labels: Sequence[str]) -> list[int]:
    """Row numbers in rounds over the labels; rows of one label keep their order."""
    seen: Counter[str] = Counter()
    ranks = []
    for label in labels:
        ranks.append(seen[label])
        seen[label] += 1
    return sorted(range(len(labels)), key=ranks.__getitem__)


def _looks(files: Sequence[Path]) -> npt.NDArray[np.float64]:
    """Unit vectors [n, 256]; of a picture of one grey, 0."""
    looks = np.stack([thumbnail(file) for file in files]).astype(np.float64)
    looks -= looks.mean(axis=1, keepdims=True)
    length = np.linalg.norm(looks, axis=1, keepdims=True)
    result: npt.NDArray[np.float64] = looks / np.where(length > 0, length, 1)
    return result
