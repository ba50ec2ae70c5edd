"""The commands `deft trigger` and `deft cancel`: start a run of a deployment, and end one."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deployments.api import DeftClient
from deployments.api_models import Deployment, Run
from deployments.connection import configured
from deployments.watch import WaitedTooLong
from tasks.errors import DeftError, UsageError, listed
from tasks.spec import read_mapping

CANCELLED_STATUS = 4
INTERRUPTED_STATUS = 130


def trigger(  # noqa: PLR0913 (the options of a command)
    deployment: Annotated[
        str, typer.Argument(help="flow/name of a deployment, or its name if it is the only one")
    ],
    *,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="a parameter, its value as YAML; a.b=1 sets b in a; repeat"),
    ] = None,
    params: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML file of parameters; --param goes over it")
    ] = None,
    job_variable: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="a variable of the work pool, as --param; repeat"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="name of the run")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="a tag of the run; repeat")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="a second request with this key starts nothing")
    ] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="when it starts: 2026-11-21T22:00")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="show what it logs until it ends")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="wait until it ends")] = False,
    timeout: Annotated[float | None, typer.Option(min=0, help="seconds to wait at most")] = None,
) -> None:
    """Start a run of a deployment on the server, and say how it is called.

    With --wait or --follow the exit status tells its end: 0 Completed, 1 Failed or Crashed, 4 Cancelled, 124
    not ended after --timeout, 130 interrupted here. In the last two cases the run goes on.
    """
    if timeout is not None and not (follow or wait):
        raise UsageError("--timeout goes with --wait or --follow")
    moment = _moment(at) if at else None
    given = read_mapping(params, "parameter file") if params else {}
    with DeftClient(*configured()) as client:
        target = client.deployment(deployment)
        values = assigned(param or [], given, _defaults(target), target.schema)
        run = client.create(
            target,
            values,
            job_variables=assigned(job_variable or [], {}, target.job_variables, {}),
            tags=tag or (),
            name=name,
            idempotency_key=idempotency_key,
            at=moment,
        )
        typer.echo(f"run {run.name} of {target.name} {_beginning(run, values)}; id {run.id}")
        typer.echo(client.link(run.id))
        if follow or wait:
            _exit_as(_awaited(client, run, follow, timeout))


def cancel(
    run: Annotated[str, typer.Argument(help="name or id of the run, or the first characters of its id")],
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="ask for it, and do not wait for its end")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0, help="seconds to wait at most")] = 120,
) -> None:
    """End a run; what it started ends with it."""
    with DeftClient(*configured()) as client:
        found = client.find(run)
        if found.ended:
            typer.echo(f"run {found.name} had ended already, nothing was sent: it is {found.state}")
        elif no_wait:
            found = client.cancel(found.id)
            typer.echo(f"run {found.name} is {found.state}")
        else:
            found = _cancelled(client, found, timeout)
    if found.ended and found.kind != "CANCELLED":
        raise DeftError(f"run {found.name} ended {found.state}, not Cancelled")


def _cancelled(client: DeftClient, run: Run, timeout: float) -> Run:
    client.cancel(run.id)
    try:
        return client.wait(run.id, timeout=timeout, poll=1.0, say=typer.echo)
    except WaitedTooLong as error:
        raise WaitedTooLong(
            f"run {run.name} is not Cancelled after {timeout:g} s: see that its worker runs, or "
            f"end it on the page {client.link(run.id)}"
        ) from error


def _beginning(run: Run, values: Mapping[str, Any]) -> str:
    if run.created:
        return "started"
    others = [key for key, value in values.items() if run.parameters.get(key) != value]
    differs = f", with another {listed(others)}" if others else ""
    return f"was there already{differs}: nothing was started, it is {run.state}"


def _awaited(client: DeftClient, run: Run, follow: bool, timeout: float | None) -> Run:
    try:
        if follow:
            return client.follow(run.id, typer.echo, timeout=timeout)
        return client.wait(run.id, timeout=timeout, say=typer.echo)
    except KeyboardInterrupt:
        typer.echo(f"run {run.name} goes on: 'deft cancel {run.name}' ends it", err=True)
        raise typer.Exit(INTERRUPTED_STATUS) from None


def _exit_as(run: Run) -> None:
    if run.kind == "CANCELLED":
        raise typer.Exit(CANCELLED_STATUS)
    if run.kind != "COMPLETED":
        raise DeftError(f"run {run.name} ended {run.state}: {run.message or 'it says no more'}")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise UsageError(f"--at {text!r} is no time: write it as 2026-11-21T22:00+01:00") from None
    if moment.timestamp() < time.time():
        raise UsageError(f"--at {text} is over: leave it out to start now")
    return moment


def _defaults(target: Deployment) -> dict[str, Any]:
    """The parameters that a run has if none are given."""
    fields = target.schema.get("properties", {})
    own = {name: field["default"] for name, field in fields.items() if "default" in field}
    return own | dict(target.parameters)


def assigned(
    words: list[str], values: Mapping[str, Any], defaults: Mapping[str, Any], schema: Mapping[str, Any]
) -> dict[str, Any]:
    """`values` with each word `key=value` written into them; nothing else of them differs.

    The value is YAML; where the schema wants text it is the text as it stands, so that `007` stays. A dotted
    key `a.b` changes one entry of the mapping `a`, and the others stay as in `values` or `defaults`.

    Raises:
        UsageError: a word is no `key=value`, its value no YAML, or its key lies in what is no mapping.
    """
    found = copy.deepcopy(dict(values))
    for word in words:
        key, equals, text = word.partition("=")
        first, *inner = key.split(".")
        if not equals or not all([first, *inner]):
            raise UsageError(f"{word!r} is not KEY=VALUE")
        value = _value(key, text, _field(schema, [first, *inner]))
        if not inner:
            found[first] = value
            continue
        at = found.setdefault(first, copy.deepcopy(defaults.get(first)))
        if at is None:
            at = found[first] = {}
        for part in inner[:-1]:
            at = at.setdefault(part, {}) if isinstance(at, dict) else None
        if not isinstance(at, dict):
            raise UsageError(f"{key} lies in a value that is no mapping: give the whole of {first}")
        at[inner[-1]] = value
    return found


def _value(key: str, text: str, field: Mapping[str, Any]) -> Any:
    try:
        tree = OmegaConf.from_dotlist([f"value={text}"])  # reads 1e-3 as a number and a date as text
        value = OmegaConf.to_container(tree)["value"]  # type: ignore[call-overload, index]
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise UsageError(f"the value of {key} is no YAML: {' '.join(str(error).split())}") from error
    kinds = {one.get("type") for one in field.get("anyOf", [field])}
    only_text = "string" in kinds and kinds <= {"string", "null"}
    as_it_stands = only_text and not isinstance(value, str) and not (value is None and "null" in kinds)
    return text if as_it_stands else value


def _field(schema: Mapping[str, Any], path: list[str]) -> Mapping[str, Any]:
    """What the schema says of one field; nothing where it does not say."""
    at: Mapping[str, Any] = schema
    for part in path:
        options = [_resolved(one, schema) for one in [at, *at.get("anyOf", []), *at.get("allOf", [])]]
        fields = [one["properties"][part] for one in options if part in one.get("properties", {})]
        if not fields:
            return {}
        at = _resolved(fields[0], schema)
    return at


def _resolved(field: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    place = field.get("$ref", "")
    return schema.get("definitions", {}).get(place.rpartition("/")[2], {}) if place else field
