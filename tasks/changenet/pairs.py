"""Pairs of test and golden images: which rows a data set has, and their pixels as tensors."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from tasks.changenet.data_spec import Data, DataSet
from tasks.changenet.spec import ChangeNetSpec
from tasks.dataset.table import PASS, check_images, is_pass, read_table, row_files
from tasks.errors import InputError, listed
from tasks.images import decoded

logger = logging.getLogger("deft")

CACHE_SHARE = 0.3
"""How much of the machine's memory the cache of one data set may take."""


@dataclass(frozen=True)
class Pairs:
    """The rows of one CSV.

    Attributes:
        table: every column of the CSV as text, in its row order.
        tests, goldens: for every row its image files, one per lighting.
        defect: for every row whether its label says something else than PASS.
        origin: the CSV, for messages.
    """

    table: pd.DataFrame
    tests: list[list[Path]]
    goldens: list[list[Path]]
    defect: npt.NDArray[np.bool_]
    origin: Path

    def __len__(self) -> int:
        return len(self.table)

    @property
    def files(self) -> list[Path]:
        """Every image file once, in the order of first use."""
        return list(dict.fromkeys(file for files in [*self.tests, *self.goldens] for file in files))


def read_pairs(spec: ChangeNetSpec, name: str) -> Pairs:
    """The rows of `dataset.classify.<name>` (such as `train_dataset`), every image file checked.

    Raises:
        InputError: the CSV or the image folder is not set or missing, columns or images are absent, or
            (strict mode only) the container would refuse or misread the rows.
    """
    data_set: DataSet = getattr(spec.data, name)
    origin, root = data_set.csv_path, data_set.images_dir
    if origin is None or root is None:
        key = "csv_path" if origin is None else "images_dir"
        raise InputError(f"dataset.classify.{name}.{key} is not set; give it for this action")
    table = read_table(origin, what=name)
    if spec.native.strict:
        _check_strictly(table, origin, spec.data)
    check_images(table, root, spec.data.lighting, f"{name} {origin}")
    return Pairs(
        table=table,
        tests=row_files(table, root, spec.data.lighting, "input_path"),
        goldens=row_files(table, root, spec.data.lighting, "golden_path"),
        defect=~is_pass(table["label"]),
        origin=origin,
    )


def _check_strictly(table: pd.DataFrame, origin: Path, data: Data) -> None:
    """What the container would refuse or misread, and this engine otherwise repairs."""
    absolute = [f"row {n + 2}" for n, path in enumerate(table["input_path"]) if Path(path).is_absolute()]
    if absolute:
        raise InputError(f"{origin}: absolute input_path in {listed(absolute)}; give it below images_dir")
    unclear = is_pass(table["label"]) & (table["label"] != PASS).to_numpy()
    if unclear.any():
        rows = [f"row {n + 2}" for n in np.flatnonzero(unclear)]
        raise InputError(f"{origin}: label must read exactly {PASS} in {listed(rows)}")
    if len(table) < data.batch_size:
        raise InputError(
            f"{origin}: {len(table)} rows are not enough data for dataset.classify.batch_size "
            f"{data.batch_size}; lower it"
        )


class PairImages:
    """The pixels of pairs: decoded and resized once when cached, else whenever a batch needs them."""

    def __init__(self, pairs: Pairs, data: Data, *, bicubic: bool = False, cache: bool = True) -> None:
        files = pairs.files
        number = {file: n for n, file in enumerate(files)}
        self._files = files
        self._of_row = torch.tensor(
            [
                [[number[file] for file in test], [number[file] for file in golden]]
                for test, golden in zip(pairs.tests, pairs.goldens, strict=True)
            ]
        )
        self._size = (data.image_width, data.image_height)
        self._resample = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
        fits = len(files) * 3 * data.image_width * data.image_height < _memory() * CACHE_SHARE
        if cache and not fits:
            logger.warning("%s: images do not fit into memory; each batch decodes its own", pairs.origin)
        self._cache = load_images(files, self._size, self._resample) if cache and fits else None

    def batch(self, rows: Tensor) -> Tensor:
        """uint8 [rows, 2 (test, golden), lightings, 3, height, width].

        Raises:
            InputError: an image cannot be decoded.
        """
        needed = self._of_row[rows]
        if self._cache is not None:
            return self._cache[needed]
        unique, places = np.unique(needed.numpy(), return_inverse=True)
        pixels = load_images([self._files[n] for n in unique], self._size, self._resample)
        return pixels[torch.from_numpy(places).reshape(needed.shape)]


def load_images(
    files: Sequence[Path], size: tuple[int, int], resample: Image.Resampling = Image.Resampling.BILINEAR
) -> Tensor:
    """Decode and resize to `size` (width, height): uint8 [files, 3, height, width].

    Raises:
        InputError: a file is not an image; names its path.
    """

    def load(file: Path) -> npt.NDArray[np.uint8]:
        image = decoded(file)
        return np.asarray(image if image.size == size else image.resize(size, resample))

    images = np.empty((len(files), size[1], size[0], 3), np.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for n, pixels in enumerate(pool.map(load, files)):
            images[n] = pixels
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _memory() -> int:
    """Bytes of physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def joined(images: Tensor, data: Data) -> Tensor:
    """Join lightings: [rows, 2, lightings, 3, h, w] to [rows, 2, 3, H, W] (spec changenet 3.3).

    `linear` stacks them below each other; `grid` puts x of them in each of y rows, from the first on.
    """
    rows, pair, lights, channels, height, width = images.shape
    if data.concat_type == "linear" or lights == 1:
        return images.transpose(2, 3).reshape(rows, pair, channels, lights * height, width)
    x, y = data.grid_map.x, data.grid_map.y
    cells = images[:, :, : x * y].reshape(rows, pair, y, x, channels, height, width)
    return cells.permute(0, 1, 4, 2, 5, 3, 6).reshape(rows, pair, channels, y * height, x * width)


def normalised(images: Tensor, mean: Iterable[float], std: Iterable[float]) -> Tensor:
    """Pixels in [0, 1], [..., 3, H, W], less the mean and over the standard deviation per channel."""
    shape = (3, 1, 1)
    offset = torch.tensor([*mean], device=images.device).view(shape)
    scale = torch.tensor([*std], device=images.device).view(shape)
    return (images - offset) / scale
