"""What a finished action of the image classifier is about."""

from __future__ import annotations

from collections import Counter

from tasks.action import Headline
from tasks.classifier.files import INFERENCE_CSV
from tasks.classifier.spec import ClassifierSpec
from tasks.dataset.table import read_table
from tasks.headlines import training_headline
from tasks.reports.words import share


def train(spec: ClassifierSpec) -> Headline:
    """Rows, epochs, and the lowest validation loss."""
    data = spec.dataset
    return training_headline(spec.results_dir, data.train_dataset.csv_path, data.validation_dataset.csv_path)


def inference(spec: ClassifierSpec) -> Headline:
    """How many rows were told right, label by label, the worst first."""
    rows = read_table(spec.results_dir / INFERENCE_CSV, required=("label", "predicted"))
    right = rows["label"] == rows["predicted"]
    told = Counter(rows["label"][right])
    counts = Counter(rows["label"])
    worst_first = sorted(counts, key=lambda label: told[label] / counts[label])
    return Headline(
        f"{share(int(right.sum()), len(rows))} rows are told right.",
        ("Label", "Rows", "Told right", "%"),
        [(label, counts[label], told[label], 100 * told[label] / counts[label]) for label in worst_first],
    )
