"""An image-folder workspace: its folders as lists of rows, and the specs that read them."""

from __future__ import annotations

import copy
import csv
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.artifacts import existing_file, sha256_of, write_csv
from tasks.errors import InputError, listed
from tasks.spec import plain, read_mapping

logger = logging.getLogger("deft")

BASELINE_SPEC = "specs/baseline_spec.yaml"
SETS = ("train", "validation", "kpi", "pool")
EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp")
COLUMNS = ("filepath", "label", "origin")

Row = dict[str, str]


@dataclass(frozen=True)
class RowLists:
    """The CSVs of a workspace, with paths from its root; `pool` is None where there is no pool."""

    train: Path
    validation: Path
    kpi: Path
    pool: Path | None


def folder_rows(workspace: Path, name: str) -> list[Row]:
    """A row per image of `<workspace>/<name>/<label>/`, sorted by path.

    Raises:
        InputError: a label's folder holds something that is no image.
    """
    files = sorted(file for file in (workspace / name).glob("*/*") if not file.name.startswith("."))
    odd = [file for file in files if file.suffix.lower() not in EXTENSIONS or not file.is_file()]
    if odd:
        raise InputError(f"not an image ({', '.join(EXTENSIONS)}): {listed(odd)}; take them out of {name}")
    return [
        {"filepath": file.relative_to(workspace).as_posix(), "label": file.parent.name, "origin": name}
        for file in files
    ]


def write_row_lists(workspace: Path, folder: Path) -> RowLists:
    """Write `train.csv`, `validation.csv`, `kpi.csv` and, where there is a pool, `pool.csv`.

    Pool images with the content of a training image or of an earlier pool image bring nothing new; they
    are left out, and how many is said.

    Raises:
        InputError: a folder has no images, sets share an image (by content), or a set has labels that
            the training set lacks.
    """
    workspace = workspace.absolute()
    sets = {name: folder_rows(workspace, name) for name in SETS}
    empty = [name for name in SETS[:3] if not sets[name]]
    if empty:
        raise InputError(f"{workspace} has no images in {listed(empty)}; they lie in <set>/<label>/<any>.png")
    known = {row["label"] for row in sets["train"]}
    for name, rows in sets.items():
        unknown = sorted({row["label"] for row in rows} - known)
        if unknown:
            raise InputError(f"{workspace / name} has the labels {listed(unknown)}, which train lacks")
    check_disjoint(workspace, sets["train"], sets["validation"], sets["kpi"])
    check_disjoint(workspace, sets["pool"], sets["validation"], sets["kpi"])
    check_disjoint(workspace, sets["validation"], sets["kpi"])
    sets["pool"] = _new_to(workspace, sets["train"], sets["pool"])
    written = {name: write_rows(folder / f"{name}.csv", rows) for name, rows in sets.items() if rows}
    return RowLists(written["train"], written["validation"], written["kpi"], written.get("pool"))


def write_rows(path: Path, rows: Iterable[Row]) -> Path:
    """Write a list of rows; `origin` says how each came into it."""
    return write_csv(path, COLUMNS, rows)


def read_list(path: Path) -> list[Row]:
    """The rows of a list that `write_rows` wrote; raises `InputError` when it is gone."""
    with existing_file(path, "row list").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def check_disjoint(workspace: Path, rows: Iterable[Row], *others: Iterable[Row]) -> None:
    """Check that no image of `rows` has the content of one of the others.

    Raises:
        InputError: some have; pairs are named.
    """
    seen = {sha256_of(workspace / row["filepath"]): row["filepath"] for other in others for row in other}
    contents = ((row["filepath"], sha256_of(workspace / row["filepath"])) for row in rows)
    shared = [f"{path} = {seen[content]}" for path, content in contents if content in seen]
    if shared:
        raise InputError(
            f"{len(shared)} images are in two sets of {workspace}: {listed(shared)}; keep each in one"
        )


def _new_to(workspace: Path, train: list[Row], pool: list[Row]) -> list[Row]:
    had = {sha256_of(workspace / row["filepath"]) for row in train}
    new: dict[str, Row] = {}
    for row in pool:
        content = sha256_of(workspace / row["filepath"])
        if content not in had:
            new.setdefault(content, row)
    if len(new) < len(pool):
        logger.info("pool: %d images are copies of others and are left out", len(pool) - len(new))
    return list(new.values())


def read_baseline(workspace: Path) -> dict[str, Any]:
    """The workspace's spec as plain values; raises `InputError` when it is missing or no mapping."""
    return read_mapping(workspace / BASELINE_SPEC, "baseline spec")


def training_values(
    spec: dict[str, Any],
    workspace: Path,
    *,
    training_csv: Path,
    validation_csv: Path,
    results_dir: Path,
    pretrained_model_path: Path | None = None,
    num_epochs: int | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Values for `image_classifier train`: the spec with data sets and start; what is None stays its own."""
    values = copy.deepcopy(spec)
    data, train = values.setdefault("dataset", {}), values.setdefault("train", {})
    for name, rows_csv in (("train_dataset", training_csv), ("validation_dataset", validation_csv)):
        data[name] = {"csv_path": str(rows_csv), "images_dir": str(workspace.absolute())}
    given = {"pretrained_model_path": pretrained_model_path, "num_epochs": num_epochs, "seed": seed}
    train.update({key: value for key, value in given.items() if value is not None})
    return {**values, **plain({"results_dir": results_dir, "train": train})}


def inference_values(
    spec: dict[str, Any], workspace: Path, *, rows_csv: Path, checkpoint: Path, results_dir: Path
) -> dict[str, Any]:
    """Values for `image_classifier inference` with what of the spec decides scores."""
    data = spec.get("dataset") or {}
    return {
        "results_dir": str(results_dir),
        **{key: spec[key] for key in ("model", "native") if key in spec},
        "dataset": {
            **{key: data[key] for key in ("image_size", "batch_size") if key in data},
            "infer_dataset": {"csv_path": str(rows_csv), "images_dir": str(workspace.absolute())},
        },
        "inference": {"checkpoint": str(checkpoint)},
    }
