"""Inference folders made on disk, and specs over them."""

import csv
from itertools import cycle
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks.artifacts import write_json
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


@pytest.fixture
def analysed(inference, tmp_path):
    """Runs an analysis of (score, label) rows, whose pictures exist, and gives its folder."""

    def analyse(rows, names=None, **keys):
        inference.write(rows, names)
        for name in names or [f"{number:03d}" for number in range(len(rows))]:
            for lighting in ("Top", "Side"):
                file = tmp_path / "data" / "board" / f"{name}_{lighting}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.linear_gradient("L").resize((16, 16)).save(file)
        inference.run(**{"kpi_media_path": tmp_path / "data", **keys})
        return inference.results

    return analyse


@pytest.fixture
def looked_at():
    """Leaves a spot check of up to five good samples and five defects, with the verdicts given in turn."""

    def look(folder, *verdicts, judge="rules"):
        samples = pq.read_table(folder / "weak_samples.parquet").to_pylist()
        samples.sort(key=lambda one: -one["weakness"])
        good = [one for one in samples if one["label"].strip().upper() == "PASS"][:5]
        bad = [one for one in samples if one["label"].strip().upper() != "PASS"][:5]
        keys = ("label", "object_name", "input_path", "siamese_score", "weakness", "misclassified")
        rows = []
        for number, (one, verdict) in enumerate(zip(good + bad, cycle(verdicts or ["systematic"])), 1):
            picture = f"rca_images/{number:02d}.png"
            (folder / "rca_images").mkdir(exist_ok=True)
            Image.new("RGB", (128, 128)).save(folder / picture)
            given = {"image": picture, "verdict": verdict, "origin": judge}
            rows.append({key: one[key] for key in keys} | given)
        write_json(folder / "spot_check.json", {"judge": judge, "shortfall": None, "rows": rows})
        return folder

    return look
