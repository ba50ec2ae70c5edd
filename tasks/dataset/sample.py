"""The sample workspace: rendered boards of three products, as an inspection line would photograph them.

The base training set knows some of the defects only. The KPI set has all of them, and so has the mining
pool; a loop that mines the pool for the look-alikes of its weak samples gets better.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.dataset.building import Row, new_folder, save_image, write_sets
from tasks.dataset.canvas import LIGHTS
from tasks.dataset.rendering import DEFECTS, KINDS, Capture, Part, defects_of, render
from tasks.dataset.specs import baseline_spec
from tasks.dataset.table import PASS, Lighting
from tasks.dataset.workspace import (
    KPI_CSV,
    POOL_CSV,
    TRAINING_CSV,
    VALIDATION_CSV,
    Workspace,
    open_workspace,
)

POSITIONS = 50
"""Parts on a board."""

PRODUCTS = {
    "control": (0.08, 0.30, 0.16),
    "sensor": (0.07, 0.18, 0.36),
    "power": (0.10, 0.24, 0.10),
}
"""Each product with the colour of its boards."""

KIND_SHARES = {"resistor": 0.35, "capacitor": 0.3, "transistor": 0.15, "ic": 0.2}
BATCH = 40
IMAGE_EXT = ".jpg"


@dataclass(frozen=True)
class Population:
    """A data set to make: how many rows, which share of them is defective, and by which defects."""

    rows: int
    defect_share: float
    defects: tuple[str, ...] = DEFECTS


@dataclass(frozen=True)
class SampleSizes:
    """The populations of a sample workspace; `known` defects are all that the base sets show."""

    known: tuple[str, ...] = ("missing", "shift", "bridge")
    training: int = 600
    validation: int = 200
    kpi: int = 500
    pool: int = 1500
    training_defects: float = 0.2
    kpi_defects: float = 0.2
    pool_defects: float = 0.3
    severity: tuple[float, float] = (0.7, 1.15)
    """Least and greatest strength of a defect; 1 is typical."""
    crop: int = 64

    def populations(self) -> dict[str, Population]:
        """By the path of the CSV."""
        return {
            TRAINING_CSV: Population(self.training, self.training_defects, self.known),
            VALIDATION_CSV: Population(self.validation, self.training_defects, self.known),
            KPI_CSV: Population(self.kpi, self.kpi_defects),
            POOL_CSV: Population(self.pool, self.pool_defects),
        }


@dataclass(frozen=True)
class Shot:
    """A crop to render: the part, the photograph, and the file without lighting and extension."""

    part: Part
    capture: Capture
    stem: Path


def write_sample_workspace(
    folder: Path,
    seed: int = 0,
    sizes: SampleSizes | None = None,
    lights: Sequence[str] = LIGHTS[:2],
    num_epochs: int = 10,
) -> Workspace:
    """Render a workspace into a new folder; the same arguments give the same files.

    No board is in two sets. Golden references are shared by the boards of a product.

    Raises:
        InputError: the folder exists and holds something.
    """
    sizes = sizes or SampleSizes()
    rng = np.random.default_rng(seed)
    designs = {product: _design(colour, rng) for product, colour in PRODUCTS.items()}
    lighting = Lighting(tuple(lights), IMAGE_EXT)
    with new_folder(folder) as root:
        images = root / "images"
        shots = [
            Shot(part, Capture(), images / _golden_folder(product) / name)
            for product, design in designs.items()
            for name, part in design.items()
        ]
        serial = itertools.count(1)
        sets: dict[str, list[Row]] = {}
        for name, population in sizes.populations().items():
            rows, crops = _rows(population, designs, serial, sizes.severity, rng)
            sets[name] = rows
            shots += [
                Shot(part, capture, images / row["input_path"] / row["object_name"])
                for row, (part, capture) in zip(rows, crops, strict=True)
            ]
        _write_images(shots, lighting, sizes.crop)
        write_sets(root, sets, baseline_spec(lights, IMAGE_EXT, sizes.crop, num_epochs))
    return open_workspace(folder)


def _golden_folder(product: str) -> str:
    return f"golden/images/{product}"


def _design(colour: tuple[float, float, float], rng: np.random.Generator) -> dict[str, Part]:
    """The parts of a product by object name, such as `R12@1`."""
    kinds = rng.choice(list(KIND_SHARES), size=POSITIONS, p=list(KIND_SHARES.values()))
    return {
        f"{KINDS[kind].designator}{number}@1": Part(
            kind=str(kind),
            scale=float(rng.uniform(0.93, 1.06)),
            quarter_turns=int(rng.integers(4)),
            marking=_marking(str(kind), rng),
            board=colour,
            traces=(float(rng.uniform(-30, 30)), float(rng.choice([-1, 1]) * rng.uniform(24, 30))),
            via=(float(rng.choice([-1, 1]) * rng.uniform(24, 28)), float(rng.uniform(20, 28))),
            phase=float(rng.uniform(0, 6)),
        )
        for number, kind in enumerate(kinds, start=1)
    }


def _marking(kind: str, rng: np.random.Generator) -> str:
    return "".join(map(str, rng.integers(0, 10, size=5 if kind == "ic" else 3)))


def _rows(
    population: Population,
    designs: dict[str, dict[str, Part]],
    serial: Iterator[int],
    severity: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[list[Row], list[tuple[Part, Capture]]]:
    """The rows of one set, on boards of its own, each with its part and photograph."""
    defective = max(1, round(population.rows * population.defect_share))
    chosen = set(rng.permutation(population.rows)[:defective].tolist())
    defects = itertools.cycle(population.defects)
    rows: list[Row] = []
    crops: list[tuple[Part, Capture]] = []
    while len(rows) < population.rows:
        number = next(serial)
        product = list(designs)[number % len(designs)]
        gain = float(rng.uniform(0.9, 1.08))
        for name, part in designs[product].items():
            if len(rows) == population.rows:
                break
            label = PASS
            if len(rows) in chosen:
                label = next(defect for defect in defects if defect in defects_of(part.kind))
            rows.append(_row(product, f"{product}_{number:04d}", name, part, label))
            crops.append((part, _capture(part, label, gain, severity, rng)))
    return rows, crops


def _row(product: str, board: str, name: str, part: Part, label: str) -> Row:
    return {
        "input_path": board,
        "golden_path": _golden_folder(product),
        "label": label,
        "object_name": name,
        "project": product,
        "boardname": board,
        "comp_type_2": part.kind,
        "mpass_mfail": "mpass" if label == PASS else "mfail",
        "is_valid": "1",
        "comp_name": name.partition("@")[0],
        "part_type": f"{part.kind}_{part.marking}",
        "number_of_pins": str(KINDS[part.kind].pins),
        "description": f"{part.kind} on {product} board",
        "comp_type_1": "chip" if KINDS[part.kind].pins == 2 else "leaded",
    }


def _capture(
    part: Part, label: str, gain: float, severity: tuple[float, float], rng: np.random.Generator
) -> Capture:
    """A photograph with the variation of a line that is in order; defects come on top."""
    other_supplier = rng.random() < 0.35
    return Capture(
        label=label,
        terminal=int(rng.integers(12)),
        amount=float(rng.uniform(*severity)),
        side=float(rng.choice([-1, 1])),
        shift=(float(rng.uniform(-1.6, 1.6)), float(rng.uniform(-1.6, 1.6))),
        angle=float(rng.uniform(-1, 1)),
        place=(float(rng.uniform(-1, 1)), float(rng.uniform(-1, 1))),
        place_angle=float(rng.uniform(-2, 2)),
        solder=float(rng.uniform(0.85, 1.15)),
        marking=_marking(part.kind, rng) if other_supplier else None,
        gain=gain * float(rng.uniform(0.95, 1.05)),
        tint=(float(rng.uniform(0.96, 1.04)), 1.0, float(rng.uniform(0.96, 1.04))),
        noise=float(rng.uniform(2, 6)),
        seed=int(rng.integers(2**31)),
    )


def _write_images(shots: Sequence[Shot], lighting: Lighting, crop: int) -> None:
    for parent in {shot.stem.parent for shot in shots}:
        parent.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        of_kind = [shot for shot in shots if shot.part.kind == kind]
        for start in range(0, len(of_kind), BATCH):
            batch = of_kind[start : start + BATCH]
            pictures = render(
                [shot.part for shot in batch], [shot.capture for shot in batch], lighting.names, crop
            )
            for number, shot in enumerate(batch):
                files = lighting.file_names(shot.stem.name)
                for file, light in zip(files, lighting.names, strict=True):
                    save_image(shot.stem.with_name(file), pictures[light][number])
