"""`DEFT_Loop_Report.html` and `iterN/report.html`: a loop as a person wants to see it.

A pure function of the files of a run, on any partial state: what is not known yet, or is gone, is `—`.
"""

from __future__ import annotations

from pathlib import Path

from tasks.errors import StageFailed, listed

LOOP_REPORT = "DEFT_Loop_Report.html"
ITERATION_REPORT = "report.html"


def render(folder: Path, *, require_terminal: bool = False) -> list[Path]:
    """Write the loop's report, and one for each iteration that has begun.

    Args:
        folder: the run folder, which holds `deft_state.json`.
        require_terminal: the run must be complete and every panel filled.

    Raises:
        InputError: the folder holds no state of a loop.
        StageFailed: with `require_terminal`, something is missing; the reports are written all the same.
    """
    # Imported here: a flow that only can render must not wait for matplotlib when it is imported.
    from tasks.deft.report.files import LoopFiles
    from tasks.deft.report.iteration import iteration_page
    from tasks.deft.report.panels import incomplete, loop_page
    from tasks.reports.page import write_page

    files = LoopFiles.of(folder)
    page = loop_page(files)
    written = [write_page(files.folder / LOOP_REPORT, f"{LOOP_REPORT}.j2", **page)]
    for label in files.iterations:
        path = files.folder / label / ITERATION_REPORT
        content = iteration_page(files, label)
        written.append(write_page(path, "DEFT_Iteration_Report.html.j2", **content))
    if require_terminal and (missing := list(incomplete(files, page))):
        raise StageFailed(f"{written[0]} is not the report of a finished loop: {listed(missing)}")
    return written
