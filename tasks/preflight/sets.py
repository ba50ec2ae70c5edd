"""The data sets of a task as the checks see them, whatever their layout."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks.artifacts import sha256_of
from tasks.errors import InputError
from tasks.preflight.subject import Outcome

TRAINING = "training set"
VALIDATION = "validation set"
KPI = "KPI set"
POOL = "mining pool"
PAIRS = "pregenerated pairs"
BASE_SPEC = "base spec"
WILL_FETCH = "will fetch from the hub"
SPLITS = (TRAINING, VALIDATION, KPI)


@dataclass(frozen=True)
class Leak:
    """Rows of a left set that show images of a right one: how many, and some of them in words."""

    left: str
    right: str
    rows: int
    samples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asset:
    """A file or folder that a phase needs beside the data, and whether it is there."""

    name: str
    where: str
    outcome: Outcome
    status: str


@dataclass(frozen=True)
class Model:
    """What the base spec says of the model and its training.

    Attributes:
        name: of the backbone.
        image_size: height and width in pixels of one decoded image.
        images_per_row: files of one row, goldens and lightings counted.
        rows: other facts for the table.
    """

    name: str
    num_epochs: int
    batch_size: int
    workers: int
    image_size: tuple[int, int]
    images_per_row: int
    rows: tuple[tuple[str, str], ...] = ()


class DataSets(Protocol):
    """The sets of one workspace; everything is read when it is asked for, and read once.

    Attributes:
        refuses_pool_leaks: the loop does not begin while the pool shares images with validation or KPI set;
            else it stops when one of them becomes a training row.
    """

    refuses_pool_leaks: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The sets that the workspace has; raises `InputError` when it cannot be opened."""
        ...

    def labels(self, name: str) -> list[str]:
        """The label of every row of a set; raises `DeftError` when it cannot be read."""
        ...

    def repaired(self, name: str) -> int:
        """The rows of a set whose label is read otherwise than it is written."""
        ...

    @property
    def files(self) -> dict[str, Path]:
        """The file or folder of every set and the base spec: what an approval covers by content."""
        ...

    def images(self, name: str) -> list[Path]:
        """Every image file of a set, in the order of its rows; raises `DeftError` as `labels` does."""
        ...

    @property
    def model(self) -> Model:
        """What the base spec says; raises `InputError` when it is not one of this task."""
        ...

    def missing(self, name: str) -> list[str]:
        """The images of a set that do not exist, each with its row."""
        ...

    def class_problem(self, name: str) -> str:
        """What is wrong with the classes of a set, in one line; empty when nothing is."""
        ...

    def pool_problem(self) -> tuple[Outcome, str]:
        """Whether the pool (and finished pairs, where there are some) can be used, and a line on it."""
        ...

    def leak(self, left: str, right: str) -> Leak:
        """The rows of one set that are in the other."""
        ...

    def places(self) -> dict[str, Path]:
        """Every path that a run reads or writes below, by name."""
        ...

    def backbone(self, *, offline: bool, in_image: bool) -> Asset:
        """The weights that a new model starts from."""
        ...

    def assets(self, *, offline: bool, in_image: bool) -> list[Asset]:
        """What the loop needs beside data and backbone: generator and encoder."""
        ...


def content_digest(path: Path) -> str:
    """The SHA-256 of a file, or of a folder: the names and contents of all that lies in it.

    Raises:
        InputError: there is neither.
    """
    if path.is_file():
        return sha256_of(path)
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder; it was there when the preflight looked")
    lines = (
        f"{file.relative_to(path)} {sha256_of(file)}" for file in sorted(path.rglob("*")) if file.is_file()
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def first_few(items: Sequence[str], most: int = 5) -> tuple[str, ...]:
    """The beginning of a long list."""
    return tuple(items[:most])


def weights(name: str, given: str, *, offline: bool, hub: bool = True) -> Asset:
    """Weights given as a local path or, where `hub` allows it, as a hub id: FOUND, will fetch, or MISSING."""
    local = Path(given).expanduser()
    if local.exists():
        return Asset(name, given, "ok", "FOUND")
    is_hub_id = given.count("/") == 1 and not local.is_absolute() and not given.startswith((".", "~"))
    if not (hub and is_hub_id):
        return Asset(name, given, "block", "MISSING")
    if _in_hub_cache(given):
        return Asset(name, given, "ok", "FOUND in the hub's cache")
    return (
        Asset(name, given, "block", "MISSING (offline)") if offline else Asset(name, given, "ok", WILL_FETCH)
    )


def _in_hub_cache(hub_id: str) -> bool:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ModuleNotFoundError:
        return False
    return isinstance(try_to_load_from_cache(hub_id, "config.json"), str)
