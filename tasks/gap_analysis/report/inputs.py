"""What the RCA report tells from outside of its folder: the KPI result, and where the figures are from."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.artifacts import read_json, write_json
from tasks.errors import InputError
from tasks.evaluation.contract import Bound, MetricContract, MetricResult
from tasks.gap_analysis.scores import SAMPLE, read_scores
from tasks.taken_from import taken_from

logger = logging.getLogger("deft")

CONFIG = "rca_config"
INPUTS = "report_inputs.json"
LOG = "vcn_aoi.log"


class Kpi(BaseModel):
    """The metric result of the scores that were analysed, held against its contract.

    Attributes:
        contract: what must be reached, in words: `FAR < 10% at Recall=100%`.
        value: what was measured, in `unit`.
        met: whether that is enough.
        source: the file that says so.
    """

    model_config = ConfigDict(frozen=True)

    contract: str
    value: float
    unit: str
    met: bool
    source: Path


class Origin(BaseModel):
    """Who computed the figures.

    Attributes:
        cached: an earlier analysis of equal inputs was taken over.
        computed_by: the flow run that computed them, where that is known.
        folder: where they were computed, if not in the folder of the report.
        seconds: how long that took.
    """

    model_config = ConfigDict(frozen=True)

    cached: bool = False
    computed_by: str | None = None
    folder: Path | None = None
    seconds: float | None = None


class ReportInputs(BaseModel):
    """What is kept beside the report, so that it can be rendered again from its folder alone.

    Attributes:
        families: the component family of samples, by `<input_path>/<object_name>`, where the CSV tells it.
    """

    model_config = ConfigDict(frozen=True)

    kpi: Kpi | None = None
    origin: Origin = Origin()
    families: dict[str, str] = {}


def write_inputs(folder: Path, inputs: ReportInputs) -> Path:
    """Keep them in the folder of settings."""
    return write_json(folder / CONFIG / INPUTS, inputs.model_dump(mode="json"))


def read_inputs(folder: Path, inference_csv: Path | None) -> ReportInputs:
    """What was kept; in a folder that was left without, what can be found out now."""
    kept = folder / CONFIG / INPUTS
    if kept.is_file():
        return ReportInputs.model_validate(read_json(kept))
    return ReportInputs(
        kpi=kpi_of(inference_csv) if inference_csv else None, origin=origin_in_log(folder / LOG)
    )


def origin_in_log(log: Path) -> Origin:
    """The origin that the log of a stage tells."""
    found = taken_from(log)
    if found is None:
        return Origin()
    return Origin(cached=True, folder=found.folder, computed_by=found.computed_by)


def kpi_of(inference_csv: Path) -> Kpi | None:
    """The KPI of an inference CSV `<phase>/inference/<kind>/inference.csv`, where one was measured.

    It is what the state of the loop says of the phase, or else what lies in `<phase>/evaluate`. Files that
    cannot be read count as none: a report must not fail for want of them.
    """
    if len(inference_csv.parents) < 4:
        return None
    phase = inference_csv.parents[2]
    try:
        return _in_state(phase, inference_csv) or _in_evaluate(phase, inference_csv)
    except (InputError, ValidationError, KeyError) as error:
        logger.warning("no KPI result of %s: %s", inference_csv, " ".join(str(error).split()))
        return None


def families_of(inference_csv: Path, rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The component family of samples, as the columns `comp_type_...` of the CSV say it.

    Raises:
        InputError: the CSV cannot be read.
    """
    header = pd.read_csv(inference_csv, nrows=0, encoding="utf-8-sig").columns
    columns = sorted(name for name in header if name.startswith("comp_type"))
    asked = {(row["input_path"], row["object_name"]) for row in rows}
    if not columns or not asked:
        return {}
    table = read_scores(inference_csv, (*SAMPLE, *columns)).table.select([*SAMPLE, *columns]).to_pandas()
    chosen = table[table["object_name"].isin([name for _, name in asked])]
    families: dict[str, str] = {}
    for folder, name, *cells in chosen.itertuples(index=False):
        if (folder, name) in asked and any(cells):
            families[f"{folder}/{name}"] = " / ".join(filter(None, cells))
    return families


def _in_state(phase: Path, inference_csv: Path) -> Kpi | None:
    file = phase.parent / "deft_state.json"
    if not file.is_file():
        return None
    state: dict[str, Any] = read_json(file)
    reached = state.get("iterations", {}).get(phase.name, {})
    result = reached.get("metric_result")
    if not result or reached.get("inference_csv") != str(inference_csv) or reached.get("passed") is None:
        return None
    return Kpi(
        contract=state["kpi_target"],
        value=result["value"],
        unit=result["unit"],
        met=reached["passed"],
        source=file,
    )


def _in_evaluate(phase: Path, inference_csv: Path) -> Kpi | None:
    for spec_file in sorted(phase.glob("evaluate/*/measure_spec.yaml")):
        spec: dict[str, Any] = yaml.safe_load(spec_file.read_text(encoding="utf-8"))
        file = spec_file.with_name("metric_result.json")
        given = spec.get("metric_contract")
        if spec.get("inference_csv") != str(inference_csv) or not given or not file.is_file():
            continue
        contract, result = MetricContract.of(given), MetricResult.model_validate(read_json(file))
        words = given if isinstance(given, str) else _in_words(contract)
        met = contract.passed(result)
        return Kpi(contract=words, value=result.value, unit=result.unit, met=met, source=file)
    return None


def _in_words(contract: MetricContract) -> str:
    bounds: list[Bound] = [contract, *contract.constraints]
    return " and ".join(
        f"{one.display_name} {one.operator} {one.target:g} {one.unit}".rstrip() for one in bounds
    )
