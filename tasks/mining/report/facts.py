"""What the report of a mining is made of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict

from tasks.artifacts import write_json
from tasks.embedding.sidecar import DECIDING, Sidecar
from tasks.embedding.tables import EMBEDDING
from tasks.mining.ledger import Selection
from tasks.mining.pool import PoolSummary
from tasks.mining.summary import MiningSummary

INPUTS = "report_inputs.json"
SEARCH = "nearest_neighbors"
SIDES = {"target": "target_embeddings", "source": "source_embeddings"}


class ReportInputs(BaseModel):
    """`report_inputs.json`: what the report tells and the other files of its folder do not.

    Attributes:
        loop: whether an iteration of the loop mined; its floor and its ledger then lie in `mining_filter`.
        targets: the weak samples as they were given.
        pool: the pool as it was given.
        pool_rows: its rows as given; None = not known.
        pool_duplicates: rows of it that repeat an image, left out.
        pool_left_out: rows of it without a usable image, left out.
        mined_before: samples that the iteration before mined; None in the first.
    """

    model_config = ConfigDict(frozen=True)

    loop: bool
    targets: Path
    pool: Path
    pool_rows: int | None = None
    pool_duplicates: int = 0
    pool_left_out: int = 0
    mined_before: int | None = None

    @classmethod
    def of(
        cls, targets: Path, pool: Path, prepared: PoolSummary, *, loop: bool, mined_before: int | None = None
    ) -> ReportInputs:
        """What there is to tell of these inputs and of what became of the pool."""
        return cls(
            loop=loop,
            targets=targets.absolute(),
            pool=pool.absolute(),
            pool_rows=prepared.input_rows,
            pool_duplicates=prepared.duplicates,
            pool_left_out=prepared.missing + prepared.ambiguous + prepared.unreadable,
            mined_before=mined_before,
        )

    def write(self, folder: Path) -> Path:
        """Write it into the folder of a mining."""
        return write_json(folder / INPUTS, self.model_dump(mode="json"))


@dataclass(frozen=True)
class Side:
    """The weak samples, or the pool, as they were embedded.

    Attributes:
        parquet: the embeddings.
        rows: how many; None when the file is missing.
        columns: of the parquet.
        labels: as they are compared, stripped and upper-cased; None without a column `label`.
        sidecar: what made it; None when nothing says so.
        spec: the file of settings that it was made from; None when it is not there.
        taken_from: the folder of an earlier equal run that it was copied from; None = computed here.
    """

    parquet: Path
    rows: int | None
    columns: list[str]
    labels: list[str] | None
    sidecar: Sidecar | None
    spec: Path | None
    taken_from: Path | None

    @property
    def counts(self) -> Counter[str]:
        """Rows by label."""
        return Counter(self.labels or ())


@dataclass(frozen=True)
class LoopFacts:
    """What the floor and the ledger of an iteration did.

    Attributes:
        label: of the iteration, such as `iter2`.
        folder: `mining_filter`.
        floor: the smallest similarity that was let through; None when there was no floor.
        kept: images at or above the floor.
        rejected: images below it.
        selection: the line of the ledger.
        samples: rows for training that the images made; None when no file tells.
    """

    label: str
    folder: Path
    floor: float | None
    kept: int
    rejected: int
    selection: Selection
    samples: int | None

    @property
    def way(self) -> str:
        """How images were chosen: `nearest`, `nearest_defects` or `random`."""
        stem = self.selection.candidate_parquet.stem
        return stem if stem in ("nearest_defects", "random") else "nearest"


@dataclass(frozen=True)
class MiningFacts:
    """All of it.

    Attributes:
        folder: of the mining.
        inputs: None for runs that were made before it was written.
        summary: the counts of the search.
        targets: the weak samples.
        pool: the pool.
        search_spec: the file of settings of the search, where it is there.
        search_taken_from: the folder of an earlier equal search; None = searched here.
        filter_line: the line of the log that says that labels could not filter.
        pairs: every pair found; None when there is no file of them.
        mined_parquet: the result.
        mined: its paths; None when the file is missing.
        mined_labels: their labels in the pool, empty text where it has none.
        used_before: pool images by label that earlier iterations mined, so that they were not searched.
        loop: None for a mining that stands alone.
    """

    folder: Path
    inputs: ReportInputs | None
    summary: MiningSummary
    targets: Side
    pool: Side
    search_spec: Path | None
    search_taken_from: Path | None
    filter_line: str | None
    pairs: pd.DataFrame | None
    mined_parquet: Path
    mined: list[str] | None
    mined_labels: list[str]
    used_before: Counter[str]
    loop: LoopFacts | None

    @property
    def count(self) -> int:
        """Images mined."""
        return len(self.mined or ())

    @property
    def wanted(self) -> int:
        """Neighbours that were asked for: one set for each weak sample."""
        return self.summary.target_queries * self.summary.topn

    @property
    def encoder_match(self) -> str:
        """`yes`, `no`, or `unverified` when a sidecar is missing."""
        left, right = self.targets.sidecar, self.pool.sidecar
        if left is None or right is None:
            return "unverified"
        return "yes" if all(getattr(left, key) == getattr(right, key) for key in DECIDING) else "no"

    @property
    def random_labels(self) -> set[str] | None:
        """Labels whose images were drawn at random instead of being the nearest; None = all of them."""
        way = self.loop.way if self.loop else "nearest"
        return {"nearest": set(), "nearest_defects": {"PASS"}, "random": None}[way]

    @cached_property
    def nearest(self) -> pd.DataFrame:
        """The closest pair of every pool image found, indexed by its path."""
        if self.pairs is None:
            return pd.DataFrame(columns=["target_filepath", "target_label", "similarity", "distance"])
        ordered = self.pairs.sort_values("distance", kind="stable")
        return ordered.drop_duplicates("source_filepath").set_index("source_filepath")

    def drawn(self, label: str) -> bool:
        """Whether the images of a label were drawn at random."""
        return self.random_labels is None or label in self.random_labels

    @cached_property
    def by_label(self) -> Counter[str]:
        """Mined images by the label of the nearest weak sample; those drawn at random by their own."""
        near = self.nearest["target_label"].to_dict()
        return Counter(
            own if self.drawn(own) or path not in near else compared(near[path])
            for path, own in zip(self.mined or (), self.mined_labels, strict=True)
        )


def compared(label: str | float | None) -> str:
    """A label as it is compared; empty text for none."""
    return "" if pd.isna(label) else str(label).strip().upper()


def settings_of(spec: Path | None) -> dict[str, Any]:
    """The settings in a file; none of them when it is not there."""
    return dict(yaml.safe_load(spec.read_text(encoding="utf-8"))) if spec else {}


def has_vectors(side: Side) -> bool:
    """Whether the embeddings are in the file."""
    return EMBEDDING in side.columns
