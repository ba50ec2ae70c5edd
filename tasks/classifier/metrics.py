"""What an inference CSV says: metrics of a contract, and the rows the model is weakest on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.action import unknown_value
from tasks.artifacts import existing_file
from tasks.errors import InputError
from tasks.evaluation.contract import MetricContract, MetricResult
from tasks.evaluation.evaluator import Builtin

TRUE_LABEL = "true_label_prob"
"""The column with the probability that the model gives the row's own label."""


def probability_of(label: str) -> str:
    """The column with the probability of a label."""
    return f"prob_{label}"


def error_pct(scores: pd.DataFrame) -> float:
    """Percent of the rows whose most probable label is not their own."""
    return float(100 * (scores["predicted"] != scores["label"]).mean())


def worst_recall_pct(scores: pd.DataFrame) -> float:
    """Percent found of the rows of the label that is found least."""
    hit = scores["predicted"] == scores["label"]
    return float(100 * hit.groupby(scores["label"]).mean().min())


METRICS: dict[str, Callable[[pd.DataFrame], float]] = {
    "error_pct": error_pct,
    "worst_recall_pct": worst_recall_pct,
}
"""What a contract may ask for, as its metric or as a constraint."""


def read_scores(inference_csv: Path) -> pd.DataFrame:
    """The table that `image_classifier inference` wrote; raises `InputError` when it is not one."""
    scores = pd.read_csv(
        existing_file(inference_csv, "inference CSV"),
        dtype={"filepath": str, "label": str, "predicted": str},
        keep_default_na=False,
    )
    if not {"filepath", "label", "predicted", TRUE_LABEL} <= set(scores.columns) or scores.empty:
        raise InputError(f"{inference_csv} is not an inference.csv of image_classifier inference")
    return scores


def check_contract(contract: MetricContract) -> None:
    """Check that this engine can measure the contract.

    Raises:
        InputError: it names a metric that nobody knows here, or an evaluator outside this package.
    """
    for name in (contract.name, *(bound.name for bound in contract.constraints)):
        if name not in METRICS:
            raise unknown_value("metric of an image classifier", name, METRICS)
    if not isinstance(contract.evaluator, Builtin):
        raise InputError("metric contract: image classifiers are measured here; leave its evaluator out")


def measured(scores: pd.DataFrame, contract: MetricContract) -> MetricResult:
    """The contract's metrics of scored rows; raises as `check_contract`."""
    check_contract(contract)
    wrong = scores[scores["predicted"] != scores["label"]]
    return MetricResult(
        name=contract.name,
        value=METRICS[contract.name](scores),
        unit=contract.unit,
        constraints={bound.name: METRICS[bound.name](scores) for bound in contract.constraints},
        diagnostics={"rows": len(scores), "wrong": wrong["label"].value_counts().sort_index().to_dict()},
    )


def weakest_rows(scores: pd.DataFrame, count: int) -> npt.NDArray[np.int64]:
    """Numbers of the `count` rows with the least probability of their own label, weakest first."""
    found: npt.NDArray[np.int64] = np.argsort(scores[TRUE_LABEL].to_numpy(), kind="stable")[:count]
    return found
