"""The samples of a run that a person should look at: weak ones of the KPI set, mined ones of the pool.

Each has an id made of where it comes from (set, input_path, object_name), the same on every machine and in
every run, so that corrected labels find their row again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.artifacts import read_json
from tasks.dataset.table import read_table
from tasks.deft.state import STATE_FILE
from tasks.errors import InputError, listed

WEAK = "rca_results/*/weak_samples.parquet"
MINED = "mining_filter/mined.parquet"
CANDIDATES = "mining_filter/mined_candidates.parquet"
POOL = "inputs/mining_pool.resolved.parquet"
ID_LETTERS = 24
"""Hexadecimal letters of an id, as many as the ids of FiftyOne have."""

Table = list[dict[str, Any]]


@dataclass(frozen=True)
class Sample:
    """A sample to look at.

    Attributes:
        id: stable, of 24 hexadecimal letters.
        set: weak (of the KPI set) or mined (of the pool).
        phase: of the run that found it: baseline or iterN.
        image: its first image.
        golden: the image of a good part that it is compared with; none where it has none.
        input_path: as the CSV of its set has it.
        object_name: as the CSV of its set has it.
        label: as it is now.
        score: of the model, higher means defect; of weak samples.
        weakness: how far on the wrong side of the threshold, above 0 is wrong; of weak samples.
        misclassified: whether it is on the wrong side; of weak samples.
        similarity: cosine to the nearest weak sample, -1 to 1; of mined samples.
        target: the image of that weak sample.
        target_label: its label.
    """

    id: str
    set: Literal["weak", "mined"]
    phase: str
    image: Path
    golden: Path | None
    input_path: str
    object_name: str
    label: str
    score: float | None = None
    weakness: float | None = None
    misclassified: bool | None = None
    similarity: float | None = None
    target: str | None = None
    target_label: str | None = None


def samples_of(run: Path, phase: str | None = None) -> list[Sample]:
    """The weak and the mined samples of a phase, or of the last that has each.

    Args:
        run: folder of a loop or a pipeline.
        phase: baseline or iterN; none takes the last one with weak samples and the last one that mined.

    Raises:
        InputError: no such run or phase, it has neither, or files or images of it are missing; the first
            ones are named.
    """
    if not (run / STATE_FILE).is_file():
        raise InputError(f"{run} is no run with a data loop: it has no {STATE_FILE}; give its folder")
    labels = _phases(run)
    if phase is not None:
        if phase not in labels:
            raise InputError(f"{run} has no phase {phase!r}; it has {listed(labels) or 'none'}")
        labels = [phase]
    weak_file = _last(run, labels, WEAK)
    mined_file = _last(run, labels, MINED)
    if weak_file is None and mined_file is None:
        where = phase or listed(labels) or "no phase"
        raise InputError(f"{run}: nothing to export: {where} has neither {WEAK} nor {MINED}")
    weak = _weak(run, weak_file) if weak_file else []
    mined = _mined(run, mined_file) if mined_file else []
    found = _with_own_ids([*weak, *mined])
    missing = [one.image for one in found if not one.image.is_file()]
    if missing:
        raise InputError(f"{len(missing)} of {len(found)} images do not exist: {listed(missing, most=3)}")
    return found


def sample_id(kind: str, input_path: str, object_name: str, occurrence: int = 0) -> str:
    """The id of a sample; rows that stand in a set twice are told apart by `occurrence`."""
    text = "\0".join((kind, input_path, object_name, str(occurrence)))
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LETTERS]


def _with_own_ids(samples: Iterable[Sample]) -> list[Sample]:
    seen: Counter[str] = Counter()
    found = []
    for one in samples:
        plain = sample_id(one.set, one.input_path, one.object_name)
        found.append(replace(one, id=sample_id(one.set, one.input_path, one.object_name, seen[plain])))
        seen[plain] += 1
    return found


def _phases(run: Path) -> list[str]:
    """The phases of a run in order, the baseline first."""
    numbers = sorted(
        int(number)
        for folder in run.glob("iter*")
        if folder.is_dir() and (number := folder.name.removeprefix("iter")).isdigit()
    )
    return [*(["baseline"] if (run / "baseline").is_dir() else []), *(f"iter{number}" for number in numbers)]


def _last(run: Path, labels: Sequence[str], pattern: str) -> Path | None:
    """The newest file of the last of these phases that has one."""
    for label in reversed(labels):
        files = sorted((run / label).glob(pattern))
        if files:
            return files[-1]
    return None


def _rows(file: Path, columns: Sequence[str]) -> Table:
    """The rows of a parquet.

    Raises:
        InputError: it is missing, is no parquet or lacks a column.
    """
    try:
        table = pq.read_table(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    absent = [name for name in columns if name not in table.column_names]
    if absent:
        raise InputError(f"{file} lacks the columns {listed(absent)}")
    found: Table = table.to_pylist()
    return found


def _label_of(run: Path, file: Path) -> str:
    return file.relative_to(run).parts[0]


def _weak(run: Path, file: Path) -> list[Sample]:
    columns = ("input_path", "object_name", "label", "siamese_score", "weakness", "first_filepath")
    phase = _label_of(run, file)
    goldens = _goldens(run, phase)
    found = []
    for row in _rows(file, columns):
        image = Path(row["first_filepath"])
        folder = goldens.get((row["input_path"], row["object_name"]))
        found.append(
            Sample(
                id="",
                set="weak",
                phase=phase,
                image=image,
                golden=_existing(folder / image.name) if folder else None,
                input_path=row["input_path"],
                object_name=row["object_name"],
                label=row["label"],
                score=row["siamese_score"],
                weakness=row["weakness"],
                misclassified=row.get("misclassified", row["weakness"] > 0),
            )
        )
    return found


def _goldens(run: Path, phase: str) -> dict[tuple[str, str], Path]:
    """The golden folder of every KPI row, by the scores of the phase; empty where they are gone."""
    files = sorted((run / phase).glob("inference/*/inference.csv"))
    root = read_json(run / STATE_FILE).get("config", {}).get("images_dir")
    if not files or root is None:
        return {}
    table = read_table(files[0], ("input_path", "object_name", "golden_path"))
    rows = zip(table["input_path"], table["object_name"], table["golden_path"], strict=True)
    return {(folder, name): Path(root) / golden for folder, name, golden in rows if golden}


def _mined(run: Path, file: Path) -> list[Sample]:
    phase = _label_of(run, file)
    candidates = file.with_name(Path(CANDIDATES).name)
    nearest, pool = _by_path(candidates), _by_path(run / POOL)
    samples: dict[tuple[str, str], Sample] = {}
    for row in _rows(file, ("filepath", "label")):
        path = row["filepath"]
        known, close = pool.get(path, {}), nearest.get(path, {})
        golden = known.get("golden_filepath")
        one = Sample(
            id="",
            set="mined",
            phase=phase,
            image=Path(path),
            golden=_existing(Path(golden)) if golden else None,
            input_path=known.get("input_path") or str(Path(path).parent),
            object_name=known.get("object_name") or Path(path).stem,
            label=row["label"],
            similarity=close.get("max_cosine_similarity"),
            target=close.get("nearest_target_filepath"),
            target_label=close.get("nearest_target_label"),
        )
        key = (one.input_path, one.object_name)  # several lightings of one sample are one
        before = samples.get(key)
        if before is None or (one.similarity or -2.0) > (before.similarity or -2.0):
            samples[key] = one
    return list(samples.values())


def _by_path(file: Path) -> dict[str, dict[str, Any]]:
    """The rows of a parquet by their image; none where there is no such file."""
    return {row["filepath"]: row for row in _rows(file, ("filepath",))} if file.is_file() else {}


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None
