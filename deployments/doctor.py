"""The command `deft doctor`: can flows run on this host, and what has to be done if not."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from tasks.preflight.doctor import Report

from deployments.connection import basic, configured

WIDTH = 110


def doctor(
    workspace: Annotated[Path, typer.Option(help="folder of the task's data; runs write there")] = Path(),
    engine: Annotated[
        Literal["native", "nvidia"], typer.Option(help="our own code, or NVIDIA's images on a GPU")
    ] = "native",
    probe: Annotated[
        bool, typer.Option("--probe", help="also start a container of the engine's image on the GPU")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="write host_preflight.json there")
    ] = None,
) -> None:
    """Look at this host: Docker, GPU, images, room, packages, server. Nothing is changed or installed.

    The exit status is 0 when the chosen engine can run here, else 1.
    """
    from tasks.preflight.doctor import examine, for_native, verdict, write_report
    from tasks.preflight.doctor_host import Host

    url, auth = configured()
    host = Host(
        workspace=workspace.expanduser(),
        engine=engine,
        probe=probe,
        api_url=url,
        api_headers=_headers(auth),
    )
    report = examine(host)
    if json_file:
        write_report(json_file, report)
    typer.echo(as_text(report))
    if report.stopped_by and engine == "nvidia":
        typer.echo(verdict(for_native(report)))
    raise typer.Exit(1 if report.stopped_by else 0)


def _headers(auth: str | None) -> dict[str, str]:
    """What the server of Prefect's settings wants to see."""
    from prefect.settings import PREFECT_API_KEY

    key = PREFECT_API_KEY.value()
    if auth:
        return basic(auth)
    return {"Authorization": f"Bearer {key}"} if key else {}


def as_text(report: Report) -> str:
    """The report for a terminal: a line a check, with its remedy below where that matters to the engine."""
    from tasks.preflight.doctor import verdict

    width = max(len(one.id) for one in report.checks)
    indent = " " * (width + 17)
    lines = [f"{'check':{width}}  {'status':7}  level  detail"]
    for one in report.checks:
        text = f"{one.id:{width}}  {one.status:7}  {one.level:5}  {one.detail}"
        lines += textwrap.wrap(
            text, WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
        )
        if one.status != "ok" and one.level != "info" and one.remedy:
            lines.append(f"{indent}-> {one.remedy}")
    return "\n".join([*lines, "", verdict(report)])
