"""The workspace: the folder that holds a product's images, data sets and baseline spec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tasks.dataset.leakage import ImageSet, check_disjoint
from tasks.dataset.table import Lighting, check_classes, check_images, lighting_of, read_table
from tasks.errors import InputError

IMAGE_ROOTS = ("images", "kpi/images")
"""Where the images may lie in a workspace: the canonical place, then the older one."""

BASELINE_SPEC = "specs/baseline_spec.yaml"
TRAINING_CSV = "train/base/training_set.csv"
VALIDATION_CSV = "train/base/validation_set.csv"
KPI_CSV = "kpi/testing_set.csv"
POOL_CSV = "augmentation/mining_pool/mining_pool.csv"


@dataclass(frozen=True)
class Workspace:
    """The paths of a workspace whose files have been found.

    Attributes:
        root: the workspace folder, absolute.
        images_dir: the image root with symbolic links followed; image paths of the CSVs start there.
        lighting: the lightings and image extension of the baseline spec.
        pool_csv: the mining pool; None when the workspace has none.
    """

    root: Path
    images_dir: Path
    lighting: Lighting
    pool_csv: Path | None

    @property
    def baseline_spec(self) -> Path:
        """The ChangeNet spec: architecture, lightings, image size, epochs."""
        return self.root / BASELINE_SPEC

    @property
    def training_csv(self) -> Path:
        """The base training rows."""
        return self.root / TRAINING_CSV

    @property
    def validation_csv(self) -> Path:
        """The held-out rows that choose the checkpoint."""
        return self.root / VALIDATION_CSV

    @property
    def kpi_csv(self) -> Path:
        """The rows that only the evaluation touches."""
        return self.root / KPI_CSV

    @property
    def results(self) -> Path:
        """Where runs leave their folders."""
        return self.root / "results"


def open_workspace(path: Path) -> Workspace:
    """Find the files of a workspace (spec deft-loop 1.1).

    Raises:
        InputError: no such folder, no images, mandatory files missing (all are named), or a baseline
            spec without lightings.
    """
    root = path.expanduser().absolute()
    if not root.is_dir():
        raise InputError(f"workspace {root}: no such folder; give the folder that holds images/ and train/")
    mandatory = (BASELINE_SPEC, TRAINING_CSV, VALIDATION_CSV, KPI_CSV)
    missing = [name for name in mandatory if not (root / name).is_file()]
    if missing:
        raise InputError(f"workspace {root} lacks {', '.join(missing)}; put the files there")
    pool_csv = root / POOL_CSV
    return Workspace(
        root=root,
        images_dir=(root / _image_root(root)).resolve(),
        lighting=lighting_of(root / BASELINE_SPEC),
        pool_csv=pool_csv if pool_csv.is_file() else None,
    )


def _image_root(root: Path) -> str:
    for name in IMAGE_ROOTS:
        folder = root / name
        if folder.is_dir() and any(folder.iterdir()):
            return name
    raise InputError(
        f"workspace without images: neither of {', '.join(IMAGE_ROOTS)} below {root} holds anything; "
        "copy or link the image root there"
    )


def image_prefix(workspace: Path, images_dir: Path) -> str:
    """What leads from the workspace to the image root, such as `images`; links count as what they name.

    Raises:
        InputError: the image root is not reached from the workspace, so no row could name its images.
    """
    target = images_dir.resolve()
    for name in IMAGE_ROOTS:
        if (workspace / name).resolve() == target:
            return name
    if target.is_relative_to(workspace.resolve()):
        return target.relative_to(workspace.resolve()).as_posix()
    raise InputError(
        f"image root {images_dir} does not lie in the workspace {workspace}; link it there as images"
    )


def check_sets(workspace: Workspace) -> dict[str, pd.DataFrame]:
    """Check the three data sets of a workspace and give their tables, by name.

    Columns are there, each set has PASS and defect rows, every image exists, and no image is in two
    sets. Reads every image once.

    Raises:
        InputError: the first of these that does not hold, with the rows.
    """
    files = {
        "training set": workspace.training_csv,
        "validation set": workspace.validation_csv,
        "KPI set": workspace.kpi_csv,
    }
    sets = [
        ImageSet(name, read_table(file, what=name), workspace.images_dir, workspace.lighting)
        for name, file in files.items()
    ]
    for one in sets:
        check_classes(one.table["label"], one.name)
        check_images(one.table, one.root, one.lighting, one.name)
    for number, left in enumerate(sets):
        for right in sets[number + 1 :]:
            check_disjoint(left, right)
    return {one.name: one.table for one in sets}
