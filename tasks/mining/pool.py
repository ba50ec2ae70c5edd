"""Pool preparation: from a CSV or parquet to one existing, readable image per row."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from tasks.artifacts import write_csv, write_json, write_parquet
from tasks.dataset.table import Lighting, is_pass, read_table
from tasks.embedding.tables import EMBEDDING, read_parquet
from tasks.errors import InputError, listed
from tasks.images import unreadable
from tasks.mining.paths import identity

logger = logging.getLogger("deft")

OnBadImage = Literal["fail", "exclude"]
Row = dict[str, str]
PATH_COLUMNS = ("filepath", "input_path", "image_path")
GOLDEN = "golden_filepath"


@dataclass(frozen=True)
class PoolSummary:
    """What became of a pool.

    Attributes:
        parquet: the prepared pool.
        csv: the same with paths relative to the image root; None for a verbatim conversion.
        input_rows: rows that came in.
        rows: rows that are left.
        missing: rows without an existing image (or golden image).
        ambiguous: rows with more than one.
        unreadable: rows whose image (or golden image) does not decode.
        duplicates: rows that repeat an image of an earlier row, left out.
        labels: rows left per label; empty when the pool has no labels.
    """

    parquet: Path
    csv: Path | None
    input_rows: int
    rows: int
    missing: int
    ambiguous: int
    unreadable: int
    duplicates: int
    labels: dict[str, int]


@dataclass(frozen=True)
class _Problem:
    kind: Literal["missing", "ambiguous", "unreadable"]
    reason: str


@dataclass(frozen=True)
class _Sorted:
    """The rows of a pool by what became of them; rows are counted from 0."""

    left: list[int]
    problems: dict[int, _Problem]
    duplicates: int


def read_pool(path: Path, required: Iterable[str] = ()) -> list[Row]:
    """The rows of a pool as text, from parquet or, by any other suffix, from CSV.

    Raises:
        InputError: missing, unreadable, empty, or without a required column.
    """
    if path.suffix == ".parquet":
        table = read_parquet(path, "pool", required=list(required))
        names = [name for name in table.column_names if name != EMBEDDING]
        return [
            {name: "" if value is None else str(value) for name, value in row.items()}
            for row in table.select(names).to_pylist()
        ]
    frame = read_table(path, list(required), "pool")
    names = [str(name) for name in frame.columns]
    return [dict(zip(names, values, strict=True)) for values in frame.itertuples(index=False, name=None)]


def convert_pool(pool: Path, output: Path, on_bad_image: OnBadImage = "fail") -> PoolSummary:
    """Write a pool as parquet with every path and label exactly as given, each image once.

    Args:
        pool: CSV or parquet with `filepath`.
        output: the parquet to write; `excluded_pool_rows.csv` goes beside it.
        on_bad_image: whether rows without a readable image stop the conversion or are left out.

    Raises:
        InputError: the pool is no table with `filepath`, or images are missing or unreadable.
    """
    rows = read_pool(pool, ["filepath"])
    found: list[list[Path] | _Problem] = [
        [Path(row["filepath"])]
        if Path(row["filepath"]).is_file()
        else _Problem("missing", f"image {row['filepath']!r}: no such file")
        for row in rows
    ]
    keys = [identity(row["filepath"]) for row in rows]
    kept = _sorted(rows, found, keys, pool, output.parent, on_bad_image)
    _write_parquet(output, [rows[number] for number in kept.left])
    return _summary(output, None, rows, kept)


def resolve_pool(
    pool_csv: Path, images_root: Path, lighting: Lighting, output: Path, on_bad_image: OnBadImage = "fail"
) -> PoolSummary:
    """Find the one existing image of every pool row, and of its golden where it names one.

    Looked for is `<csv folder>/<value>` and `<images_root>/<value without a leading images/>`; with an
    `object_name` also its first lighting in these folders. A row without a golden image serves as its
    own in `golden_filepath`, while its `golden_path` stays empty.

    Args:
        pool_csv: CSV or parquet with `filepath`, `input_path` or `image_path`.
        images_root: the folder of the images.
        lighting: how the files of a sample are named.
        output: stem of `<output>.csv` (paths relative to `images_root`), `<output>.parquet` (absolute
            paths) and `<output>.json` (the summary); `excluded_pool_rows.csv` goes beside them.
        on_bad_image: whether rows without exactly one readable image stop all or are left out.

    Raises:
        InputError: no rows, no path column, rows that do not resolve (up to 20 are named), or rows of a
            defect without a golden image, which no setting lets pass.
    """
    rows = read_pool(pool_csv)
    column = next((name for name in PATH_COLUMNS if name in rows[0]), None)
    if column is None:
        raise InputError(f"pool {pool_csv} has none of the columns {', '.join(PATH_COLUMNS)}; add one")
    _defects_have_goldens(rows, pool_csv)
    resolver = _Resolver(pool_csv.absolute().parent, images_root.absolute(), lighting)
    found = [resolver.files(row, column) for row in rows]
    keys = [
        f"row {number}" if isinstance(files, _Problem) else os.path.realpath(files[0])
        for number, files in enumerate(found)
    ]
    kept = _sorted(rows, found, keys, pool_csv, output.parent, on_bad_image)

    absolute, relative = [], []
    for number in kept.left:
        files = found[number]
        assert not isinstance(files, _Problem)
        rest = {name: value for name, value in rows[number].items() if name not in ("filepath", GOLDEN)}
        absolute.append({"filepath": str(files[0]), **rest, GOLDEN: str(files[-1])})
        spelled = [resolver.relative(file) for file in files]
        relative.append({"filepath": spelled[0], **rest, GOLDEN: spelled[-1]})

    csv, parquet = _beside(output, ".csv"), _beside(output, ".parquet")
    write_csv(csv, list(relative[0]), relative)
    _write_parquet(parquet, absolute)
    summary = _summary(parquet, csv, rows, kept)
    write_json(_beside(output, ".json"), asdict(summary))
    logger.info(
        "pool %s: %d of %d rows, %d duplicates", pool_csv, summary.rows, len(rows), summary.duplicates
    )
    return summary


class _Resolver:
    """Where the files of a pool may lie."""

    def __init__(self, csv_folder: Path, images_root: Path, lighting: Lighting) -> None:
        self.csv_folder = csv_folder
        self.images_root = images_root
        self.lighting = lighting

    def files(self, row: Row, column: str) -> list[Path] | _Problem:
        """The image of a row, and its golden image where the row names one."""
        name = row.get("object_name", "")
        wanted = [("image", row[column])]
        if row.get("golden_path", "").strip():
            wanted.append(("golden image", row["golden_path"]))
        files = []
        for what, value in wanted:
            found = self._existing(value, name)
            if len(found) != 1:
                tried = " or ".join(map(str, found)) or f"no file, with object_name {name!r}"
                return _Problem("ambiguous" if found else "missing", f"{what} {value!r}: {tried}")
            files += found
        return files

    def _existing(self, value: str, object_name: str) -> list[Path]:
        text = value.strip().replace("\\", "/")
        if not text:
            return []
        bases = [self.csv_folder / text, self.images_root / text.removeprefix("images/")]
        candidates = list(bases)
        if object_name:
            first_lighting = self.lighting.file_names(object_name)[0]
            candidates += [base / first_lighting for base in bases]
        found = {os.path.realpath(path): path for path in reversed(candidates) if path.is_file()}
        return [Path(os.path.normpath(path)) for path in found.values()]

    def relative(self, path: Path) -> str:
        """The path as the CSV spells it: relative to the image root when it lies in there."""
        for file, root in ((path, self.images_root), (path.resolve(), self.images_root.resolve())):
            if file.is_relative_to(root):
                return file.relative_to(root).as_posix()
        return str(path)


def _defects_have_goldens(rows: list[Row], pool: Path) -> None:
    if "label" not in rows[0]:
        return
    defects = np.flatnonzero(~is_pass(row["label"] for row in rows))
    bare = [number for number in defects if not rows[number].get("golden_path", "").strip()]
    if bare:
        named = [f"row {number + 2} ({rows[number]['label']})" for number in bare]
        raise InputError(
            f"pool {pool}: {len(bare)} defect rows have no golden_path: {listed(named)}; "
            "only PASS rows can be their own golden"
        )


def _sorted(
    rows: list[Row],
    found: list[list[Path] | _Problem],
    keys: list[str],
    pool: Path,
    folder: Path,
    on_bad_image: OnBadImage,
) -> _Sorted:
    """Tell the rows to keep from the rest; raises when there are problems that may not be left out."""
    first: dict[str, int] = {}
    for number, key in enumerate(keys):
        first.setdefault(key, number)
    unique = list(first.values())
    problems = {number: item for number in unique if isinstance(item := found[number], _Problem)}
    files = {number: item for number in unique if not isinstance(item := found[number], _Problem)}
    bad = set(unreadable(path for paths in files.values() for path in paths))
    for number, paths in files.items():
        broken = [str(path) for path in paths if path in bad]
        if broken:
            problems[number] = _Problem("unreadable", f"{broken[0]} cannot be read as an image")
    left = [number for number in unique if number not in problems]
    if problems:
        _leave_out(problems, left, rows, pool, folder, on_bad_image)
    return _Sorted(left, problems, len(rows) - len(unique))


def _leave_out(
    problems: dict[int, _Problem],
    left: list[int],
    rows: list[Row],
    pool: Path,
    folder: Path,
    on_bad_image: OnBadImage,
) -> None:
    counts = Counter(problem.kind for problem in problems.values())
    count = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
    if on_bad_image == "fail" or not left:
        named = [f"row {number + 2}: {problems[number].reason}" for number in sorted(problems)]
        raise InputError(
            f"pool {pool}: {count} of {len(rows)} rows: {listed(named)}; "
            "mend the rows, or leave them out with on_bad_image=exclude"
        )
    path = folder / "excluded_pool_rows.csv"
    excluded = [{**rows[number], "reason": problems[number].reason} for number in sorted(problems)]
    write_csv(path, list(excluded[0]), excluded)
    logger.warning("pool %s: left out %s rows, see %s", pool, count, path)


def _beside(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)


def _write_parquet(path: Path, rows: list[Row]) -> None:
    write_parquet(path, pa.table({name: pa.array([row[name] for row in rows]) for name in rows[0]}))


def _summary(parquet: Path, csv: Path | None, rows: list[Row], kept: _Sorted) -> PoolSummary:
    kinds = Counter(problem.kind for problem in kept.problems.values())
    labels = Counter(rows[number]["label"].strip().upper() for number in kept.left if "label" in rows[number])
    return PoolSummary(
        parquet=parquet,
        csv=csv,
        input_rows=len(rows),
        rows=len(kept.left),
        missing=kinds["missing"],
        ambiguous=kinds["ambiguous"],
        unreadable=kinds["unreadable"],
        duplicates=kept.duplicates,
        labels=dict(labels.most_common()),
    )
