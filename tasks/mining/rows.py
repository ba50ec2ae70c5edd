"""Mined images as rows of a ChangeNet CSV."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.artifacts import Artifact, write_csv
from tasks.dataset.table import MANDATORY, PASS, Lighting, normalised_label
from tasks.embedding.tables import read_parquet, texts
from tasks.errors import InputError, listed
from tasks.mining.paths import identity
from tasks.mining.pool import GOLDEN, PATH_COLUMNS, Row, read_pool

ORIGIN = "mined"


@dataclass(frozen=True)
class MinedRows:
    """The new rows.

    Attributes:
        csv: the ChangeNet CSV, paths relative to the workspace, `origin` = mined.
        samples: its rows; several lightings of one sample are one.
        images: mined images that they stand for.
        self_golden: PASS samples that serve as their own golden image.
    """

    csv: Path
    samples: int
    images: int
    self_golden: int


@dataclass(frozen=True)
class _Sample:
    """A mined sample: its folder and name, its pool row, and its golden folder if it has one."""

    folder: Path
    name: str
    row: Row
    golden: Path | None


def write_mined_rows(
    mined: Path, pool: Path, workspace: Path, lighting: Lighting, self_golden: Path, output: Path
) -> MinedRows:
    """Write mined images as ChangeNet rows in workspace coordinates.

    Args:
        mined: the selection, a parquet with `filepath`.
        pool: the resolved pool parquet that holds these paths, with `label` and goldens.
        workspace: the folder that `input_path` and `golden_path` are relative to when they lie in it.
        lighting: how the files of a sample are named.
        self_golden: folder for copies of PASS samples that have no golden image.
        output: the CSV to write.

    Raises:
        InputError: a path is not in the pool, a defect has no golden image, or a lighting of a sample
            or of its golden does not exist. Nothing is written then.
    """
    paths = _mined_paths(mined)
    pool_rows = read_pool(pool, ["filepath", "label"])
    samples = _samples(paths, pool_rows, lighting, pool)
    _check_files(samples, lighting)

    copied = 0
    rows = []
    for sample in samples:
        golden = sample.golden
        if golden is None:
            golden = self_golden / _below(sample.folder, workspace)
            for name in lighting.file_names(sample.name):
                Artifact.of(sample.folder / name).copied_to(golden / name)
            copied += 1
        rows.append(
            {
                **sample.row,
                "input_path": _relative(sample.folder, workspace),
                "golden_path": _relative(golden, workspace),
                "label": normalised_label(sample.row["label"]),
                "object_name": sample.name,
                "origin": ORIGIN,
            }
        )
    write_csv(output, [*MANDATORY, *_metadata(pool_rows), "origin"], rows)
    return MinedRows(output, len(samples), len(paths), copied)


def _mined_paths(mined: Path) -> list[str]:
    return texts(read_parquet(mined, "mined", may_be_empty=True), "filepath", f"mined {mined}")


def _metadata(pool: list[Row]) -> list[str]:
    ours = {*MANDATORY, *PATH_COLUMNS, GOLDEN, "origin"}
    return [name for name in pool[0] if name not in ours]


def _samples(paths: list[str], pool_rows: list[Row], lighting: Lighting, pool: Path) -> list[_Sample]:
    metadata = _metadata(pool_rows)
    records = {identity(row["filepath"]): row for row in pool_rows}
    unknown = [path for path in paths if identity(path) not in records]
    if unknown:
        raise InputError(f"{len(unknown)} mined images are not in the pool {pool}: {listed(unknown)}")
    samples: dict[tuple[Path, str], _Sample] = {}
    bare = []
    for path in paths:
        row = records[identity(path)]
        file = Path(identity(path)).absolute()
        name = _object_name(file.stem, lighting)
        golden = Path(row[GOLDEN]).parent if row.get("golden_path", "").strip() and row.get(GOLDEN) else None
        if golden is None and normalised_label(row["label"]) != PASS:
            bare.append(f"{path} ({row['label']})")
        kept = {key: row[key] for key in ("label", *metadata)}
        samples.setdefault((file.parent, name), _Sample(file.parent, name, kept, golden))
    if bare:
        raise InputError(
            f"{len(bare)} mined defects have no golden image: {listed(bare)}; "
            f"give golden_path in the pool {pool}"
        )
    return list(samples.values())


def _object_name(stem: str, lighting: Lighting) -> str:
    endings = [f"_{name}" for name in lighting.names if name and stem.endswith(f"_{name}")]
    return stem.removesuffix(max(endings, key=len)) if endings else stem


def _check_files(samples: list[_Sample], lighting: Lighting) -> None:
    missing = [
        str(folder / name)
        for sample in samples
        for folder in (sample.folder, sample.golden)
        if folder is not None
        for name in lighting.file_names(sample.name)
        if not (folder / name).is_file()
    ]
    if missing:
        raise InputError(
            f"{len(missing)} images of mined samples do not exist: {listed(missing)}; "
            "a sample needs every lighting"
        )


def _below(folder: Path, workspace: Path) -> Path:
    """A relative path that tells `folder` from all others."""
    if folder.is_relative_to(workspace.absolute()):
        return folder.relative_to(workspace.absolute())
    return Path(*folder.parts[1:])


def _relative(folder: Path, workspace: Path) -> str:
    folder, workspace = folder.absolute(), workspace.absolute()
    return folder.relative_to(workspace).as_posix() if folder.is_relative_to(workspace) else str(folder)
