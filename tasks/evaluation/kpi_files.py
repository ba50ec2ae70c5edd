"""The files of a KPI analysis (spec changenet 8)."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from tasks.artifacts import write_atomically
from tasks.evaluation.kpi import FarAtRecall, far_interval_pct, far_pct, recall_pct
from tasks.gap_analysis.scores import FIRST_ROW, LABEL, SAMPLE, SCORE, ScoredRows
from tasks.gap_analysis.sweep import OperatingPoint, Sweep

MISSED_COLUMNS = (
    "analysis_row_index",
    "analysis_score",
    "analysis_threshold",
    "analysis_actual_label_group",
    "analysis_predicted_label_group",
    "analysis_outcome",
)
"""What stands behind the columns of the inference CSV in the file of missed samples."""


def threshold_table(points: Sweep) -> pa.Table:
    """Every candidate, ascending; rates are fractions, and NaN where their denominator is 0."""
    defects, passes = points.tp + points.fn, points.fp + points.tn
    alarms = points.tp + points.fp
    columns = {
        "threshold": points.threshold,
        "tp": points.tp,
        "fp": points.fp,
        "tn": points.tn,
        "fn": points.fn,
        "precision": np.where(alarms > 0, points.precision, np.nan),
        "recall": points.recall,
        "f1": np.where(points.tp > 0, points.f1, np.nan),
        "accuracy": (points.tp + points.tn) / (defects + passes),
        "far": points.far,
        "predicted_no_pass_count": alarms,
        "actual_no_pass_count": defects,
        "actual_pass_count": passes,
    }
    return pa.table(columns)


def missed_samples(rows: ScoredRows, threshold: float) -> list[dict[str, object]]:
    """The NO_PASS rows that `threshold` lets pass, by score and row, with every column of the CSV."""
    missed = np.flatnonzero(~rows.is_pass & (rows.scores <= threshold))
    missed = missed[np.argsort(rows.scores[missed], kind="stable")]
    fixed = (threshold, "NO_PASS", "PASS", "FN")
    return [
        {
            **columns,
            **dict(
                zip(MISSED_COLUMNS, (int(index) + FIRST_ROW, float(rows.scores[index]), *fixed), strict=True)
            ),
        }
        for columns, index in zip(rows.table.take(missed).to_pylist(), missed, strict=True)
    ]


def lowest_defect(rows: ScoredRows, index: int) -> dict[str, object]:
    """The row on which FAR at 100 % recall hangs; `row` counts the header as row 1."""
    names = [name for name in (*SAMPLE, LABEL) if name in rows.table.column_names]
    values = {name: rows.table[name][index].as_py() for name in names}
    return {"row": index + FIRST_ROW, **values, "score": float(rows.scores[index])}


def summary_text(kpi: FarAtRecall, min_recall: float, verdict: str) -> str:
    """The text for people: rule, counts, verdict, and both operating points."""
    point = kpi.point
    passes, defects = point.fp + point.tn, point.tp + point.fn
    low, high = far_interval_pct(point)
    lines = [
        "KPI analysis: false-alarm rate (FAR) at recall",
        f"Rule: {SCORE} > threshold is predicted NO_PASS, else PASS; FAR counts PASS rows only",
        f"Rows: {defects + passes} ({passes} PASS, {defects} NO_PASS), {len(kpi.points)} thresholds tried",
        f"FAR: {point.fp}/{passes} = {far_pct(point):.2f} % (95 % Wilson interval {low:.2f} to {high:.2f} %)",
        f"Contract: {verdict}",
        "",
        *_point_lines(f"Recall >= {100 * min_recall:g} %", point),
        "",
        *_point_lines("Best F1", kpi.best_f1),
    ]
    return "\n".join(lines) + "\n"


def _point_lines(title: str, point: OperatingPoint) -> list[str]:
    return [
        f"{title}: threshold {point.threshold!r}",
        f"  precision {point.precision:.6f}, recall {recall_pct(point):.2f} %, F1 {point.f1:.6f}, "
        f"FAR {far_pct(point):.2f} %",
        f"  {'':16}{'predicted NO_PASS':>20}{'predicted PASS':>20}",
        f"  {'actual NO_PASS':16}{f'TP {point.tp}':>20}{f'FN {point.fn}':>20}",
        f"  {'actual PASS':16}{f'FP {point.fp}':>20}{f'TN {point.tn}':>20}",
    ]


def write_numbers_csv(path: Path, table: pa.Table) -> Path:
    """Write a table of numbers as CSV (LF), floats in their shortest exact form, NaN as `nan`."""
    options = arrow_csv.WriteOptions(include_header=False)

    def write(stream: BinaryIO) -> None:
        stream.write((",".join(table.column_names) + "\n").encode())
        arrow_csv.write_csv(table, stream, options)

    return write_atomically(path, write)
