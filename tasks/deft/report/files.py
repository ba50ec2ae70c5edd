"""The files of a loop's run folder as a report reads them: what is gone or broken is None, never an error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from pydantic import ValidationError

from tasks.artifacts import existing_file, read_json, sha256_of
from tasks.dataset.specs import read_spec
from tasks.dataset.table import Lighting, lighting_of, normalised_label, read_table
from tasks.deft.stages import BASELINE, FINAL
from tasks.deft.state import STATE_FILE, DeftState, Phase
from tasks.errors import DeftError, InputError
from tasks.evaluation.contract import Candidate, MetricContract, MetricResult
from tasks.evaluation.kpi import FarAtRecall, far_at_recall
from tasks.gap_analysis.scores import BoolArray, FloatArray, ScoredRows, read_scores
from tasks.spec import explained

UNREADABLE = (DeftError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError)
"""What reading a file of a run may raise that was deleted, cut short, or written by another version."""

T = TypeVar("T")


def attempt(read: Callable[[], T]) -> T | None:
    """What `read` gives, or None where the file is not there or not what it should be."""
    try:
        return read()
    except UNREADABLE:
        return None


@dataclass(frozen=True)
class Scored:
    """The scores of one phase on the KPI set; equal files give equal ones.

    Attributes:
        sha256: of the inference CSV, by which charts of it are kept.
        kpi: our own figures; None where the set lacks PASS or defect samples.
    """

    sha256: str
    rows: ScoredRows = field(compare=False)
    kpi: FarAtRecall | None = field(compare=False)

    @property
    def scores(self) -> FloatArray:
        """Siamese scores, one for each sample."""
        return self.rows.scores

    @property
    def is_pass(self) -> BoolArray:
        """For every sample whether it is labelled PASS."""
        return self.rows.is_pass


@lru_cache(maxsize=32)
def _scored(path: Path, sha256: str) -> Scored:
    rows = read_scores(path, required=())
    return Scored(sha256, rows, attempt(lambda: far_at_recall(rows.scores, rows.is_pass)))


@lru_cache(maxsize=64)
def _column(path: Path, name: str, sha256: str) -> tuple[str, ...]:
    return tuple(read_table(path, (name,))[name])


@lru_cache(maxsize=64)
def _parquet(path: Path, sha256: str, columns: tuple[str, ...]) -> pd.DataFrame:
    table: pd.DataFrame = pq.read_table(path, columns=list(columns)).to_pandas()
    return table


@dataclass(frozen=True)
class LoopFiles:
    """A run of the loop on disk.

    Attributes:
        folder: the run folder as it lies now; files that the state names below `state.results_dir` are
            looked for here, so that a copied run can be read.
    """

    folder: Path
    state: DeftState

    @classmethod
    def of(cls, folder: Path) -> LoopFiles:
        """Read the state of a run folder; it is not changed.

        Raises:
            InputError: there is no state, or it is not one.
        """
        file = existing_file(folder / STATE_FILE, "state of a loop")
        try:
            return cls(folder.absolute(), DeftState.model_validate(read_json(file)))
        except ValidationError as error:
            raise InputError(f"{file}: {explained(error)}; it is no state of a loop") from error

    @cached_property
    def contract(self) -> MetricContract:
        """What the loop must reach."""
        return MetricContract.of(self.state.metric_contract)

    @cached_property
    def measured(self) -> dict[str, MetricResult]:
        """The metric results of the phases that were evaluated, oldest first."""
        return {
            label: MetricResult.model_validate(phase.metric_result)
            for label, phase in self.state.measured().items()
        }

    @cached_property
    def iterations(self) -> list[str]:
        """The labels of the iterations that have begun, in order."""
        begun = {event.iter for event in self.state.events} | set(self.state.iterations)
        numbers = [label.removeprefix("iter") for label in begun - {BASELINE, FINAL}]
        return [f"iter{number}" for number in sorted(int(text) for text in numbers if text.isdigit())]

    @property
    def training_phases(self) -> list[str]:
        """The baseline and the iterations that have begun, in order."""
        return [BASELINE, *self.iterations]

    @cached_property
    def ranked(self) -> list[str]:
        """The measured phases, best first: feasible first, then the metric, then the earlier."""
        left = dict(self.measured)
        ranked: list[str] = []
        while left:
            best = self.contract.choose([Candidate(result) for result in left.values()]).result
            ranked.append(next(label for label, result in left.items() if result is best))
            del left[ranked[-1]]
        return ranked

    @property
    def best(self) -> str | None:
        """The label of the best measured phase."""
        return self.ranked[0] if self.ranked else None

    @property
    def settings(self) -> dict[str, Any]:
        """What the person chose."""
        found = self.state.config.get("settings")
        return found if isinstance(found, dict) else {}

    def place(self, path: Path | str | None) -> Path | None:
        """Where a file of the state lies now; None where it names none."""
        if not path:
            return None
        given = Path(path)
        if self.folder != self.state.results_dir and given.is_relative_to(self.state.results_dir):
            return self.folder / given.relative_to(self.state.results_dir)
        return given

    def shown(self, path: Path | str | None) -> str | None:
        """A path for a person: relative to the run folder where it lies in it."""
        place = self.place(path)
        if place is None:
            return None
        return str(place.relative_to(self.folder) if place.is_relative_to(self.folder) else place)

    @property
    def root(self) -> Path | None:
        """The workspace, which paths of training rows start from."""
        spec = self.state.config.get("specs_file")
        return Path(spec).parent.parent if spec else None

    @property
    def images(self) -> Path | None:
        """The image root, which paths of the KPI set start from."""
        found = self.state.config.get("images_dir")
        return Path(found) if found else None

    @cached_property
    def lighting(self) -> Lighting | None:
        """The lightings of the product; pictures are shown in the first."""
        spec = self.state.config.get("specs_file")
        return attempt(lambda: lighting_of(Path(spec))) if spec else None

    def scored(self, label: str) -> Scored | None:
        """The scores of a phase on the KPI set."""
        path = self.place(self.state.phase(label).inference_csv)
        return attempt(lambda: _scored(path, sha256_of(path))) if path else None

    def column(self, path: Path | str | None, name: str) -> tuple[str, ...] | None:
        """One column of a CSV as text."""
        place = self.place(path)
        return attempt(lambda: _column(place, name, sha256_of(place))) if place else None

    def parquet(self, path: Path | str | None, *columns: str) -> pd.DataFrame | None:
        """Columns of a parquet file; not to be changed."""
        place = self.place(path)
        return attempt(lambda: _parquet(place, sha256_of(place), columns)) if place else None

    def json(self, path: Path | str | None) -> dict[str, Any] | None:
        """The object in a JSON file."""
        place = self.place(path)
        found = attempt(lambda: read_json(place)) if place else None
        return found if isinstance(found, dict) else None

    def spec(self, label: str) -> dict[str, Any]:
        """The training spec of a phase, or that of the workspace; empty where neither can be read."""
        for path in (self.place(self.state.phase(label).training_spec), self.state.config.get("specs_file")):
            found = attempt(partial(read_spec, Path(path))) if path else None
            if found is not None:
                return found
        return {}

    def rows_of(self, label: str) -> int | None:
        """How many rows a phase trains on, as soon as that is known."""
        phase = self.state.phase(label)
        if phase.training_rows is not None:
            return phase.training_rows
        if label == BASELINE:
            labels = self.column(self.state.config.get("training_csv"), "label")
            return None if labels is None else len(labels)
        report = self.merge(phase)
        return None if report is None else _whole(report.get("rows_checked"))

    def merge(self, phase: Phase) -> dict[str, Any] | None:
        """What the assembly of the training set has found."""
        return self.json(phase.merge_validation_report)

    def origins(self, label: str) -> dict[str, int] | None:
        """Training rows of a phase by where they come from: base, mined, sdg."""
        if label == BASELINE:
            rows = self.rows_of(label)
            return None if rows is None else {"base": rows}
        found = self.column(self.state.phase(label).provenance_csv, "origin")
        if found is None:
            return None
        names, counts = np.unique(np.array(found, dtype=str), return_counts=True)
        return {str(name): int(count) for name, count in zip(names, counts, strict=True)}

    @cached_property
    def kpi_labels(self) -> tuple[str, ...] | None:
        """The labels of the KPI set: `PASS` or the defect's name in small letters."""
        found = self.column(self.state.config.get("kpi_test_csv"), "label")
        return None if found is None else tuple(map(normalised_label, found))


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
