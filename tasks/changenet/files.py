"""The files that the actions read beside their spec's own, and those that they leave, by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tasks.changenet.data_spec import DataSet
from tasks.changenet.spec import Backbone, ChangeNetSpec
from tasks.dataset.table import read_table, row_files

EXPERIMENT = "experiment.yaml"
INFERENCE_CSV = "inference.csv"
INFERENCE_META = "inference_meta.json"
LATEST = "changenet_model_classify_latest.pth"
ONNX_FILE = "changenet_classify.onnx"


def checkpoints_in(folder: Path) -> Iterator[Path]:
    """Every checkpoint that lies in the results folder of a training."""
    for pattern in ("model_epoch_*.pth", "model_best_*.pth"):
        yield from sorted(folder.glob(pattern))


def onnx_file(spec: ChangeNetSpec) -> Path:
    """Where the ONNX goes: `export.onnx_file`, else a file in the results folder."""
    return spec.export.onnx_file or spec.results_dir / ONNX_FILE


def image_files(spec: ChangeNetSpec, *names: str) -> Iterator[Path]:
    """Every image file that the CSVs of these data sets name, whether it exists or not."""
    for name in names:
        data_set: DataSet = getattr(spec.data, name)
        if data_set.csv_path is None or data_set.images_dir is None:
            continue
        table = read_table(data_set.csv_path, what=name)
        for column in ("input_path", "golden_path"):
            for files in row_files(table, data_set.images_dir, spec.data.lighting, column):
                yield from files


def weight_files(spec: Backbone) -> Iterator[Path]:
    """The local files that a pretrained backbone is read from."""
    path = spec.pretrained_backbone_path
    if path is None or not path.exists():
        return
    folder = path if path.is_dir() else path.parent
    yield from (file for file in [folder / "config.json"] if file.is_file())
    yield from sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
