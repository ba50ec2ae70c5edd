"""The visual spot check of a finished gap analysis: a person, a model or rules look at its weakest samples.

With the judge `manual` the run waits, in the Prefect UI, with a form that shows the pictures: press Resume,
choose a verdict under each, submit. Whoever prefers a spreadsheet fills the column `verdict` of
`spot_check_verdicts.csv` in the rca folder, and has the report written again without being asked:

    deft run spot-check --rca-folder FOLDER --timeout-seconds 0

And any program can answer (`API` is the address of the server with /api behind it):

    POST API/flow_runs/ID/resume   {"run_input": {"picture_01": "edge case", "your_name": "Anna"}}
        "REJECT" in the answer's field `status` says that it cannot be used, with the reason
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput
from prefect.states import Running
from pydantic import BaseModel, ValidationError

from flows.approval import open_key, wait_for_answer
from flows.spot_check_form import NAME, answers_in, form_of
from tasks.artifacts import read_json
from tasks.errors import InputError
from tasks.gap_analysis.spot_check import SpotCheck
from tasks.gap_analysis.spot_check import spot_check as look
from tasks.gap_analysis.spot_check.inputs import embeddings_beside
from tasks.gap_analysis.spot_check.judges import PENDING
from tasks.gap_analysis.spot_check.verdicts import VERDICTS_CSV, read_verdicts, write_verdicts
from tasks.gap_analysis.vcn_files import SAMPLES, SPOT_CHECK, UNREACHABLE
from tasks.publishing import publish_file

logger = logging.getLogger("deft.flow")

BY_A_PERSON = SpotCheck(judge="manual")

Rows = dict[int, dict[str, Any]]
"""Rows of `spot_check.json` by their rank, from 1."""


class SpotChecked(BaseModel):
    """What a spot check leaves, and how many of its pictures still wait for a person."""

    folder: Path
    report: Path
    verdicts: Path
    pending: int


@flow(name="spot-check")
def spot_check(
    rca_folder: Path, spot_check: SpotCheck = BY_A_PERSON, timeout_seconds: int = 24 * 3600
) -> SpotChecked:
    """Look at the weakest samples of a gap analysis again, and write its report again.

    Args:
        rca_folder: a folder of a VCN gap analysis, or the run folder of a loop for its latest one.
        spot_check: who looks; by default a person, in the Prefect UI or in spot_check_verdicts.csv.
        timeout_seconds: how long to wait for a person; 0 asks nobody. Afterwards the verdicts stay pending.
    """
    folder = rca_folder_in(rca_folder.absolute())
    rows = rows_of(look(folder, spot_check, embeddings_beside(folder)))
    pending = _pending(rows)
    report = _render(folder)
    if pending and timeout_seconds > 0:
        answer = _ask(_this_run(), folder, pending, timeout_seconds)
        if answer is not None:
            record(folder, pending, answers_in(answer, list(pending)), getattr(answer, NAME))
            rows = rows_of(look(folder, spot_check, embeddings_beside(folder)))
            report = _render(folder)
    publish_file("rca report", report)
    waiting = len(_pending(rows))
    logger.info("spot check of %s: %d pictures, %d wait for a person; %s", folder, len(rows), waiting, report)
    return SpotChecked(folder=folder, report=report, verdicts=folder / VERDICTS_CSV, pending=waiting)


def rca_folder_in(folder: Path) -> Path:
    """`folder` if it holds a gap analysis, else the latest one of a loop's run folder, by its clock.

    Raises:
        InputError: there is none.
    """
    candidates = sorted(
        [*folder.glob("rca_results/*"), *folder.glob("*/rca_results/*")],
        key=lambda one: one.name,
        reverse=True,
    )
    for one in (folder, *candidates):
        if any((one / name).is_file() for name in (SAMPLES, UNREACHABLE)):
            return one
    raise InputError(
        f"rca_folder {folder} holds no gap analysis ({SAMPLES}), nor does */rca_results/* in it; "
        "give the folder of one, or the run folder of a loop"
    )


def rows_of(spot_check_json: Path) -> Rows:
    """The rows of a spot check by their rank."""
    return dict(enumerate(read_json(spot_check_json)["rows"], 1))


def record(folder: Path, rows: Rows, verdicts: Mapping[int, str], by: str) -> Path:
    """Write what a person said of some of these rows into the folder's `spot_check_verdicts.csv`."""
    file = folder / VERDICTS_CSV
    said = read_verdicts(file)
    for number, word in verdicts.items():
        said = said.with_verdict(rows[number], word, by)
    every = rows_of(folder / SPOT_CHECK)
    return write_verdicts(file, every.values(), said)


def _pending(rows: Rows) -> Rows:
    return {number: row for number, row in rows.items() if row["verdict"] == PENDING}


def _render(folder: Path) -> Path:
    from tasks.gap_analysis.report import render

    return render(folder)


def _this_run() -> FlowRun:
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    return context.flow_run


def _ask(run: FlowRun, folder: Path, rows: Rows, timeout_seconds: int) -> RunInput | None:
    """The filled form; None where nobody filled it in time. It counts only for the pictures it showed."""
    form = form_of(folder, rows)
    shown = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:12]
    key = open_key(run, f"spot-check-{shown}")
    logger.info(
        "%d pictures wait for a person: the Resume button of run %s in the UI, or POST "
        "/api/flow_runs/%s/resume, or %s",
        *(len(rows), run.name, run.id, folder / VERDICTS_CSV),
    )
    try:
        return wait_for_answer(run, form, key, timeout_seconds)
    except FlowPauseTimeout:
        _go_on(run)
        logger.warning("nobody looked within %d s; the verdicts stay pending", timeout_seconds)
    except ValidationError:
        logger.warning("run %s was resumed without an answer; the verdicts stay pending", run.name)
    return None


def _go_on(run: FlowRun) -> None:
    """Leave the pause; the server calls a run failed that was not resumed in time."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Running(), force=True)
