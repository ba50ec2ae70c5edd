"""`visual_changenet train`, `inference`, `evaluate` and `export`: what they read and what they leave."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from tasks.action import ActionCode, Headline, later
from tasks.changenet import headline
from tasks.changenet.files import (
    EXPERIMENT,
    INFERENCE_CSV,
    INFERENCE_META,
    LATEST,
    checkpoints_in,
    image_files,
    onnx_file,
    weight_files,
)
from tasks.changenet.spec import ActionName, ChangeNetSpec, rebase
from tasks.status import STATUS_FILE


def _folder(spec: ChangeNetSpec) -> Path:
    return spec.results_dir


def _named(spec: ChangeNetSpec, *names: str) -> dict[str, Path]:
    return {name: spec.results_dir / name for name in (EXPERIMENT, STATUS_FILE, *names)}


def _train_outputs(spec: ChangeNetSpec) -> dict[str, Path]:
    return {**_named(spec, LATEST), **{file.name: file for file in checkpoints_in(spec.results_dir)}}


def _export_outputs(spec: ChangeNetSpec) -> dict[str, Path]:
    return {**_named(spec), "onnx": onnx_file(spec)}


def _train_reads(spec: ChangeNetSpec) -> Iterable[Path]:
    yield from image_files(spec, "train_dataset", "validation_dataset")
    warm = spec.train.pretrained_model_path or spec.train.resume_training_checkpoint_path
    if spec.native.backbone_init == "pretrained" and warm is None:
        yield from weight_files(spec.model.backbone)


def _code(
    name: ActionName,
    outputs: Callable[[ChangeNetSpec], dict[str, Path]],
    told: Callable[[ChangeNetSpec], Headline],
    reads: Callable[[ChangeNetSpec], Iterable[Path]] = lambda spec: (),
) -> ActionCode:
    return ActionCode(
        spec=ChangeNetSpec,
        run=later(f"tasks.changenet.work:{name}"),
        folder=_folder,
        outputs=outputs,
        headline=told,
        reads=reads,
        rebase=partial(rebase, name),
    )


TRAIN = _code("train", _train_outputs, headline.train, _train_reads)
INFERENCE = _code(
    "inference",
    lambda spec: _named(spec, INFERENCE_CSV, INFERENCE_META),
    headline.inference,
    lambda spec: image_files(spec, "infer_dataset"),
)
EVALUATE = _code("evaluate", _named, headline.evaluate, lambda spec: image_files(spec, "test_dataset"))
EXPORT = _code("export", _export_outputs, headline.export)
