"""Routing as a Prefect task, with its report."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from blocks.runtime import Runtime
from tasks.artifacts import read_json
from tasks.errors import DeftError, StageFailed
from tasks.routing.report import write_report
from tasks.stage import run_stage

logger = logging.getLogger("deft.flow")


class Routed(BaseModel):
    """What routing leaves."""

    mining_gaps: Path
    anomalygen_gaps: Path
    summary: Path
    report: Path
    to_mining: int
    to_generation: int


def route_gaps(values: Mapping[str, Any], runtime: Runtime) -> Routed:
    """Split weak samples between mining and generation, and write the report of it.

    Args:
        values: of the spec of `routing route`.
        runtime: where to run it.

    Raises:
        DeftError: as the action does; where no sample can go anywhere, the report is written before.
        StageFailed: the report does not hold.
    """
    folder = Path(values["results_dir"])
    try:
        stage = run_stage("routing", "route", values, runtime)
    except StageFailed:
        if (folder / "routing.json").is_file():
            _tell(folder)
        raise
    report = write_report(folder)
    counts = read_json(stage.path("routing.json"))
    return Routed(
        mining_gaps=stage.path("mining_gaps"),
        anomalygen_gaps=stage.path("anomalygen_gaps"),
        summary=stage.path("routing_summary.txt"),
        report=report,
        to_mining=counts["to_mining"],
        to_generation=counts["to_generation"],
    )


def _tell(folder: Path) -> None:
    """Write the report of a routing that failed; what is amiss with the report must not hide why."""
    try:
        logger.error("no weak sample can be used: see %s", write_report(folder))
    except DeftError as error:
        logger.warning("the report of the failed routing does not hold: %s", error)
