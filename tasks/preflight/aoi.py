"""The data sets of an AOI workspace: ChangeNet CSVs, mining pool, finished synthetic pairs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from tasks.anomalygen.pairs import Ingestion
from tasks.anomalygen.spec import IngestSpec
from tasks.changenet.spec import ChangeNetSpec
from tasks.dataset.leakage import ImageSet, Overlap, overlaps
from tasks.dataset.specs import read_spec, training_spec
from tasks.dataset.table import check_classes, missing_images, normalised_label, read_table, row_files
from tasks.dataset.workspace import Workspace, open_workspace
from tasks.errors import DeftError, InputError
from tasks.mining.pool import read_pool, resolve_pool
from tasks.preflight import aoi_assets
from tasks.preflight.sets import (
    BASE_SPEC,
    KPI,
    PAIRS,
    POOL,
    TRAINING,
    VALIDATION,
    Asset,
    Leak,
    Model,
    first_few,
)
from tasks.preflight.subject import Outcome
from tasks.spec import load_spec


@dataclass(frozen=True)
class Pictures(ImageSet):
    """An image set that knows its files themselves, one a row."""

    files: tuple[Path, ...] = ()

    def input_files(self) -> list[list[Path]]:
        """Per row its one file."""
        return [[file] for file in self.files]


@dataclass(frozen=True)
class AoiSets:
    """The sets of a workspace folder; `settings` are those of the loop, empty when it is off."""

    root: Path
    settings: Mapping[str, Any]
    refuses_pool_leaks = False

    @cached_property
    def space(self) -> Workspace:
        """The opened workspace; raises `InputError` naming what it lacks."""
        return open_workspace(self.root)

    @cached_property
    def _tables(self) -> dict[str, ImageSet]:
        space = self.space
        files = {TRAINING: space.training_csv, VALIDATION: space.validation_csv, KPI: space.kpi_csv}
        return {
            name: ImageSet(name, read_table(file, what=name), space.images_dir, space.lighting)
            for name, file in files.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Training, validation and KPI set, the pool and finished pairs where there are some."""
        return tuple(name for name in self.files if name != BASE_SPEC)

    def _written(self, name: str) -> list[str]:
        if name == POOL:
            return [row.get("label", "") for row in self._pool_rows]
        if name == PAIRS:
            return [pair.label for pair in self._pairs.admitted]
        return [str(label) for label in self._tables[name].table["label"]]

    def labels(self, name: str) -> list[str]:
        """The labels as they are read: `PASS`, or a defect's name in lower case."""
        return [normalised_label(label) for label in self._written(name)]

    def repaired(self, name: str) -> int:
        """Rows whose label is written otherwise."""
        return sum(label != normalised_label(label) for label in self._written(name))

    @property
    def files(self) -> dict[str, Path]:
        """The CSVs, the base spec, and the folder of finished pairs."""
        space = self.space
        found = {
            BASE_SPEC: space.baseline_spec,
            TRAINING: space.training_csv,
            VALIDATION: space.validation_csv,
            KPI: space.kpi_csv,
        }
        if space.pool_csv:
            found[POOL] = space.pool_csv
        if self._pregenerated:
            found[PAIRS] = self._pregenerated
        return found

    def images(self, name: str) -> list[Path]:
        """Test images, then golden ones, all lightings, in the order of the rows; of a pair both sides."""
        if name == POOL:
            return [*chain(*self._pool_files)]
        if name == PAIRS:
            return self._pair_files
        one = self._tables[name]
        columns = (row_files(one.table, one.root, one.lighting, key) for key in ("input_path", "golden_path"))
        return [*chain(*chain(*columns))]

    @cached_property
    def spec(self) -> ChangeNetSpec:
        """The spec of a training on the base set; raises `InputError` when the trainer would refuse it."""
        space = self.space
        base = read_spec(space.baseline_spec)
        values = training_spec(base, space, space.training_csv, space.images_dir, space.results)
        try:
            return load_spec(ChangeNetSpec, values)
        except InputError as error:
            raise InputError(f"base spec {space.baseline_spec}: {error}") from error

    @property
    def model(self) -> Model:
        """What the base spec says of model and training."""
        spec = self.spec
        return Model(
            name=spec.model.backbone.type,
            num_epochs=spec.train.num_epochs,
            batch_size=spec.data.batch_size,
            workers=spec.data.workers,
            image_size=(spec.data.image_height, spec.data.image_width),
            images_per_row=2 * spec.data.lights,
            rows=(
                ("lightings", ", ".join(spec.data.lighting.names) or "one image without suffix"),
                ("image extension", spec.data.image_ext),
                ("difference", f"{spec.model.classify.difference_module}, loss {spec.train.classify.loss}"),
                ("learning rate", f"{spec.train.optim.lr:g}"),
                ("seed", str(spec.train.seed)),
            ),
        )

    def missing(self, name: str) -> list[str]:
        """Images of the rows of a CSV that do not exist; pool and pairs have a check of their own."""
        one = self._tables.get(name)
        return missing_images(one.table, one.root, one.lighting) if one else []

    def class_problem(self, name: str) -> str:
        """A set that has only PASS rows or only defects."""
        try:
            check_classes(self.labels(name), name)
        except InputError as error:
            return str(error)
        return ""

    def pool_problem(self) -> tuple[Outcome, str]:
        """Whether every pool row has one readable image (and golden), and every finished pair both sides."""
        said = []
        try:
            if self.space.pool_csv:
                said.append(f"pool: {len(self._pool_files)} rows, each with one readable image")
            if self._pregenerated:
                count, admitted = len(self._pairs.pairs), len(self._pairs.admitted)
                self._pairs.check_allocation()
                said.append(f"pairs: {count} matched by base name, {admitted} passed the guard-rail")
        except DeftError as error:
            return "block", str(error)
        return ("ok", "; ".join(said)) if said else ("not_applicable", "no pool: synthetic rows only")

    def leak(self, left: str, right: str) -> Leak:
        """The rows of one set that show images of the other, by any key of `tasks.dataset.leakage`."""
        found = overlaps(self._image_set(left), self._image_set(right))
        samples = first_few([self._in_words(one, left, right) for one in found])
        return Leak(left, right, len({one.left_row for one in found}), samples)

    def _in_words(self, overlap: Overlap, left: str, right: str) -> str:
        file = self._image_set(left).input_files()[overlap.left_row][0]
        place = f"row {overlap.left_row + 2} ({file.name})"
        return f"{left} {place} = {right} row {overlap.right_row + 2} by {'+'.join(overlap.keys)}"

    def _image_set(self, name: str) -> ImageSet:
        if name in self._tables:
            return self._tables[name]
        files = [pair[0] for pair in self._pool_files] if name == POOL else self._pair_files
        table = pd.DataFrame({"filepath": [*map(str, files)]})
        return Pictures(name, table, self.space.images_dir, self.space.lighting, tuple(files))

    @cached_property
    def _pool_rows(self) -> list[dict[str, str]]:
        assert self.space.pool_csv is not None
        return read_pool(self.space.pool_csv)

    @cached_property
    def _pool_files(self) -> list[tuple[Path, Path]]:
        """Image and golden of every pool row; what mining would write goes to a folder that is removed."""
        pool = self.space.pool_csv
        assert pool is not None
        with tempfile.TemporaryDirectory(prefix="deft-preflight-") as folder:
            stem = Path(folder) / "pool"
            summary = resolve_pool(pool, self.space.images_dir, self.space.lighting, stem)
            table = pq.read_table(summary.parquet, columns=["filepath", "golden_filepath"])
        columns = (table[name].to_pylist() for name in table.column_names)
        return [(Path(image), Path(golden)) for image, golden in zip(*columns, strict=True)]

    @property
    def _pregenerated(self) -> Path | None:
        given = self.settings.get("pregenerated_dir")
        wanted = self.settings.get("sdg_source") == "pregenerated"
        return Path(given) if given and wanted else None

    @cached_property
    def _pairs(self) -> Ingestion:
        """The finished pairs as the ingest stage reads them; the places to write are named, not made."""
        assert self._pregenerated is not None
        space = self.space
        spec = IngestSpec(
            sdg_dir=self._pregenerated,
            workspace=space.root,
            train_yaml=space.baseline_spec,
            images_out=space.results,
            name="preflight",
            results_dir=space.results,
            require_allocation=False,
        )
        return Ingestion(spec)

    @property
    def _pair_files(self) -> list[Path]:
        return list(dict.fromkeys(chain(*self._pairs.sources.values())))

    def places(self) -> dict[str, Path]:
        """Workspace, image root, CSVs and what else is read."""
        return {"workspace": self.space.root, "image root": self.space.images_dir, **self.files}

    def backbone(self, *, offline: bool, in_image: bool) -> Asset:
        """The weights that the spec names."""
        return aoi_assets.backbone(self.spec, offline=offline, in_image=in_image)

    def assets(self, *, offline: bool, in_image: bool) -> list[Asset]:
        """Generator and encoder of the loop."""
        found = aoi_assets.generator(self.space, self.settings, offline=offline)
        return [*found, aoi_assets.encoder(self.settings, offline=offline)]
