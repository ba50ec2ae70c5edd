"""`evaluation far_at_recall`: the built-in evaluator of a metric contract."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from tasks.action import ActionCode, unknown_value
from tasks.artifacts import write_csv, write_json, write_text
from tasks.errors import InputError
from tasks.evaluation.contract import DEFAULT_CONTRACT, METRICS, MetricContract, MetricResult
from tasks.evaluation.evaluator import Builtin
from tasks.evaluation.headline import headline
from tasks.evaluation.kpi import FarAtRecall, far_at_recall, far_pct, recall_pct
from tasks.evaluation.kpi_files import (
    MISSED_COLUMNS,
    lowest_defect,
    missed_samples,
    summary_text,
    threshold_table,
    write_numbers_csv,
)
from tasks.gap_analysis.scores import ScoredRows, read_scores
from tasks.spec import ReadPath, SpecModel, WritePath

logger = logging.getLogger("deft")

RESULT = "metric_result.json"
SUMMARY = "summary.txt"
THRESHOLDS = "threshold_metrics.csv"
PLOTS = (
    "score_distribution_with_recall_100_threshold.png",
    "confusion_matrix_recall_100.png",
    "confusion_matrix_best_f1.png",
)
MISSED = "best_f1_missed_no_pass_samples.csv"


def _contract(given: object) -> object:
    return MetricContract.of(given) if isinstance(given, str | dict) else given


class FarAtRecallSpec(SpecModel):
    """`evaluation far_at_recall`: measure an inference CSV against a metric contract."""

    inference_csv: ReadPath
    results_dir: WritePath
    metric_contract: Annotated[MetricContract, BeforeValidator(_contract)] = Field(
        DEFAULT_CONTRACT, validate_default=True
    )
    """Text such as `FAR < 10% at Recall=100%`, or the contract's fields."""


def min_recall_of(contract: MetricContract) -> float:
    """The recall, as a fraction, at which FAR is to be measured; 1.0 where the contract names none.

    Raises:
        InputError: the contract asks for another evaluator, or for a metric that this one does not measure.
    """
    if not isinstance(contract.evaluator, Builtin):
        raise InputError(
            f"metric contract: its evaluator is of type {contract.evaluator.type}, not far_at_recall; "
            "use evaluation measure"
        )
    if contract.name != METRICS["far"]:
        raise unknown_value("primary metric of far_at_recall", contract.name, [METRICS["far"]])
    for bound in contract.constraints:
        if bound.name != METRICS["recall"]:
            raise unknown_value("constraint of far_at_recall", bound.name, [METRICS["recall"]])
    floors = [bound.target / 100.0 for bound in contract.constraints]
    if any(bound.operator != ">=" for bound in contract.constraints) or not all(0 <= f <= 1 for f in floors):
        raise InputError("metric contract: recall_pct must be held by >= and a target from 0 to 100 %")
    return max(floors, default=1.0)


def metric_result(kpi: FarAtRecall, rows: ScoredRows) -> MetricResult:
    """The measurement with its diagnostics."""
    return MetricResult.model_validate(
        {
            "name": METRICS["far"],
            "value": far_pct(kpi.point),
            "unit": "%",
            "threshold": kpi.point.threshold,
            "constraints": {METRICS["recall"]: recall_pct(kpi.point)},
            "diagnostics": {**kpi.diagnostics, "lowest_defect": lowest_defect(rows, kpi.lowest_defect)},
        }
    )


def run(spec: FarAtRecallSpec) -> None:
    """Measure FAR at the contract's recall and write the files of spec changenet 8.

    Raises:
        InputError: the CSV is missing or malformed or has no PASS or no NO_PASS rows, or the contract asks
            for what is not measured here; nothing is written.
    """
    from tasks.evaluation.plots import write_plots  # matplotlib, for who draws only

    min_recall = min_recall_of(spec.metric_contract)
    rows = read_scores(spec.inference_csv, required=(), every_column=True)
    try:
        kpi = far_at_recall(rows.scores, rows.is_pass, min_recall)
    except InputError as error:
        raise InputError(f"inference CSV {spec.inference_csv}: {error}") from error
    result = metric_result(kpi, rows)
    contract = spec.metric_contract
    verdict = (
        f"{contract.name} {contract.operator} {contract.target:g} {contract.unit} "
        f"{'passed' if contract.passed(result) else 'not passed'}"
    )
    text = summary_text(kpi, min_recall, verdict)
    write_numbers_csv(spec.results_dir / THRESHOLDS, threshold_table(kpi.points))
    write_csv(
        spec.results_dir / MISSED,
        [*rows.table.column_names, *MISSED_COLUMNS],
        missed_samples(rows, kpi.best_f1.threshold),
    )
    write_text(spec.results_dir / SUMMARY, text)
    write_plots(spec.results_dir, rows.scores, rows.is_pass, kpi)
    write_json(spec.results_dir / RESULT, result.model_dump(mode="json"))
    logger.info("%s", text.rstrip())


def _outputs(spec: FarAtRecallSpec) -> dict[str, Path]:
    return {name: spec.results_dir / name for name in (RESULT, SUMMARY, THRESHOLDS, MISSED, *PLOTS)}


FAR_AT_RECALL = ActionCode(
    spec=FarAtRecallSpec,
    run=run,
    folder=lambda spec: spec.results_dir,
    outputs=_outputs,
    headline=lambda spec: headline(
        spec.results_dir / RESULT, spec.metric_contract, spec.results_dir / PLOTS[0]
    ),
    version=2,
)
