"""What a finished action of the siamese classifier is about."""

from __future__ import annotations

from tasks.action import Headline
from tasks.artifacts import existing_file
from tasks.changenet.files import INFERENCE_CSV, onnx_file
from tasks.changenet.spec import ChangeNetSpec
from tasks.gap_analysis.scores import read_scores
from tasks.headlines import SCORES, score_row, training_headline
from tasks.reports.words import counted
from tasks.status import STATUS_FILE, status_lines


def train(spec: ChangeNetSpec) -> Headline:
    """Rows, epochs, and the lowest validation loss."""
    data = spec.data
    return training_headline(spec.results_dir, data.train_dataset.csv_path, data.validation_dataset.csv_path)


def inference(spec: ChangeNetSpec) -> Headline:
    """Rows, and the range of their scores, of good samples and of defects."""
    rows = read_scores(spec.results_dir / INFERENCE_CSV, required=())
    scores = rows.scores
    return Headline(
        f"{counted(len(rows), 'row')} scored, from {scores.min():.4g} to {scores.max():.4g}; "
        "the higher, the more the image differs from its golden one.",
        SCORES,
        [score_row("PASS", scores[rows.is_pass]), score_row("defects", scores[~rows.is_pass])],
    )


def evaluate(spec: ChangeNetSpec) -> Headline:
    """The test metrics."""
    lines = status_lines(existing_file(spec.results_dir / STATUS_FILE, "status file"))
    metrics: dict[str, float] = next((line["kpi"] for line in reversed(lines) if line.get("kpi")), {})
    margin = spec.model.classify.eval_margin
    return Headline(
        f"Measured on the test set at a score of {margin:g}, which is set, not looked for."
        if metrics
        else "The status file has no metrics.",
        ("Metric", "%"),
        list(metrics.items()),
    )


def export(spec: ChangeNetSpec) -> Headline:
    """The file and its size."""
    file = onnx_file(spec)
    return Headline(f"The network as an ONNX file of {file.stat().st_size / 1e6:.1f} MB: {file.name}.")
