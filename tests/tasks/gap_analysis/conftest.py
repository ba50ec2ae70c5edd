"""Inference folders made on disk, and specs over them."""

import csv
from pathlib import Path

import pytest

from tasks.gap_analysis.action import VCN_AOI
from tasks.spec import load_spec

TRAIN_YAML = "dataset:\n  classify:\n    input_map: {Top: 0, Side: 1}\n    image_ext: .jpg\n"
ORACLE = [(0.1, "PASS"), (0.2, "PASS"), (0.3, "NO_PASS"), (0.4, "PASS"), (0.9, "NO_PASS")]
"""The worked example of the specification (A.2)."""


class Inference:
    """An inference folder with its CSV and train YAML, and a results folder beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "inference"
        self.csv = self.folder / "inference.csv"
        self.train = root / "train.yaml"
        self.results = root / "results"
        self.folder.mkdir()
        self.train.write_text(TRAIN_YAML, encoding="utf-8")

    def write(self, rows, names=None):
        """`rows` are (score, label); sample i is called by its number unless `names` says otherwise."""
        with self.csv.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["input_path", "golden_path", "label", "object_name", "siamese_score"])
            for number, (score, label) in enumerate(rows):
                name = names[number] if names else f"{number:03d}"
                writer.writerow(["board", "golden", label, name, score])
        return self

    def write_text(self, text):
        self.csv.write_bytes(text if isinstance(text, bytes) else text.encode())
        return self

    def spec(self, **keys):
        words = [f"{key}={'null' if value is None else value}" for key, value in keys.items()]
        given = {
            "inference_results_dir": self.folder,
            "train_config": self.train,
            "results_dir": self.results,
            "kpi_media_path": "/data",
        }
        return load_spec(VCN_AOI.spec, given, words)

    def run(self, **keys):
        VCN_AOI.run(self.spec(**keys))

    def left(self):
        return sorted(path.name for path in self.results.iterdir()) if self.results.is_dir() else []


@pytest.fixture
def inference(tmp_path):
    return Inference(tmp_path)


@pytest.fixture
def oracle(inference):
    return inference.write(ORACLE)
