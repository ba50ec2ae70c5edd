"""What the report of a routing is made of, read from the files of its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.artifacts import existing_file, read_json
from tasks.errors import InputError
from tasks.routing.eligibility import compared
from tasks.spec import explained
from tasks.taken_from import TakenFrom, taken_from

STAGE = "route"
CLOSE = 2
"""Letters that two spellings of one label differ in, at most."""


class LabelFacts(BaseModel):
    """A line of the split: a label, how many weak samples have it, and where they go."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    label: str
    count: int
    mining: bool
    generation: bool
    routed_to: Literal["mining only", "anomalygen only", "mining + anomalygen", "neither (DROPPED)"]

    @property
    def dropped(self) -> bool:
        """Whether its samples go nowhere."""
        return not (self.mining or self.generation)


class Split(BaseModel):
    """`routing.json`; runs of earlier versions lack what has a default."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    total: int
    to_mining: int
    to_generation: int
    to_both: int
    dropped: int
    pool: Path | None
    labels: tuple[LabelFacts, ...]
    gaps_parquet: Path | None = None
    pool_labels: dict[str, int] | None = None
    supported_defects: tuple[str, ...] | None = None


@dataclass(frozen=True)
class RoutingFacts:
    """All of it.

    Attributes:
        folder: of the routing.
        split: the decisions.
        gaps: the weak samples as they were given; None when no file tells.
        supported: labels that the generator makes; None when no file tells.
        mining_rows: rows of `mining_gaps.parquet`; None when the file is missing.
        generation_rows: the same of `anomalygen_gaps.parquet`.
        taken_from: where an unchanged result was taken from; None = routed here.
    """

    folder: Path
    split: Split
    gaps: Path | None
    supported: tuple[str, ...] | None
    mining_rows: int | None
    generation_rows: int | None
    taken_from: TakenFrom | None

    @property
    def mining_parquet(self) -> Path:
        """The weak samples for mining."""
        return self.folder / "mining_gaps.parquet"

    @property
    def generation_parquet(self) -> Path:
        """The weak samples for generation."""
        return self.folder / "anomalygen_gaps.parquet"

    @property
    def dropped(self) -> list[LabelFacts]:
        """Labels whose samples go nowhere."""
        return [one for one in self.split.labels if one.dropped]

    @property
    def known(self) -> set[str]:
        """Labels that the pool has or the generator makes."""
        routed = {one.label for one in self.split.labels if not one.dropped}
        return routed | {*(self.split.pool_labels or ())} | {compared(one) for one in self.supported or ()}

    def lookalikes(self, label: str) -> list[str]:
        """Known labels that differ from this one in so few letters that one may be a slip of the pen."""
        found = {known: edit_distance(label, known) for known in self.known - {label}}
        # A short label is near to every other short one: NG is no slip of OK.
        near = {
            known: distance
            for known, distance in found.items()
            if distance <= CLOSE and distance < min(len(label), len(known))
        }
        return sorted(near, key=lambda one: (near[one], one))


def read_facts(folder: Path) -> RoutingFacts:
    """Read the folder of a routing.

    Raises:
        InputError: nothing was routed there, or a file is not what it must be.
    """
    path = existing_file(folder / "routing.json", "result of a routing")
    try:
        split = Split.model_validate(read_json(path))
    except ValidationError as error:
        raise InputError(f"{path} is no result of a routing: {explained(error)}") from error
    settings = _settings(folder / f"{STAGE}_spec.yaml")
    return RoutingFacts(
        folder=folder,
        split=split,
        gaps=split.gaps_parquet or settings.get("gaps_parquet"),
        supported=split.supported_defects or settings.get("supported_defects"),
        mining_rows=_rows(folder / "mining_gaps.parquet"),
        generation_rows=_rows(folder / "anomalygen_gaps.parquet"),
        taken_from=taken_from(folder / f"{STAGE}.log"),
    )


def edit_distance(left: str, right: str) -> int:
    """Letters to insert, delete or replace to make one text of the other (Levenshtein)."""
    row = list(range(len(right) + 1))
    for number, letter in enumerate(left, 1):
        above, row = row, [number]
        for column, other in enumerate(right, 1):
            row.append(min(row[-1] + 1, above[column] + 1, above[column - 1] + (letter != other)))
    return row[-1]


def _settings(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _rows(parquet: Path) -> int | None:
    return int(pq.read_metadata(parquet).num_rows) if parquet.is_file() else None
