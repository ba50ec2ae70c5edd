"""The last acts of a VCN gap analysis: pictures, report, checks, and the settings laid beside them."""

from __future__ import annotations

from pathlib import Path

from tasks.artifacts import read_json, write_yaml
from tasks.gap_analysis import report
from tasks.gap_analysis.report.checks import findings_of
from tasks.gap_analysis.report.inputs import (
    CONFIG,
    LOG,
    Origin,
    ReportInputs,
    families_of,
    kpi_of,
    origin_in_log,
    write_inputs,
)
from tasks.gap_analysis.spec import VcnSpec
from tasks.gap_analysis.spot_check import SpotCheck, spot_check
from tasks.gap_analysis.spot_check.inputs import embeddings_beside
from tasks.gap_analysis.vcn_files import UNREACHABLE
from tasks.reports.checks import write_validation
from tasks.reports.markdown import word_count
from tasks.reports.packaging import RUN_LOG, package
from tasks.spec import plain

SPEC = "vcn_aoi_spec.yaml"
PARAMETERS = "resolved_parameters.yaml"


def write_report(spec: VcnSpec, settings: SpotCheck, origin: Origin | None = None) -> Path:
    """Spot check, RCA_Report.md, validation.json, and at last `rca_config/` and `run.log`.

    Args:
        spec: of the analysis; its files lie in `results_dir`.
        settings: who gives the verdicts of the spot check; an unreachable target has none.
        origin: who computed the figures; what the log says where it is not given.

    Returns:
        The report.

    Raises:
        StageFailed: the report or the files do not hold; validation.json says in what.
    """
    folder = spec.results_dir
    (folder / RUN_LOG).unlink(missing_ok=True)
    write_yaml(folder / CONFIG / PARAMETERS, plain(spec.model_dump()))
    inputs = ReportInputs(
        kpi=kpi_of(spec.inference_csv),
        origin=origin or origin_in_log(folder / LOG),
        families={} if (folder / UNREACHABLE).is_file() else _families(spec, settings),
    )
    write_inputs(folder, inputs)
    path = report.render(folder)
    text = path.read_text(encoding="utf-8")
    figures = {"words": word_count(text), "words_outside_of_tables": word_count(text, tables=False)}
    write_validation(folder, findings_of(folder), figures)
    package(folder, CONFIG, [folder / SPEC, spec.train_config], [folder / LOG])
    return path


def _families(spec: VcnSpec, settings: SpotCheck) -> dict[str, str]:
    """Look at the weakest samples, and say of which component families they are."""
    folder = spec.results_dir
    looked_at = read_json(spot_check(folder, settings, embeddings_beside(folder)))
    return families_of(spec.inference_csv, looked_at["rows"])
