"""The output tree of a generator, ours or NVIDIA's (spec deft-loop 7.4): its files and their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.artifacts import read_json
from tasks.errors import StageFailed

RECONSTRUCTED = "reconstructed_image"
ORIGINAL = "original_image"
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp"})
_NAME = re.compile(r"(?:idx\d+_)?(?P<defect>[^+]+\+(?P<anomaly>.+))_(?P<index>\d+)")


@dataclass(frozen=True)
class GeneratedTree:
    """Where a generator leaves what; `root` holds `sdg/`."""

    root: Path

    @property
    def sdg(self) -> Path:
        """The folder of the pictures."""
        return self.root / "sdg"

    @property
    def amp(self) -> Path:
        """The folder of the placement masks."""
        return self.root / "amp"

    @property
    def result_csv(self) -> Path:
        """One row a sample."""
        return self.sdg / "SDG_result.csv"

    @property
    def manifest(self) -> Path:
        """Ours: the SHA-256 of every file, by its path from the root."""
        return self.sdg / "manifest.json"

    @property
    def testcase(self) -> Path:
        """One line a sample: what was to be generated."""
        return self.root / "testcase.jsonl"

    @property
    def allocation(self) -> Path:
        """How many samples of each defect were placed."""
        return self.root / "allocation.json"

    @property
    def request(self) -> Path:
        """Ours: how many were asked for."""
        return self.root / "allocation_request.json"

    def pictures(self, kind: str, light: str | None = None) -> Path:
        """The folder of `reconstructed_image` or `original_image`, of one lighting or the documented one."""
        return (self.sdg if light is None else self.sdg / "lighting" / light) / kind


@dataclass(frozen=True)
class SampleName:
    """The parts of `<T>+<A>_<idx>`."""

    defect: str
    anomaly: str


def sample_name(defect: str, index: int) -> str:
    """The name of a sample: its defect id and its number in the run, as the container pads it."""
    return f"{defect}_{index:05d}"


def parsed_name(name: str) -> SampleName | None:
    """The parts of a sample's name (also of `idx<n>_<T>+<A>_<idx>`), None when it is no such name."""
    found = _NAME.fullmatch(name)
    return SampleName(found["defect"], found["anomaly"]) if found else None


def counts_in(file: Path) -> dict[str, int]:
    """The counts by defect of an allocation or a request.

    Raises:
        InputError: no such file, or not JSON.
        StageFailed: it is not a mapping to counts of 0 or more.
    """
    content = read_json(file)
    if not isinstance(content, dict) or not all(type(n) is int and n >= 0 for n in content.values()):
        raise StageFailed(f"{file} is not a mapping: it must map defects to counts of 0 or more")
    return content


def pictures_in(folder: Path) -> Iterator[Path]:
    """The picture files directly in a folder, by name; none when there is no such folder."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return (file for file in files if file.suffix.lower() in PICTURES and not file.name.startswith("."))
