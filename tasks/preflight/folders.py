"""The data sets of an image-folder task: `train`, `validation`, `kpi` and `pool`, each `<label>/<file>`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks.artifacts import sha256_of
from tasks.classifier.spec import ClassifierSpec
from tasks.classifier.workspace import folder_rows
from tasks.dataset.workspace import BASELINE_SPEC
from tasks.errors import InputError
from tasks.images import unreadable
from tasks.preflight.sets import (
    BASE_SPEC,
    KPI,
    POOL,
    SPLITS,
    TRAINING,
    VALIDATION,
    Asset,
    Leak,
    Model,
    first_few,
    weights,
)
from tasks.preflight.subject import Outcome
from tasks.spec import load_spec

FOLDERS = {TRAINING: "train", VALIDATION: "validation", KPI: "kpi", POOL: "pool"}


@dataclass(frozen=True)
class FolderSets:
    """The sets below a workspace folder; `pool` may be absent."""

    root: Path
    refuses_pool_leaks = True

    @cached_property
    def _images(self) -> dict[str, list[Path]]:
        """The images of every set; raises `InputError` where one is absent, empty, or holds other files."""
        if not self.root.is_dir():
            raise InputError(f"workspace {self.root}: no such folder; give the folder that holds train/")
        found = {
            name: [self.root / row["filepath"] for row in folder_rows(self.root, folder)]
            for name, folder in FOLDERS.items()
        }
        empty = [FOLDERS[name] for name in SPLITS if not found[name]]
        if empty:
            raise InputError(
                f"workspace {self.root} has no images in {', '.join(empty)}/<label>/; put them there"
            )
        return {name: files for name, files in found.items() if name in SPLITS or self._folder(name).is_dir()}

    def _folder(self, name: str) -> Path:
        return self.root / FOLDERS[name]

    @property
    def names(self) -> tuple[str, ...]:
        """The sets whose folder is there."""
        return tuple(self._images)

    def images(self, name: str) -> list[Path]:
        """The images of a set, by path."""
        return self._images[name]

    def labels(self, name: str) -> list[str]:
        """The folder name of every image."""
        return [file.parent.name for file in self.images(name)]

    def repaired(self, name: str) -> int:
        """None: a label is the name of its folder."""
        return 0

    @property
    def files(self) -> dict[str, Path]:
        """The folder of every set, and the base spec."""
        return {
            BASE_SPEC: self.root / BASELINE_SPEC,
            **{name: self._folder(name) for name in self.names},
        }

    @cached_property
    def _spec(self) -> ClassifierSpec:
        words = [f"results_dir={self.root / 'results'}"]
        return load_spec(ClassifierSpec, self.root / BASELINE_SPEC, words)

    @property
    def model(self) -> Model:
        """What the base spec says; raises `InputError` when it is not a classifier's."""
        spec = self._spec
        side = spec.dataset.image_size
        return Model(
            name=spec.model.type,
            num_epochs=spec.train.num_epochs,
            batch_size=spec.dataset.batch_size,
            workers=1,
            image_size=(side, side),
            images_per_row=1,
            rows=(("learning rate", f"{spec.train.optim.lr:g}"), ("seed", str(spec.train.seed))),
        )

    def missing(self, name: str) -> list[str]:
        """The files of a set that are no images."""
        return [f"{file}: not an image" for file in unreadable(self.images(name))]

    def class_problem(self, name: str) -> str:
        """A set with one label, or with labels that the training set does not show."""
        labels = set(self.labels(name))
        if len(labels) < 2:
            return f"{name}: all rows have the label {next(iter(labels), 'none')}; add rows of another"
        return self._unknown_labels(name)

    def _unknown_labels(self, name: str) -> str:
        unknown = sorted(set(self.labels(name)) - set(self.labels(TRAINING)))
        return f"{name}: the training set has no row of {', '.join(unknown)}" if unknown else ""

    def pool_problem(self) -> tuple[Outcome, str]:
        """A pool that is there must hold readable images."""
        if POOL not in self.names:
            return "not_applicable", "no pool: the loop has nothing to mine"
        if not self.images(POOL):
            return "block", f"{self._folder(POOL)} holds no <label>/<image>; fill it or remove it"
        bad = [*self.missing(POOL), *filter(None, [self._unknown_labels(POOL)])]
        return ("block", bad[0]) if bad else ("ok", f"{len(self.images(POOL))} readable images")

    @cached_property
    def _hashes(self) -> dict[str, list[str]]:
        return {name: [sha256_of(file) for file in files] for name, files in self._images.items()}

    def leak(self, left: str, right: str) -> Leak:
        """The images of one set whose content is in the other."""
        first: dict[str, Path] = {}
        for digest, file in zip(self._hashes[right], self.images(right), strict=True):
            first.setdefault(digest, file)
        pairs = [
            f"{file.relative_to(self.root)} = {first[digest].relative_to(self.root)}"
            for digest, file in zip(self._hashes[left], self.images(left), strict=True)
            if digest in first
        ]
        return Leak(left, right, len(pairs), first_few(pairs))

    def places(self) -> dict[str, Path]:
        """The workspace and the folders of its sets."""
        return {"workspace": self.root, **self.files}

    def backbone(self, *, offline: bool, in_image: bool) -> Asset:
        """Random weights, or a local snapshot."""
        path = self._spec.model.pretrained_path
        if path is None:
            return Asset("backbone", self._spec.model.type, "ok", "random weights, as the spec says")
        return weights("backbone", str(path), offline=offline, hub=False)

    def assets(self, *, offline: bool, in_image: bool) -> list[Asset]:
        """None: the loop mines with the features of its own model and generates nothing."""
        return []
