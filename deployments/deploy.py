"""The command `deft deploy`: everything that the Prefect server needs, again and again without harm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from deployments.plan import DOCKER, KUBERNETES, LOCAL, PARAMETERS, STAGES, Plan
from deployments.registration import (
    Registered,
    register_automations,
    register_blocks,
    register_deployments,
    register_limit,
    register_pool,
    register_runtime,
    server,
)
from deployments.site import RUNTIME, Collision, site_of, write_env
from tasks.errors import UsageError

COMPOSE_API = "http://server:4200/api"


def _option(variable: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(envvar=variable, help=text)
    return option


def deploy(  # noqa: PLR0913, PLR0917 - the options of a command
    data: Annotated[Path, _option("DEFT_DATA", "folder of the workspaces, at one path everywhere")],
    image: Annotated[
        str | None, _option("DEFT_IMAGE", "image of the flows; else the versions file's")
    ] = None,
    engine_image: Annotated[
        str | None, _option("DEFT_ENGINE_IMAGE", "image of single actions; else the versions file's")
    ] = None,
    engine: Annotated[
        str | None, _option("DEFT_ENGINE", "who answers to actions: nvidia (at first) or native")
    ] = None,
    gpus: Annotated[
        str | None, _option("DEFT_GPUS", "GPUs of a stage: all (at first), ids with commas, or none")
    ] = None,
    gpu_slots: Annotated[
        int | None, typer.Option(min=1, help="stages that compute on GPUs at one time; 1 at first")
    ] = None,
    runtime: Annotated[
        str | None, _option("DEFT_RUNTIME", f"where stages run; else {RUNTIME}, or inline with --local")
    ] = None,
    user: Annotated[str | None, _option("DEFT_USER", "UID:GID of the runs; else the owner of --data")] = None,
    docker_group: Annotated[
        str | None, _option("DEFT_DOCKER_GROUP", "GID of the Docker socket; else looked up here")
    ] = None,
    network: Annotated[
        str | None, _option("DEFT_NETWORK", "Docker network of the runs, from which they reach the server")
    ] = None,
    cron: Annotated[str | None, _option("DEFT_CRON", "when the nightly flow starts; else 0 2 * * *")] = None,
    timezone: Annotated[str | None, _option("DEFT_TIMEZONE", "whose clock that is; else UTC")] = None,
    collision: Annotated[
        Collision, _option("DEFT_COLLISION", "a night while the one before still runs is left out, or waits")
    ] = "cancel",
    data_claim: Annotated[
        str | None, _option("DEFT_DATA_CLAIM", "Kubernetes: the claim of the data volume; else deft-data")
    ] = None,
    parameters: Annotated[
        Path, typer.Option(help="folder of <deployment>.yaml files with parameters")
    ] = PARAMETERS,
    local: Annotated[
        bool, typer.Option("--local", help="runs are processes of a worker, not containers")
    ] = False,
    kubernetes: Annotated[
        bool, typer.Option("--kubernetes", help="also a pool for stages on a cluster")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="our templates, automations and runtime block over yours")
    ] = False,
    write_env_file: Annotated[
        Path | None, typer.Option("--write-env", help="write the variables of compose.yaml there, and end")
    ] = None,
    port: Annotated[int, typer.Option(help="with --write-env: port of the server on this host")] = 4200,
) -> None:
    """Register block types, work pools, the GPU limit, automations and every deployment on the server.

    What is there stays as it is, deployments apart, which become what deployments/prefect.yaml and these
    options say; a paused schedule stays paused. The server is that of PREFECT_API_URL.
    """
    if local and kubernetes:
        raise UsageError(
            "--local is for one machine without containers, --kubernetes for a cluster: give one"
        )
    if local:
        runtime = runtime or "inline"
    site = site_of(
        _api_url(write_env_file), data.expanduser().absolute(), image=image, engine_image=engine_image,
        engine=engine, gpus=gpus, runtime=runtime, user=user, docker_group=docker_group, network=network,
        cron=cron, timezone=timezone, collision=collision, data_claim=data_claim,
    )  # fmt: skip
    if write_env_file:
        typer.echo(f"written: {write_env(write_env_file, site, port)}")
        return
    pools = (LOCAL,) if local else (DOCKER, STAGES, KUBERNETES) if kubernetes else (DOCKER, STAGES)
    plan = Plan(site, pools, parameters)
    _show(_register(plan, gpu_slots, overwrite))


def _api_url(write_env_file: Path | None) -> str:
    from prefect.settings import PREFECT_API_URL

    return COMPOSE_API if write_env_file else PREFECT_API_URL.value() or ""


def _register(plan: Plan, gpu_slots: int | None, overwrite: bool) -> list[Registered]:
    plan.check()
    with server() as client:
        rows = [*register_blocks()]
        if plan.site.runtime != "inline":
            rows.append(register_runtime(plan, overwrite))
        rows += [register_pool(client, name, overwrite) for name in plan.pools]
        rows.append(register_limit(client, gpu_slots))
        rows += register_automations(client, overwrite)
        rows += register_deployments(client, plan)
    return rows


def _show(rows: Sequence[Registered]) -> None:
    cells = [("WHAT", "NAME", "NOW"), *((row.kind, row.name, row.done) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        typer.echo("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())
    for pool in (row.name for row in rows if row.kind == "work pool"):
        typer.echo(f"a worker for its runs: prefect worker start --pool {pool}")
