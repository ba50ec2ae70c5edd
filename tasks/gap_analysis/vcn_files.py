"""The files that a VCN gap analysis leaves (spec gap-analysis A.3 and A.5)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.action import engine_version
from tasks.artifacts import sha256_of, write_json, write_parquet, write_text
from tasks.dataset.table import Lighting
from tasks.gap_analysis.duplicates import count_duplicates
from tasks.gap_analysis.scores import LABEL, SAMPLE, SCORE, ScoredRows
from tasks.gap_analysis.spec import VcnSpec
from tasks.gap_analysis.sweep import OperatingPoint
from tasks.gap_analysis.vcn import Gaps, Unreachable
from tasks.gap_analysis.weakness import target_defects

GAPS = "kpi_gaps.parquet"
SAMPLES = "weak_samples.parquet"
THRESHOLD = "threshold.txt"
METRICS = "metrics.json"
BREAKDOWN = "weak_samples_breakdown.txt"
UNREACHABLE = "unreachable_kpi.txt"
SPOT_CHECK = "spot_check.json"

TEXT = pa.large_string()  # what pandas 3 writes; readers of plain strings read it too

ADVICE = {
    "no_no_pass_rows": "the CSV has no NO_PASS row; add labelled defects to the KPI set",
    "pinned_threshold": "choose a threshold that meets the targets, or leave it negative to sweep",
    "max_far": "retrain, relabel, or relax max_far or min_recall",
}


def write_gaps(gaps: Gaps, rows: ScoredRows, lighting: Lighting, spec: VcnSpec) -> dict[str, Any]:
    """Write every artifact of a reached target; files of an earlier run that say otherwise go first.

    Returns:
        The content of `metrics.json`.
    """
    samples = weak_samples(gaps, rows, lighting, spec.kpi_media_path)
    expanded = kpi_gaps(samples, lighting, spec.kpi_media_path)
    facts = metrics(gaps, rows, spec, expanded.num_rows)
    _remove(spec.results_dir, UNREACHABLE, *(() if spec.swept else (THRESHOLD,)))
    if spec.swept:
        write_text(spec.results_dir / THRESHOLD, repr(gaps.point.threshold))
    write_parquet(spec.results_dir / GAPS, expanded)
    write_parquet(spec.results_dir / SAMPLES, samples)
    write_text(spec.results_dir / BREAKDOWN, breakdown(gaps, len(rows), spec.top_k_per_label))
    write_json(spec.results_dir / METRICS, facts)
    return facts


def write_unreachable(found: Unreachable, spec: VcnSpec) -> Path:
    """Write `unreachable_kpi.txt` alone; results of an earlier run in that folder go first."""
    _remove(spec.results_dir, GAPS, SAMPLES, THRESHOLD, METRICS, BREAKDOWN)
    return write_text(spec.results_dir / UNREACHABLE, unreachable_text(found, spec))


def weak_samples(gaps: Gaps, rows: ScoredRows, lighting: Lighting, media_path: str) -> pa.Table:
    """One row per kept sample, label groups together, weakest first; the label as it is spelled."""
    kept = np.concatenate([np.empty(0, np.int64), *(group.rows for group in gaps.kept)])
    weakness = np.concatenate([np.empty(0), *(group.weakness for group in gaps.kept)])
    taken = rows.table.take(kept)
    folders, names = taken["input_path"].to_pylist(), taken["object_name"].to_pylist()
    root = Path(media_path)
    columns = {
        "input_path": pa.array(folders, TEXT),
        "object_name": pa.array(names, TEXT),
        LABEL: pa.array([label.strip() for label in taken[LABEL].to_pylist()], TEXT),
        SCORE: pa.array(rows.scores[kept]),
        "weakness": pa.array(weakness),
        "misclassified": pa.array(weakness > 0),
        "first_filepath": pa.array(
            [str(lighting.files(root, folder, name)[0]) for folder, name in zip(folders, names, strict=True)],
            TEXT,
        ),
    }
    return pa.table(columns)


def kpi_gaps(samples: pa.Table, lighting: Lighting, media_path: str) -> pa.Table:
    """Every kept sample once per lighting: `filepath, label, siamese_score, weakness`."""
    root = Path(media_path)
    pairs = zip(samples["input_path"].to_pylist(), samples["object_name"].to_pylist(), strict=True)
    files = [str(file) for folder, name in pairs for file in lighting.files(root, folder, name)]
    repeats = len(lighting.file_names(""))
    expanded = samples.take(np.repeat(np.arange(samples.num_rows), repeats))
    columns = expanded.select([LABEL, SCORE, "weakness"])
    return columns.add_column(0, "filepath", pa.array(files, TEXT))


def breakdown(gaps: Gaps, total: int, top_k: int | None) -> str:
    """The text for people: how many samples were kept, and per label how many of them are wrong."""
    lines = [
        "Weak samples breakdown by label "
        f"(threshold={gaps.point.threshold!r}, top_k_per_label={'null' if top_k is None else top_k})",
        f"Total KPI samples: {total}",
        f"Total weak samples kept: {gaps.samples_kept}",
        "",
        *label_lines(gaps),
    ]
    return "\n".join(lines) + "\n"


def label_lines(gaps: Gaps) -> list[str]:
    """One line per label with kept samples: their number, share, and how many are wrong or nearly so."""
    return [
        f"  {group.label}: {group.rows.size} ({group.rows.size / gaps.samples_kept:.1%}) \N{EM DASH} "
        f"{group.misclassified} misclassified, {group.rows.size - group.misclassified} marginal"
        for group in gaps.kept
    ]


def metrics(gaps: Gaps, rows: ScoredRows, spec: VcnSpec, rows_kept: int) -> dict[str, Any]:
    """The content of `metrics.json`; rates are fractions of 1, and the threshold always stands there."""
    point = gaps.point
    return {
        "precision": point.precision,
        "recall": point.recall,
        "f1": point.f1,
        "far": point.far,
        "confusion_matrix": {"tp": point.tp, "fp": point.fp, "tn": point.tn, "fn": point.fn},
        "per_label": {group.label: group.statistics() for group in gaps.groups},
        "target_defects": target_defects(gaps.groups),
        "threshold": point.threshold,
        "threshold_origin": "swept" if spec.swept else "pinned",
        "min_recall": spec.recall_floor,
        "max_far": spec.max_far,
        "top_k_per_label": spec.top_k_per_label,
        "mode": "filter" if spec.top_k_per_label is None else "top_k",
        "queue_usable": gaps.queue_usable,
        "candidates_evaluated": gaps.candidates,
        "candidates_feasible": gaps.candidates_feasible,
        "runner_up": [asdict(other) for other in gaps.runners_up],
        "n_boundary": gaps.boundary,
        "n_total": len(rows),
        "n_kept_samples": gaps.samples_kept,
        "n_kept_rows": rows_kept,
        "duplicates": count_duplicates(rows.table, SAMPLE),
        "engine": "native",
        "engine_version": engine_version(),
        "inputs": {
            name: {"path": path, "sha256": sha256_of(path)}
            for name, path in (("inference_csv", spec.inference_csv), ("train_config", spec.train_config))
        },
    }


def requested(spec: VcnSpec) -> str:
    """The targets in words: `recall >= 1.0`, a FAR ceiling and a pinned threshold where there is one."""
    words = f"recall >= {spec.recall_floor!r} on NO_PASS"
    if spec.max_far is not None:
        words += f" and FAR <= {spec.max_far!r}"
    return words if spec.swept else f"{words} at the pinned threshold {spec.threshold!r}"


def unreachable_text(found: Unreachable, spec: VcnSpec) -> str:
    """The content of `unreachable_kpi.txt`; rates are fractions of 1."""
    lines = [
        f"No threshold achieves {requested(spec)}.",
        f"Reason: {found.reason}",
        f"Rows: {found.passes} PASS, {found.no_passes} NO_PASS",
    ]
    if found.pinned is not None:
        lines.append(f"At the pinned threshold: {_in_words(found.pinned)}")
    lines.append(f"Best recall attainable: {_in_words(found.attainable)}")
    lines.append(f"Recall at best F1: {_in_words(found.best_f1)}")
    lines.append(f"Advice: {ADVICE[found.reason]}")
    return "\n".join(lines) + "\n"


def _in_words(point: OperatingPoint | None) -> str:
    if point is None:
        return "none (no such threshold)"
    return (
        f"{point.recall!r} at threshold {point.threshold!r} "
        f"(precision {point.precision!r}, F1 {point.f1!r}, FAR {point.far!r})"
    )


def _remove(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
