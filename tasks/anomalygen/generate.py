"""`anomalygen generate`: paints defects on clean pictures and leaves the container's output tree."""

from __future__ import annotations

import heapq
import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tasks.anomalygen.allocation import turns
from tasks.anomalygen.clean_images import CleanPicture
from tasks.anomalygen.painting import Painted, paint, problem
from tasks.anomalygen.plan import Plan
from tasks.anomalygen.spec import GenerateSpec
from tasks.anomalygen.surface import Pixels
from tasks.anomalygen.tree import ORIGINAL, RECONSTRUCTED, GeneratedTree, sample_name
from tasks.artifacts import sha256_of, write_csv, write_json, write_text
from tasks.dataset.building import save_image
from tasks.errors import InputError, StageFailed
from tasks.images import decoded

logger = logging.getLogger("deft")

TRIES = 20
COLUMNS = (
    "output_filename",
    "name",
    "defect",
    "image_filename",
    "seed",
    "guardrail_pass",
    "guardrail_reason",
)


@dataclass(frozen=True)
class Sample:
    """A placed sample: what was painted where, and why it is not usable (None when it is)."""

    index: int
    label: str
    seed: int
    attempt: int
    clean: CleanPicture
    painted: Painted
    blocked: str | None


@dataclass
class Painter:
    """Finds a clean picture for every sample.

    A picture counts as used by the samples painted on it, and for a defect also by the tries that
    failed on it; the least used picture is tried first, so that all are used before one is used again.
    """

    pictures: Sequence[CleanPicture]
    seed: int
    used: Counter[int] = field(default_factory=Counter)
    refused: Counter[tuple[str, int]] = field(default_factory=Counter)

    def sample(self, index: int, label: str) -> Sample | None:
        """Sample number `index`; None when its defect fits into none of the pictures tried.

        Its seed depends on the run's seed and `index` alone, its random numbers on that and the try.
        A sample that the guard-rail blocks at every try is given as blocked.

        Raises:
            InputError: a picture cannot be decoded, or its lightings differ in size.
        """
        seed = int(np.random.SeedSequence([self.seed, index]).generate_state(1)[0])
        blocked: Sample | None = None
        for attempt, number in enumerate(self._candidates(label)):
            clean = self.pictures[number]
            pixels = pixels_of(clean.files)
            regions = pixels_of([clean.mask])[0] if clean.mask else None
            try:
                painted = paint(label, pixels, np.random.default_rng([seed, attempt]), regions)
            except InputError as error:
                raise InputError(f"clean picture {clean.name}: {error}") from error
            if painted is not None:
                reason = problem(pixels, painted)
                sample = Sample(index, label, seed, attempt, clean, painted, reason)
                if reason is None:
                    self.used[number] += 1
                    return sample
                blocked = sample
            self.refused[label, number] += 1
        return blocked

    def _candidates(self, label: str) -> list[int]:
        def use(number: int) -> tuple[int, int]:
            return self.used[number] + self.refused[label, number], number

        return heapq.nsmallest(TRIES, range(len(self.pictures)), key=use)


def generate(spec: GenerateSpec) -> None:
    """Paint the samples and leave the tree of spec deft-loop 7.4.

    Raises:
        InputError: an input is not what it must be; nothing is written then.
        StageFailed: no sample could be placed; nothing is written then.
    """
    plan = Plan(spec)
    request, texture = plan.request, plan.source.texture
    ids = {label: f"{texture}+{label}" for label in request}
    painter = Painter(plan.pictures, spec.seed)
    allocation = dict.fromkeys(request, 0)
    records = []
    with filling(GeneratedTree(spec.results_dir)) as tree:
        for index, label in enumerate(turns(request)):
            sample = painter.sample(index, label)
            if sample is None:
                continue
            allocation[label] += 1
            name = sample_name(ids[label], index)
            records.append(_record(sample, name, ids[label]))
            write_pictures(tree, sample, name, plan.source.lighting.names)
        if not records:
            raise StageFailed(
                f"none of {sum(request.values())} samples could be placed on {len(plan.pictures)} clean "
                f"pictures ({', '.join(request)}); give clean pictures that show parts or traces"
            )
        _write_tables(tree, records)
        write_json(tree.request, {ids[label]: count for label, count in request.items()})
        write_json(tree.allocation, {ids[label]: count for label, count in allocation.items()})
        _write_manifest(tree)
    _tell(request, allocation, records)


@contextmanager
def filling(tree: GeneratedTree) -> Iterator[GeneratedTree]:
    """Give an empty neighbour of the tree to fill; it takes the tree's place when all went well.

    `allocation.json`, without which a tree is not taken as done, goes first and comes last.
    """
    new = GeneratedTree(tree.root / ".generating.tmp")
    shutil.rmtree(new.root, ignore_errors=True)
    try:
        yield new
        tree.allocation.unlink(missing_ok=True)
        for folder in ("sdg", "amp"):
            shutil.rmtree(tree.root / folder, ignore_errors=True)
            (new.root / folder).replace(tree.root / folder)
        for file in (new.testcase, new.request, new.allocation):
            file.replace(tree.root / file.name)
    finally:
        shutil.rmtree(new.root, ignore_errors=True)


def pixels_of(files: Iterable[Path]) -> list[Pixels]:
    """The RGB pixels [height, width, 3] of the lightings of a scene.

    Raises:
        InputError: a file cannot be decoded, or they differ in size.
    """
    pictures = {file: np.asarray(decoded(file)) for file in files}
    if len({pixels.shape for pixels in pictures.values()}) > 1:
        sizes = ", ".join(f"{file} {pixels.shape[:2]}" for file, pixels in pictures.items())
        raise InputError(f"the lightings of one scene differ in size: {sizes}; crop them alike")
    return list(pictures.values())


def write_pictures(tree: GeneratedTree, sample: Sample, name: str, lights: Sequence[str]) -> None:
    """Write the pair under each lighting, and the mask; what the guard-rail blocked is black."""
    painted = [np.zeros_like(pixels) if sample.blocked else pixels for pixels in sample.painted.images]
    pairs = list(zip(painted, pixels_of(sample.clean.originals), strict=True))
    folders: list[str | None] = [None, *(lights if len(lights) > 1 else ())]
    for light, (defect, clean) in zip(folders, [pairs[0], *pairs], strict=False):
        for kind, pixels in ((RECONSTRUCTED, defect), (ORIGINAL, clean)):
            _save(tree.pictures(kind, light) / f"{name}.png", pixels)
    mask = sample.painted.mask.astype(np.uint8) * 255
    for folder in (tree.amp, tree.sdg / "mask"):
        _save(folder / f"{name}.png", mask)


def _save(file: Path, pixels: Pixels) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_image(file, pixels)


def _record(sample: Sample, name: str, defect: str) -> dict[str, object]:
    return {
        "output_filename": f"{RECONSTRUCTED}/{name}.png",
        "name": name,
        "index": sample.index,
        "defect": defect,
        "image_filename": sample.clean.name,
        "seed": sample.seed,
        "attempt": sample.attempt,
        "guardrail_pass": int(sample.blocked is None),
        "guardrail_reason": sample.blocked or "",
    }


def _write_tables(tree: GeneratedTree, records: list[dict[str, object]]) -> None:
    write_csv(tree.result_csv, COLUMNS, ({key: row[key] for key in COLUMNS} for row in records))
    asked = ("name", "index", "defect", "image_filename", "seed", "attempt")
    lines = [json.dumps({key: row[key] for key in asked}, ensure_ascii=False) for row in records]
    write_text(tree.testcase, "\n".join(lines) + "\n")


def _write_manifest(tree: GeneratedTree) -> None:
    files = sorted(file for folder in (tree.amp, tree.sdg) for file in folder.rglob("*") if file.is_file())
    write_json(tree.manifest, {file.relative_to(tree.root).as_posix(): sha256_of(file) for file in files})


def _tell(request: dict[str, int], allocation: dict[str, int], records: list[dict[str, object]]) -> None:
    for label, count in request.items():
        if allocation[label] < count:
            logger.warning(
                "%s: %d of %d samples placed; the clean pictures offer no further place for it",
                label,
                allocation[label],
                count,
            )
    passed = sum(1 for row in records if row["guardrail_pass"])
    logger.info("generated %d samples, %d blocked by the guard-rail", len(records), len(records) - passed)
