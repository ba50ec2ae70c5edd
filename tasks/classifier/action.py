"""`image_classifier train` and `inference`: what they read and what they leave."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from tasks.action import ActionCode, Headline, later
from tasks.classifier import headline
from tasks.classifier.files import BEST, EXPERIMENT, FEATURES, INFERENCE_CSV, LAST
from tasks.classifier.rows import image_files
from tasks.classifier.spec import ActionName, ClassifierSpec, rebase
from tasks.embedding.sidecar import sidecar_path
from tasks.status import STATUS_FILE


def _named(spec: ClassifierSpec, *names: str) -> dict[str, Path]:
    return {name: spec.results_dir / name for name in (EXPERIMENT, STATUS_FILE, *names)}


def _train_outputs(spec: ClassifierSpec) -> dict[str, Path]:
    """The best and the last checkpoint under fixed names; a missing one has its pattern as path."""
    found = {
        name: max(spec.results_dir.glob(pattern), default=spec.results_dir / pattern)
        for name, pattern in (("best", BEST), ("last", LAST))
    }
    return {**_named(spec), **found}


def _train_reads(spec: ClassifierSpec) -> Iterable[Path]:
    yield from image_files(spec, "train_dataset", "validation_dataset")
    yield from spec.weight_files()


def _code(
    name: ActionName,
    outputs: Callable[[ClassifierSpec], dict[str, Path]],
    told: Callable[[ClassifierSpec], Headline],
    reads: Callable[[ClassifierSpec], Iterable[Path]],
) -> ActionCode:
    return ActionCode(
        spec=ClassifierSpec,
        run=later(f"tasks.classifier.work:{name}"),
        folder=lambda spec: spec.results_dir,
        outputs=outputs,
        headline=told,
        reads=reads,
        rebase=partial(rebase, name),
    )


TRAIN = _code("train", _train_outputs, headline.train, _train_reads)
INFERENCE = _code(
    "inference",
    lambda spec: _named(spec, INFERENCE_CSV, FEATURES, sidecar_path(Path(FEATURES)).name),
    headline.inference,
    lambda spec: image_files(spec, "infer_dataset"),
)
