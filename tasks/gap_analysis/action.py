"""`gap_analysis vcn_aoi` and `gap_analysis vlm_bcq`."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from tasks.action import ActionCode
from tasks.artifacts import read_json, sha256_of, write_json, write_text
from tasks.dataset.table import lighting_of
from tasks.errors import TargetUnreachable
from tasks.gap_analysis import bcq, vcn_files
from tasks.gap_analysis.headline import bcq_headline, vcn_headline
from tasks.gap_analysis.scores import read_scores
from tasks.gap_analysis.spec import BcqSpec, VcnSpec
from tasks.gap_analysis.vcn import Gaps, Unreachable, analyse

logger = logging.getLogger("deft")

BCQ_GAPS = "kpi_gaps.jsonl"
BCQ_REPORT = "kpi_gaps_report.txt"
BCQ_SUMMARY = "bcq_summary.json"
MANY_SKIPPED = 0.2


def run_vcn(spec: VcnSpec) -> None:
    """Analyse an inference CSV and write the artifacts of spec gap-analysis A.3 into `results_dir`.

    Raises:
        InputError: the CSV or the train YAML is missing or malformed; nothing is written.
        TargetUnreachable: no threshold meets the targets; only `unreachable_kpi.txt` is written.
    """
    lighting = lighting_of(spec.train_config)
    rows = read_scores(spec.inference_csv)
    logger.info("Images of a sample: %s", ", ".join(lighting.file_names("<object_name>")))
    found = analyse(rows, spec)
    if isinstance(found, Unreachable):
        path = vcn_files.write_unreachable(found, spec)
        raise TargetUnreachable(
            f"no threshold achieves {vcn_files.requested(spec)} ({found.reason}): "
            f"{vcn_files.ADVICE[found.reason]}; see {path}"
        )
    _tell(found, vcn_files.write_gaps(found, rows, lighting, spec))


def _tell(gaps: Gaps, facts: dict[str, Any]) -> None:
    point = gaps.point
    logger.info("Threshold: %r (%s, %s)", point.threshold, facts["threshold_origin"], facts["mode"])
    logger.info("NO_PASS: precision %.6f, recall %.6f, F1 %.6f", point.precision, point.recall, point.f1)
    logger.info(
        "Kept: %d samples, %d rows of %d samples",
        *(facts[f"n_{name}"] for name in ("kept_samples", "kept_rows", "total")),
    )
    for line in vcn_files.label_lines(gaps):
        logger.info("%s", line)
    if facts["duplicates"]:
        logger.warning(
            "%d rows repeat an input_path and object_name; all are kept as samples", facts["duplicates"]
        )
    if not gaps.queue_usable:
        logger.warning("GAP-W01: the augmentation queue has no NO_PASS rows; set a positive top_k_per_label")


def _vcn_outputs(spec: VcnSpec) -> dict[str, Path]:
    names = [vcn_files.GAPS, vcn_files.SAMPLES, vcn_files.METRICS, vcn_files.BREAKDOWN]
    if spec.swept:
        names.append(vcn_files.THRESHOLD)
    return {name: spec.results_dir / name for name in names}


def run_bcq(spec: BcqSpec) -> None:
    """Compare yes/no answers with the truth; without failures only the summary is written.

    Raises:
        InputError: the predictions are missing or malformed; nothing is written.
    """
    items = bcq.read_predictions(spec.predictions_json)
    answers = bcq.evaluate(items, spec.videos_dir)
    for skipped in answers.skipped:
        logger.warning("Item %d skipped: %s: %s", skipped.index, skipped.field, skipped.reason)
    warnings = _bcq_warnings(answers, len(items))
    summary = bcq.summary(answers, len(items))
    if spec.check_exists:
        summary["n_missing_files"] = sum(not Path(row["video_id"]).is_file() for row in answers.failures)
        if summary["n_missing_files"]:
            warnings.append(
                f"BCQ-W03: {summary['n_missing_files']} failures name a video that does not exist"
            )
    for warning in warnings:
        logger.warning("%s", warning)
    source = {"path": spec.predictions_json, "sha256": sha256_of(spec.predictions_json)}
    summary |= {
        "status": "warn" if warnings else "ok",
        "warnings": warnings,
        "inputs": {"predictions_json": source},
    }
    _write_bcq(answers, spec.results_dir)
    write_json(spec.results_dir / BCQ_SUMMARY, summary)


def _write_bcq(answers: bcq.Answers, folder: Path) -> None:
    if not answers.failures:
        for name in (BCQ_GAPS, BCQ_REPORT):
            (folder / name).unlink(missing_ok=True)
        logger.info("No KPI gaps found")
        return
    lines = [json.dumps(row, ensure_ascii=False) for row in answers.failures]
    write_text(folder / BCQ_GAPS, "\n".join(lines) + "\n")
    text = bcq.report(answers.counts)
    write_text(folder / BCQ_REPORT, text)
    logger.info("%s", text.rstrip())


def _bcq_warnings(answers: bcq.Answers, n_items: int) -> list[str]:
    skipped = len(answers.skipped)
    if n_items and skipped == n_items:
        return ["BCQ-W02: every item was skipped; check the answer format of the prompt"]
    if skipped > MANY_SKIPPED * n_items:
        return [f"BCQ-W01: {skipped} of {n_items} items were skipped; check the answer format of the prompt"]
    return []


def _bcq_outputs(spec: BcqSpec) -> dict[str, Path]:
    names = [BCQ_SUMMARY]
    summary = spec.results_dir / BCQ_SUMMARY
    if summary.is_file():
        facts = read_json(summary)
        names += [BCQ_GAPS, BCQ_REPORT] if facts["n_fp"] + facts["n_fn"] else []
    return {name: spec.results_dir / name for name in names}


VCN_AOI = ActionCode(
    spec=VcnSpec,
    run=run_vcn,
    folder=lambda spec: spec.results_dir,
    outputs=_vcn_outputs,
    headline=vcn_headline,
    reads=lambda spec: [spec.inference_csv],
)

VLM_BCQ = ActionCode(
    spec=BcqSpec,
    run=run_bcq,
    folder=lambda spec: spec.results_dir,
    outputs=_bcq_outputs,
    headline=bcq_headline,
)
