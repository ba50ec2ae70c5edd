"""The action `dataset assemble`: the training CSV of an iteration, its provenance, and its validation."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field, model_validator

from tasks.action import ActionCode
from tasks.artifacts import write_json, write_text
from tasks.dataset.assembly import (
    PROVENANCE,
    Combined,
    combined,
    in_workspace_coordinates,
    provenance_of_base,
)
from tasks.dataset.headline import headline
from tasks.dataset.leakage import ImageSet, described, overlaps
from tasks.dataset.table import MANDATORY, is_pass, lighting_of, missing_images, read_table, row_files
from tasks.dataset.workspace import image_prefix
from tasks.errors import InputError, listed
from tasks.spec import PlainPath, ReadPath, SpecModel, WritePath

logger = logging.getLogger("deft")

MOST_SAMPLES = 20


class AssembleSpec(SpecModel):
    """What to assemble and where to write it (spec deft-loop 4)."""

    previous_csv: ReadPath
    """Iteration 1: the base training CSV; later: the combined CSV of the iteration before."""
    first: bool
    """Whether `previous_csv` is the base training CSV, its paths relative to the image root."""
    new_rows_csv: ReadPath
    """ChangeNet rows in workspace coordinates with a column `origin`: sdg or mined."""
    workspace: PlainPath
    images_dir: PlainPath
    train_yaml: ReadPath
    validation_csv: ReadPath
    kpi_csv: ReadPath
    iteration: int = Field(ge=1)
    results_dir: WritePath
    leakage_hash: bool = True
    """Whether leakage also compares what the image files hold."""

    @model_validator(mode="after")
    def _base_rows_once(self) -> AssembleSpec:
        if self.first != (self.iteration == 1):
            raise ValueError("first is true in iteration 1 and false later: base rows are added once")
        return self

    @property
    def combined_csv(self) -> Path:
        """The training CSV that this iteration trains on."""
        return self.results_dir / f"train_combined_iter{self.iteration}.csv"

    @property
    def provenance_csv(self) -> Path:
        """Where each of its rows came from."""
        return provenance_path(self.combined_csv)

    @property
    def merge_validation(self) -> Path:
        """What was checked and counted."""
        return self.results_dir / "merge_validation.json"


def provenance_path(combined_csv: Path) -> Path:
    """The provenance that lies beside a combined CSV."""
    return combined_csv.with_name(f"{combined_csv.stem}_provenance.csv")


@dataclass(frozen=True)
class Inputs:
    """The tables that an assembly reads; training rows are in workspace coordinates."""

    spec: AssembleSpec

    @cached_property
    def previous(self) -> ImageSet:
        """The training rows so far."""
        given = self._set("previous training CSV", self.spec.previous_csv, in_workspace=not self.spec.first)
        if not self.spec.first:
            return given
        prefix = image_prefix(self.spec.workspace, self.spec.images_dir)
        table = in_workspace_coordinates(given, self.spec.workspace, prefix)
        return ImageSet(given.name, table, self.spec.workspace, given.lighting)

    @cached_property
    def provenance(self) -> pd.DataFrame:
        """The provenance of the training rows so far; those of earlier rounds are of this source now."""
        if self.spec.first:
            return provenance_of_base(len(self.previous.table))
        file = provenance_path(self.spec.previous_csv)
        return read_table(file, PROVENANCE, "provenance").assign(source="previous_iter_train")

    @cached_property
    def new(self) -> ImageSet:
        """The new rows."""
        return self._set("new rows CSV", self.spec.new_rows_csv, True, (*MANDATORY, "origin"))

    @cached_property
    def validation(self) -> ImageSet:
        """The validation rows."""
        return self._set("validation set", self.spec.validation_csv, in_workspace=False)

    @cached_property
    def kpi(self) -> ImageSet:
        """The KPI rows."""
        return self._set("KPI set", self.spec.kpi_csv, in_workspace=False)

    def _set(
        self, name: str, file: Path, in_workspace: bool, columns: tuple[str, ...] = MANDATORY
    ) -> ImageSet:
        root = self.spec.workspace if in_workspace else self.spec.images_dir
        return ImageSet(name, read_table(file, columns, name), root, lighting_of(self.spec.train_yaml))

    def files(self) -> Iterator[Path]:
        """Every file beside the spec's own that decides the result."""
        if not self.spec.first:
            yield provenance_path(self.spec.previous_csv)
        for one in (self.previous, self.new):
            for files in row_files(one.table, one.root, one.lighting, "golden_path"):
                yield from files
        for one in (self.previous, self.new, self.validation, self.kpi):
            for files in one.input_files():
                yield from files


def assemble(spec: AssembleSpec) -> None:
    """Write the combined CSV, its provenance and `merge_validation.json`.

    Raises:
        InputError: an input is not what it must be; or the combined rows fail their validation, in
            which case only `merge_validation.json` is written, with the status `failed`.
    """
    inputs = Inputs(spec)
    rows = combined(inputs.previous, inputs.provenance, inputs.new, spec.iteration)
    report, problems = validation_report(spec, inputs, rows)
    if problems:
        write_json(spec.merge_validation, report)
        raise InputError(
            f"training CSV of iteration {spec.iteration} is not valid: {'; '.join(problems)}; "
            f"first rows: {listed(report['samples'], 5) or 'none'}; all in {spec.merge_validation}"
        )
    write_text(spec.combined_csv, rows.table.to_csv(index=False, lineterminator="\n"))
    write_text(spec.provenance_csv, rows.provenance.to_csv(index=False, lineterminator="\n"))
    write_json(spec.merge_validation, report)
    logger.info(
        "iteration %d trains on %d rows: %d before, %d new, %d duplicates dropped, %d labels repaired",
        spec.iteration,
        len(rows.table),
        rows.previous_rows,
        rows.new_rows,
        rows.dedup_dropped,
        rows.label_repairs,
    )


def validation_report(spec: AssembleSpec, inputs: Inputs, rows: Combined) -> tuple[dict[str, Any], list[str]]:
    """Check the combined rows; gives the report, and one line for every check that failed.

    Every image of every row exists, labels are not empty, both classes are there, there are new rows,
    and no row shows an image of the validation or the KPI set.
    """
    training = ImageSet("training CSV", rows.table, spec.workspace, inputs.previous.lighting)
    labels = rows.table["label"]
    unlabelled = [f"row {row + 2}: empty label" for row in range(len(labels)) if not labels.iloc[row]]
    missing = missing_images(rows.table, training.root, training.lighting)
    leaks = {one.name: overlaps(training, one, spec.leakage_hash) for one in (inputs.validation, inputs.kpi)}
    leaking = {name: len({found.left_row for found in pairs}) for name, pairs in leaks.items()}
    passes = int(is_pass(labels).sum())
    problems = [
        f"{len(unlabelled)} labels are empty" if unlabelled else "",
        f"{len(missing)} images do not exist" if missing else "",
        *(f"{count} rows show images of the {name} (leakage)" for name, count in leaking.items() if count),
        "label set with one class: PASS and defect rows are both needed"
        if passes in (0, len(labels))
        else "",
        "" if rows.new_rows else f"no new rows: all {rows.dedup_dropped} are in the training CSV already",
    ]
    problems = [problem for problem in problems if problem]
    samples = [*unlabelled, *missing]
    for other in (inputs.validation, inputs.kpi):
        samples += [described(found, training, other) for found in leaks[other.name]]
    report = {
        "status": "failed" if problems else "ok",
        "iteration": spec.iteration,
        "training_csv": spec.combined_csv,
        "validation_csv": spec.validation_csv,
        "kpi_csv": spec.kpi_csv,
        "rows_checked": len(labels),
        "previous_rows": rows.previous_rows,
        "new_rows": rows.new_rows,
        "dedup_dropped": rows.dedup_dropped,
        "label_repairs": rows.label_repairs,
        "missing_file_count": len(missing),
        "train_val_leakage_overlap_count": leaking[inputs.validation.name],
        "train_kpi_leakage_overlap_count": leaking[inputs.kpi.name],
        "problems": problems,
        "samples": samples[:MOST_SAMPLES],
        "label_counts": {str(label): int(count) for label, count in labels.value_counts().items()},
    }
    return report, problems


def _outputs(spec: AssembleSpec) -> dict[str, Path]:
    return {path.name: path for path in (spec.combined_csv, spec.provenance_csv, spec.merge_validation)}


ASSEMBLE = ActionCode(
    spec=AssembleSpec,
    run=assemble,
    folder=lambda spec: spec.results_dir,
    outputs=_outputs,
    headline=lambda spec: headline(spec.merge_validation, spec.provenance_csv),
    reads=lambda spec: Inputs(spec).files(),
)
