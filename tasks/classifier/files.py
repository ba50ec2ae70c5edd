"""The files that the actions leave, by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

EXPERIMENT = "experiment.yaml"
INFERENCE_CSV = "inference.csv"
FEATURES = "features.parquet"
BEST = "model_best_*.safetensors"
LAST = "model_epoch_*_step_*.safetensors"


def checkpoints_in(folder: Path) -> Iterator[Path]:
    """Every checkpoint of a results folder."""
    for pattern in (BEST, LAST):
        yield from sorted(folder.glob(pattern))
