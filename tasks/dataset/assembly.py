"""Assembly of the next training CSV: every earlier row, then the new ones, and where each came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tasks.dataset.leakage import ImageSet, canonical_keys
from tasks.dataset.table import MANDATORY, normalised_label
from tasks.errors import InputError, StageFailed

ORIGINS = ("sdg", "mined")
PROVENANCE = ("row_index", "source", "origin_iter", "origin")
BASE_ROW = ("base_train", 0, "base")


@dataclass(frozen=True)
class Combined:
    """The assembled rows, an aligned row of provenance for each, and what was changed on the way."""

    table: pd.DataFrame
    provenance: pd.DataFrame
    previous_rows: int
    dedup_dropped: int
    label_repairs: int

    @property
    def new_rows(self) -> int:
        """How many rows the new ones added, duplicates not counted."""
        return len(self.table) - self.previous_rows


def with_normalised_labels(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The table with `PASS` or lower-case stripped labels, and how many labels that changed."""
    labels = table["label"].map(normalised_label)
    return table.assign(label=labels), int((labels != table["label"]).sum())


def in_workspace_coordinates(base: ImageSet, workspace: Path, prefix: str) -> pd.DataFrame:
    """The base rows with `prefix` (the image root seen from the workspace) before relative paths, once.

    A path that starts with the prefix already carries it, unless its image lies below the image root
    under that very path; absolute paths stay as they are.

    Raises:
        InputError: the image of a row exists under both readings of its path.
    """
    changed = {
        column: [_prefixed(base, workspace, prefix, row, column) for row in range(len(base.table))]
        for column in ("input_path", "golden_path")
    }
    return base.table.assign(**changed)


def _prefixed(base: ImageSet, workspace: Path, prefix: str, row: int, column: str) -> str:
    given = str(base.table[column].iloc[row])
    path = given.removeprefix("./")
    if Path(path).is_absolute():
        return given
    if path == prefix or path.startswith(f"{prefix}/"):
        name = base.table["object_name"].iloc[row]
        carries = base.lighting.files(workspace, path, name)[0].is_file()
        lacks = base.lighting.files(base.root, path, name)[0].is_file()
        if carries and lacks:
            raise InputError(
                f"{base.name} row {row + 2}: {column} {given!r} names an image below the workspace "
                f"and another below its image root {prefix}/; rename one of the two folders"
            )
        if not lacks:
            return given
    return f"{prefix}/{path}"


def provenance_of_base(rows: int) -> pd.DataFrame:
    """The provenance of base training rows."""
    return pd.DataFrame([(row, *BASE_ROW) for row in range(rows)], columns=list(PROVENANCE)).astype(str)


def combined(previous: ImageSet, provenance: pd.DataFrame, new: ImageSet, iteration: int) -> Combined:
    """Put the new rows behind the previous ones.

    Labels are normalised on both sides. New rows that show the image of an earlier row (canonical key)
    are dropped and counted. Columns are the union, the mandatory four first, absent values empty; the
    new rows' `origin` goes to the provenance.

    Args:
        previous: the training rows so far, in workspace coordinates.
        provenance: their provenance, aligned.
        new: the new rows in workspace coordinates with their `origin`.
        iteration: the number of this round, from 1.

    Raises:
        InputError: provenance and previous rows are not aligned, or an origin is unknown.
    """
    _check_provenance(previous, provenance)
    _check_origins(new)
    old_rows, old_repairs = with_normalised_labels(previous.table)
    new_rows, new_repairs = with_normalised_labels(new.table)
    novel = new_rows[_novel(canonical_keys(previous), canonical_keys(new))]
    extra = dict.fromkeys([*old_rows.columns, *novel.columns])
    columns = [*MANDATORY, *(name for name in extra if name not in (*MANDATORY, "origin"))]
    table = pd.concat([old_rows, novel], ignore_index=True).reindex(columns=columns).fillna("")
    added = pd.DataFrame({"source": "mining_pool", "origin_iter": str(iteration), "origin": novel["origin"]})
    origins = pd.concat([provenance, added], ignore_index=True).reindex(columns=list(PROVENANCE))
    origins["row_index"] = range(len(origins))
    _check_growth(old_rows, table)
    return Combined(table, origins, len(old_rows), len(new_rows) - len(novel), old_repairs + new_repairs)


def _novel(old_keys: Sequence[str], new_keys: Sequence[str]) -> list[bool]:
    seen = set(old_keys)
    novel = []
    for key in new_keys:
        novel.append(key not in seen)
        seen.add(key)
    return novel


def _check_provenance(previous: ImageSet, provenance: pd.DataFrame) -> None:
    aligned = list(provenance["row_index"].astype(str)) == [str(row) for row in range(len(previous.table))]
    if not aligned:
        raise InputError(
            f"provenance of the {previous.name} has {len(provenance)} rows that are not aligned with its "
            f"{len(previous.table)} rows; restore both files of the previous iteration"
        )


def _check_origins(new: ImageSet) -> None:
    for number, origin in enumerate(new.table["origin"]):
        if origin not in ORIGINS:
            raise InputError(
                f"{new.name} row {number + 2}: unknown origin {origin!r}; it is one of {', '.join(ORIGINS)}"
            )


def _check_growth(previous: pd.DataFrame, table: pd.DataFrame) -> None:
    kept = Counter(table[list(previous.columns)].itertuples(index=False, name=None))
    lost = Counter(previous.itertuples(index=False, name=None)) - kept
    if lost:
        raise StageFailed(
            f"assembly lost or changed {lost.total()} earlier rows, first {next(iter(lost))}; report it"
        )
