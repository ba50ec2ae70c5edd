"""The pairs of a generated tree, and whether the tree holds what it promises (spec deft-loop 7.4, 7.5)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from tasks.anomalygen.spec import IngestSpec
from tasks.anomalygen.tree import (
    ORIGINAL,
    RECONSTRUCTED,
    GeneratedTree,
    counts_in,
    parsed_name,
    pictures_in,
)
from tasks.artifacts import existing_file, read_json, sha256_of
from tasks.dataset.table import PASS, Lighting, lighting_of, normalised_label, read_table
from tasks.errors import InputError, StageFailed, listed

GUARDRAIL = "guardrail_pass"
PASSED = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
SIDES = ((RECONSTRUCTED, "ng"), (ORIGINAL, "ok"))


@dataclass(frozen=True)
class Pair:
    """A generated sample: its name in the tree, its label and object name, and whether it was admitted."""

    name: str
    defect: str
    label: str
    object_name: str
    passed: bool


@dataclass(frozen=True)
class Ingestion:
    """A tree that is being read; every property checks what it reads, nothing is written."""

    spec: IngestSpec

    @property
    def tree(self) -> GeneratedTree:
        """The generator's output."""
        return GeneratedTree(self.spec.sdg_dir)

    @cached_property
    def lighting(self) -> Lighting:
        """How the files of the data set are named."""
        return lighting_of(self.spec.train_yaml)

    def folder(self, side: str) -> Path:
        """Where the `ng` or `ok` pictures go."""
        return self.spec.images_out / f"synthetic_{self.spec.name}_{side}"

    @cached_property
    def pairs(self) -> list[Pair]:
        """The samples of `SDG_result.csv`, each with both pictures.

        Raises:
            InputError: there is no `SDG_result.csv`, or it has no rows.
            StageFailed: it was not screened, names are not `<T>+<A>_<idx>`, samples or pictures are
                unpaired, or pictures are not the ones of the manifest.
        """
        table = read_table(self.tree.result_csv, (), "generator output")
        if GUARDRAIL not in table:
            raise StageFailed(
                f"{self.tree.result_csv} has no column {GUARDRAIL}: its guard-rail did not run, "
                "the output is unscreened; generate again with the guard-rail working"
            )
        pairs = [
            self._pair(name, value, row)
            for row, (name, value) in enumerate(zip(self._names(table), table[GUARDRAIL], strict=True), 2)
        ]
        for key in ("name", "object_name"):
            twice = [
                item for item, count in Counter(getattr(pair, key) for pair in pairs).items() if count > 1
            ]
            if twice:
                raise StageFailed(f"{self.tree.result_csv}: several rows for one sample: {listed(twice)}")
        self._check_pairing([pair.name for pair in pairs])
        self._check_manifest()
        return pairs

    def _names(self, table: pd.DataFrame) -> list[str]:
        """The sample names; the container names the picture with a path of its own."""
        if "output_filename" in table:
            return [Path(file).stem for file in table["output_filename"]]
        if "name" in table:
            return table["name"].tolist()
        raise InputError(
            f"{self.tree.result_csv} lacks the column output_filename; it has {', '.join(table.columns)}"
        )

    def _pair(self, name: str, passed: str, row: int) -> Pair:
        parts = parsed_name(name)
        label = normalised_label(parts.anomaly) if parts else PASS
        if parts is None or label == PASS:
            raise StageFailed(
                f"{self.tree.result_csv} row {row}: {name!r} is not <texture>+<defect>_<number>; "
                "the label of a pair is read from it"
            )
        if passed.strip().lower() not in PASSED:
            raise StageFailed(
                f"{self.tree.result_csv} row {row}: {GUARDRAIL} of {name} is {passed!r}, not 0 or 1"
            )
        return Pair(name, parts.defect, label, object_name(name), PASSED[passed.strip().lower()])

    def _check_pairing(self, names: Sequence[str]) -> None:
        has = {f"row in {self.tree.result_csv.name}": set(names)}
        has |= {kind: set(self.pictures(kind)) for kind, _ in SIDES}
        unpaired = [
            f"{name} (no {', no '.join(lacking)})"
            for name in sorted(set().union(*has.values()))
            if (lacking := [what for what, known in has.items() if name not in known])
        ]
        if unpaired:
            raise StageFailed(
                f"{len(unpaired)} samples of {self.tree.sdg} are unpaired: {listed(unpaired)}; "
                "a sample needs its row and both pictures"
            )

    def _check_manifest(self) -> None:
        if not self.tree.manifest.is_file():
            return
        hashes = read_json(self.tree.manifest)
        changed = [
            name
            for name, digest in hashes.items()
            if not (file := self.tree.root / name).is_file() or sha256_of(file) != digest
        ]
        if changed:
            raise StageFailed(
                f"{len(changed)} files of {self.tree.root} are not what {self.tree.manifest.name} says: "
                f"{listed(changed)}; generate again"
            )

    def pictures(self, kind: str, light: str | None = None) -> dict[str, Path]:
        """The pictures of one side by sample name; raises `StageFailed` when a name has two files."""
        files = list(pictures_in(self.tree.pictures(kind, light)))
        by_name = {file.stem: file for file in files}
        if len(by_name) < len(files):
            raise StageFailed(f"{self.tree.pictures(kind, light)} holds two pictures of one name; remove one")
        return by_name

    @cached_property
    def sources(self) -> dict[tuple[str, str], list[Path]]:
        """For every side and sample its file per lighting: that lighting's own, else the one picture.

        Raises:
            StageFailed: a lighting has a folder that lacks a sample.
        """
        found: dict[tuple[str, str], list[Path]] = {}
        for kind, side in SIDES:
            common = self.pictures(kind)
            for light in self.lighting.names or (None,):
                own = self.pictures(kind, light) if light else {}
                lacking = [pair.name for pair in self.pairs if own and pair.name not in own]
                if lacking:
                    raise StageFailed(
                        f"{self.tree.pictures(kind, light)} lacks {len(lacking)} samples: {listed(lacking)}"
                    )
                for pair in self.pairs:
                    found.setdefault((side, pair.name), []).append((own or common)[pair.name])
        return found

    def check_allocation(self) -> None:
        """Check what was placed against what was generated and what was asked for.

        Raises:
            StageFailed: `allocation.json` is missing though required, not counts, all 0, or other than
                the rows; or too little was placed.
        """
        rows = Counter(pair.defect.lower() for pair in self.pairs)
        file = self.tree.allocation
        if file.is_file():
            placed = Counter({defect.lower(): count for defect, count in counts_in(file).items()})
            if not placed.total():
                raise StageFailed(f"{file}: nothing was placed; give the generator other clean pictures")
            differing = [
                f"{defect}: {placed[defect]} placed, {rows[defect]} generated"
                for defect in sorted(placed | rows)
                if placed[defect] != rows[defect]
            ]
            if differing:
                raise StageFailed(f"{file} and {self.tree.result_csv} disagree: {listed(differing)}")
        elif self.spec.require_allocation:
            raise StageFailed(f"{file} is missing; for pregenerated pairs give require_allocation=false")
        requested = self._requested()
        if requested and rows.total() < self.spec.min_allocation_ratio * requested:
            raise StageFailed(
                f"{self.tree.root}: {rows.total()} of {requested} samples asked for were placed, less than "
                f"min_allocation_ratio {self.spec.min_allocation_ratio}; give more clean pictures"
            )

    def _requested(self) -> int | None:
        given = self.spec.requested
        if isinstance(given, int):
            return given
        if given is not None:
            return sum(counts_in(existing_file(Path(given).expanduser(), "requested")).values())
        return sum(counts_in(self.tree.request).values()) if self.tree.request.is_file() else None

    @property
    def admitted(self) -> list[Pair]:
        """The pairs that passed the guard-rail; raises `StageFailed` when none did."""
        passed = [pair for pair in self.pairs if pair.passed]
        if not passed:
            raise StageFailed(
                f"{self.tree.result_csv}: the guard-rail blocked all {len(self.pairs)} samples; "
                "give the generator other clean pictures or defects"
            )
        return passed


def object_name(name: str) -> str:
    """The sample's name as an object name: `+` becomes `--`, other unsafe characters `-`."""
    return re.sub(r"[^\w.@-]", "-", name.replace("+", "--"))
