"""The reports of a flow: rendered from disk, and shown on the page of its run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.deft.report import render as render_loop
from tasks.deft.run import Run
from tasks.deft.stages import BASELINE
from tasks.deft.state import STATE_FILE, DeftState
from tasks.deft.summary import write_summary
from tasks.deft.trajectory import header, status_line, trajectory_rows
from tasks.publishing import as_table, file_link, publish_file, publish_markdown

logger = logging.getLogger("deft.flow")

STAGE_REPORTS = {"rca": "rca_report", "routing": "routing_report", "data_mining": "mining_report"}
"""The field of a phase that names the report of a stage."""

MOST_PHASES = 50


@contextmanager
def reporting(folder: Path) -> Iterator[None]:
    """What is done inside is about the reports of `folder`: that it fails is said, and costs nothing else."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - not even a defect of a report may cost a night's training
        text = f"{type(error).__name__}: {error}"
        logger.warning("report hook failed: %s; try again with: deft report %s", text, folder)


def report_loop(run: Run, *, require_terminal: bool = False) -> None:
    """Render what the last commit changed; the page of the run shows trajectory and stage report."""
    with reporting(run.folder):
        state = run.state
        event = state.events[-1]
        if event.iter != BASELINE:
            write_summary(run.folder, state, event.iter)
        page = render_loop(run.folder, require_terminal=require_terminal)[0]
        if event.stage == "evaluate" or event.status == "error" or require_terminal:
            publish_markdown("deft-loop", _loop_page(run, state, page), status_line(state))
        report = getattr(state.phase(event.iter), STAGE_REPORTS.get(event.stage, ""), None)
        if report and event.status == "ok" and not require_terminal:
            publish_file(f"{event.stage} report {event.iter}", report, event.summary)


def report_pipeline(folder: Path) -> Path | None:
    """Render the page of a pipeline run, and of its loop, which may hold a model that came after it."""
    with reporting(folder):
        from tasks.pipeline.report import render  # sweeps and templates: not what a loop needs to begin

        if (folder / STATE_FILE).is_file():
            render_loop(folder)
        return render(folder)
    return None


def _loop_page(run: Run, state: DeftState, page: Path) -> str:
    rows = trajectory_rows(state, run.contract)
    table = as_table(header(run.contract), rows, MOST_PHASES) if rows else "Nothing is measured yet."
    return f"{table}\n\nThe whole report: {file_link(page)}\n"
