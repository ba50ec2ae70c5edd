"""The work of `visual_changenet train`, `inference`, `evaluate` and `export`."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.artifacts import sha256_of, write_csv, write_json, write_yaml
from tasks.changenet.checkpoint import CheckpointFolder, network_of, read_checkpoint
from tasks.changenet.device import computing
from tasks.changenet.export import check_export, write_onnx
from tasks.changenet.files import EXPERIMENT, INFERENCE_CSV, INFERENCE_META
from tasks.changenet.metrics import test_metrics
from tasks.changenet.network import scores_of
from tasks.changenet.pairs import PairImages, Pairs, read_pairs
from tasks.changenet.scoring import outputs_of
from tasks.changenet.spec import ChangeNetSpec
from tasks.changenet.start import checked_pairs, prepare_folder, started
from tasks.changenet.training import Training
from tasks.changenet.zero_shot import feature_distances
from tasks.errors import StageFailed, listed
from tasks.spec import content_of, digest
from tasks.status import reported

logger = logging.getLogger("deft")

SCORE = "siamese_score"


def train(spec: ChangeNetSpec) -> None:
    """Train and leave checkpoints, `experiment.yaml` and `status.json` in the results folder.

    Raises:
        InputError: rows, images, backbone, checkpoint or results folder are not what they must be.
        StageFailed: the training diverged.
    """
    with reported(spec.results_dir, "train") as status, computing(spec) as device:
        _tell_ignored(spec)
        rows = checked_pairs(spec)
        run = Training(spec, started(spec), rows, device, status)
        prepare_folder(spec, CheckpointFolder(spec.results_dir, spec.train.checkpointer))
        write_yaml(spec.results_dir / EXPERIMENT, spec.to_dict())
        run.run()
        status.write("Train finished successfully.")


def inference(spec: ChangeNetSpec) -> None:
    """Score the rows of the infer CSV: `inference.csv` and `inference_meta.json` (spec changenet 7.1).

    Raises:
        InputError: rows, images or checkpoint are not what they must be.
        StageFailed: a score is not a finite number.
    """
    with reported(spec.results_dir, "inference") as status:
        rows, scores = _scored(spec, "infer_dataset", spec.inference.checkpoint, "inference.checkpoint")
        table = rows.table.drop(columns=SCORE, errors="ignore")
        # The shortest text that reads back as the same float32.
        table[SCORE] = [str(score) for score in scores]
        write_yaml(spec.results_dir / EXPERIMENT, spec.to_dict())
        write_json(spec.results_dir / INFERENCE_META, _facts(spec, rows))
        path = spec.results_dir / INFERENCE_CSV
        values = table.itertuples(index=False, name=None)
        write_csv(path, list(table.columns), (dict(zip(table.columns, row, strict=True)) for row in values))
        logger.info("%s: %d rows scored", path, len(rows))
        status.write("Inference finished successfully.")


def evaluate(spec: ChangeNetSpec) -> None:
    """Log the four test metrics at `eval_margin` (spec changenet 7.2).

    Raises:
        InputError: rows, images or checkpoint are not what they must be.
        StageFailed: a score is not a finite number.
    """
    with reported(spec.results_dir, "evaluate") as status:
        rows, scores = _scored(spec, "test_dataset", spec.evaluate.checkpoint, "evaluate.checkpoint")
        metrics = test_metrics(scores, rows.defect, spec.model.classify.eval_margin)
        write_yaml(spec.results_dir / EXPERIMENT, spec.to_dict())
        logger.info("%s", " · ".join(f"{name} {value:.2f} %" for name, value in metrics.items()))
        status.write("Test metrics generated.", kpi=metrics)
        status.write("Evaluation finished successfully.")


def export(spec: ChangeNetSpec) -> None:
    """Write the network of a checkpoint as ONNX (spec changenet 7.3).

    Raises:
        InputError: the file exists already, sizes disagree, or the checkpoint does not fit.
    """
    with reported(spec.results_dir, "export") as status:
        check_export(spec)
        content = read_checkpoint(spec.export.checkpoint, spec, "export.checkpoint")
        write_onnx(network_of(content, spec), spec)
        write_yaml(spec.results_dir / EXPERIMENT, spec.to_dict())
        status.write("Export finished successfully.")


def _scored(
    spec: ChangeNetSpec, data_set: str, checkpoint: Path | None, key: str
) -> tuple[Pairs, npt.NDArray[np.float32]]:
    """The rows of a data set and their scores, in order."""
    rows = read_pairs(spec, data_set)
    content = None if spec.native.zero_shot else read_checkpoint(checkpoint, spec, key)
    with computing(spec) as device:
        images = PairImages(rows, spec.data, cache=False)
        if content is None:
            return rows, feature_distances(spec, images, len(rows), device)
        network = network_of(content, spec).to(device)
        scores: npt.NDArray[np.float32] = scores_of(
            outputs_of(network, images, len(rows), spec, device)
        ).numpy()
    wrong = [f"row {number + 2}" for number in np.flatnonzero(~np.isfinite(scores))]
    if wrong:
        raise StageFailed(f"{checkpoint} gives scores that are not finite for {listed(wrong)}; train it anew")
    return rows, scores


def _facts(spec: ChangeNetSpec, rows: Pairs) -> dict[str, object]:
    checkpoint = None if spec.native.zero_shot else spec.inference.checkpoint
    return {
        "checkpoint": checkpoint,
        "checkpoint_sha256": sha256_of(checkpoint) if checkpoint else None,
        "spec_sha256": digest(content_of(spec)),
        "rows": len(rows),
    }


def _tell_ignored(spec: ChangeNetSpec) -> None:
    """One warning for the keys that say something which this engine does not do."""
    ignored = {
        "train.num_gpus": spec.train.num_gpus > 1,
        "train.num_nodes": spec.train.num_nodes > 1,
        "train.tensorboard.enabled": spec.train.tensorboard.enabled,
        "train.precision 16-mixed (runs as bf16-mixed)": spec.train.precision == "16-mixed",
        "dataset.classify.fpratio_sampling 0 (no defect is drawn)": spec.data.fpratio_sampling == 0,
    }
    if any(ignored.values()):
        names = [name for name, is_set in ignored.items() if is_set]
        logger.warning("the native engine runs on one device; without effect or unwise: %s", ", ".join(names))
