"""The work of `image_classifier train` and `inference`."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.artifacts import sha256_of, write_csv, write_parquet, write_yaml
from tasks.classifier.checkpoint import read_checkpoint, warm_start
from tasks.classifier.files import EXPERIMENT, FEATURES, INFERENCE_CSV, checkpoints_in
from tasks.classifier.metrics import TRUE_LABEL, probability_of
from tasks.classifier.network import Classifier, fresh
from tasks.classifier.rows import Rows, pixels_of, rows_of
from tasks.classifier.scoring import computing, outputs_of, probabilities
from tasks.classifier.spec import ClassifierSpec
from tasks.classifier.training import Training
from tasks.embedding.sidecar import Sidecar, sidecar_path
from tasks.embedding.tables import EMBEDDING, VECTOR_TYPE, Vectors
from tasks.errors import InputError, StageFailed, listed
from tasks.spec import content_of, digest
from tasks.status import reported

logger = logging.getLogger("deft")

MODEL = "Image Classifier"


def train(spec: ClassifierSpec) -> None:
    """Train and leave the best and the last checkpoint, `experiment.yaml` and `status.json`.

    Raises:
        InputError: rows, images, model, checkpoint or results folder are not what they must be.
        StageFailed: the training diverged, or a file `stop` in the results folder ended it.
    """
    with reported(spec.results_dir, "train", MODEL) as status, computing(spec.native) as device:
        rows = rows_of(spec, "train_dataset"), rows_of(spec, "validation_dataset")
        labels = rows[0].classes()
        if len(labels) < 2:
            raise InputError(
                f"{rows[0].origin} has one label only, {labels[0]}; there is nothing to tell apart"
            )
        warm = spec.train.pretrained_model_path
        network = fresh(spec, labels) if warm is None else warm_start(spec, labels)
        run = Training(spec, network, rows, device, status)
        _clear_folder(spec)
        write_yaml(spec.results_dir / EXPERIMENT, spec.to_dict())
        run.run()
        status.write("Train finished successfully.")


def inference(spec: ClassifierSpec) -> None:
    """Score the rows of the infer CSV: `inference.csv`, and `features.parquet` with its sidecar.

    Raises:
        InputError: rows, images or checkpoint are not what they must be.
        StageFailed: a score is not a finite number, or a feature vector is zero.
    """
    with reported(spec.results_dir, "inference", MODEL) as status, computing(spec.native) as device:
        rows = rows_of(spec, "infer_dataset")
        network = read_checkpoint(spec.inference.checkpoint, spec, "inference.checkpoint").to(device)
        truth = rows.numbers(network.labels)
        logits, features = outputs_of(network, pixels_of(rows, spec.dataset.image_size), device)
        scores, vectors = probabilities(logits), features.numpy()
        usable = np.isfinite(scores).all(axis=1) & np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
        if not usable.all():
            bad = [rows.filepaths[row] for row in np.flatnonzero(~usable)]
            raise StageFailed(
                f"{spec.inference.checkpoint} gives scores or features that are not finite or all zero for "
                f"{listed(bad)}; train it anew"
            )
        write_yaml(spec.results_dir / EXPERIMENT, spec.to_dict())
        _write_features(spec, rows, vectors)
        _write_scores(spec, rows, network, scores, truth)
        status.write("Inference finished successfully.")


def _write_features(spec: ClassifierSpec, rows: Rows, vectors: Vectors) -> None:
    """The features under the names of an embeddings parquet, so that `tmm nearest_neighbors` reads them."""
    path, checkpoint = spec.results_dir / FEATURES, spec.inference.checkpoint
    assert checkpoint is not None
    columns = {
        "filepath": pa.array(rows.filepaths, pa.string()),
        EMBEDDING: pa.array(list(vectors), VECTOR_TYPE),
        "label": pa.array(rows.labels, pa.string()),
    }
    sidecar_path(path).unlink(missing_ok=True)  # it must never describe another parquet
    write_parquet(path, pa.table(columns))
    Sidecar(
        spec_sha256=digest(content_of(spec.model)),
        model=f"image_classifier {spec.model.type}",
        model_path=str(checkpoint),
        revision=None,
        weights_sha256=sha256_of(checkpoint),
        model_config_path=None,
        batch_size=spec.dataset.batch_size,
        dim=vectors.shape[1],
        rows=len(rows),
        input_sha256=sha256_of(rows.origin),
    ).write(path)


def _write_scores(
    spec: ClassifierSpec,
    rows: Rows,
    network: Classifier,
    scores: Vectors,
    truth: npt.NDArray[np.int64],
) -> None:
    names = [probability_of(label) for label in network.labels]
    table = [
        {
            "filepath": filepath,
            "label": label,
            "predicted": network.labels[row.argmax()],
            # The shortest text that reads back as the same float32.
            TRUE_LABEL: str(row[number]),
            **dict(zip(names, map(str, row), strict=True)),
        }
        for filepath, label, row, number in zip(rows.filepaths, rows.labels, scores, truth, strict=True)
    ]
    path = spec.results_dir / INFERENCE_CSV
    write_csv(path, ["filepath", "label", "predicted", TRUE_LABEL, *names], table)
    logger.info("%s: %d rows scored", path, len(rows))


def _clear_folder(spec: ClassifierSpec) -> None:
    """Remove what an earlier training left in the results folder, unless this one starts from it."""
    warm, old = spec.train.pretrained_model_path, list(checkpoints_in(spec.results_dir))
    if warm is not None and warm.resolve() in [file.resolve() for file in old]:
        raise InputError(
            f"train.pretrained_model_path {warm} lies in the results folder that this training clears; "
            "choose another results_dir"
        )
    if old:
        logger.warning("%s held an earlier training; starting over", spec.results_dir)
    for file in old:
        file.unlink()
