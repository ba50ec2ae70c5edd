"""The command `deft approve`: see which runs wait for a person's yes or choice, and answer one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import httpx
import typer

from tasks.errors import DeftError, UsageError, listed

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

FORMS = ("Approval", "Decision")
"""Titles of the forms that are answered here: of flows/approval.py, and of flows/finetune_huggingface.py."""


def approve(  # noqa: PLR0913 (the options of a command)
    run: Annotated[
        str | None, typer.Argument(help="name or id of the run, or the first characters of its id")
    ] = None,
    *,
    reject: Annotated[bool, typer.Option("--reject", help="say no: the run ends")] = False,
    choice: Annotated[str | None, typer.Option(help="which one, where the run offers several")] = None,
    note: Annotated[str, typer.Option(help="why; kept with the run")] = "",
    max_iterations: Annotated[int | None, typer.Option(min=1, help="other rounds of improvement")] = None,
    phase1_trials: Annotated[int | None, typer.Option(min=1, help="other trials in phase 1")] = None,
    phase3_trials: Annotated[int | None, typer.Option(min=1, help="other trials in phase 3")] = None,
    per_job_minutes: Annotated[float | None, typer.Option(help="minutes of one training")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask whether you mean it")] = False,
) -> None:
    """List the runs that wait for a person, or show what one asks and approve it.

    A run that offers several ways wants to know which: --choice, or it is asked here. With a correction
    (--max-iterations and the like) nothing starts yet: the summary is made again with it, and the run asks
    again.
    """
    corrections = {
        name: value
        for name, value in {
            "max_iterations": max_iterations,
            "phase1_trials": phase1_trials,
            "phase3_trials": phase3_trials,
            "per_job_minutes": per_job_minutes,
        }.items()
        if value is not None
    }
    changes = corrections if choice is None else {"choice": choice, **corrections}
    if run is None and (reject or note or changes or yes):
        raise UsageError("no run named to answer: 'deft approve' alone lists those that wait")
    if reject and changes:
        raise UsageError("--reject ends the run, a choice or a correction does not: give one of them")
    with _server() as client:
        if run is None:
            _list(client)
        else:
            _answer(client, run, {"approve": not reject, "note": note, **changes}, yes)


@contextmanager
def _server() -> Iterator[SyncPrefectClient]:
    """Prefect's client for PREFECT_API_URL or, if there is none, for a server of this process on the same
    database that runs without a server use.

    Raises:
        DeftError: the server cannot be reached or started, or does not let us in.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_URL

    place = PREFECT_API_URL.value() or "started here"
    try:
        client = get_client(sync_client=True)
    except RuntimeError as error:
        raise DeftError(f"no Prefect server could be started: {error}") from error
    try:
        with client:
            yield client
    except PrefectHTTPStatusError as error:
        text = f"Prefect server {place} answers {error.response.status_code} to {error.request.url.path}"
        raise DeftError(f"{text}: look at PREFECT_API_URL and PREFECT_API_AUTH_STRING") from error
    except httpx.TransportError as error:
        text = f"Prefect server {place} cannot be reached ({error or type(error).__name__})"
        raise DeftError(f"{text}: start it, or set PREFECT_API_URL") from error


def _list(client: SyncPrefectClient) -> None:
    waiting = _waiting(client)
    if not waiting:
        typer.echo("no run waits for an approval")
        return
    rows = [("NAME", "ID", "FLOW", "SINCE", "UNTIL")]
    for run in waiting:
        state = run.state
        assert state is not None
        flow = client.read_flow(run.flow_id).name
        rows.append(
            (run.name, str(run.id), flow, _clock(state.timestamp), _clock(state.state_details.pause_timeout))
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())
    typer.echo("read and answer one: deft approve NAME")


def _clock(moment: datetime | None) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M") if moment else "-"


def _answer(client: SyncPrefectClient, word: str, answer: dict[str, Any], yes: bool) -> None:
    from flows.approval import summary_in

    run = _find(client, word)
    keyset = _keyset(run)
    assert keyset is not None
    form = _form(client, run.id, keyset)
    _check(run.name, answer, form)
    _show(summary_in(json.loads(client.read_flow_run_input(run.id, keyset["description"]))))
    answer |= _choice(run.name, answer, _choices(form))
    chosen = f" with {answer['choice']!r}" if answer["approve"] and "choice" in answer else ""
    corrected = answer.keys() - {"approve", "note", "choice"}
    verb = "correct" if corrected else "approve" if answer["approve"] else "reject"
    if not yes and not sys.stdin.isatty():
        raise UsageError("nothing was sent: nobody can be asked here, this is no terminal; add --yes")
    if not yes and not typer.confirm(f"{verb} run {run.name}{chosen}?"):
        typer.echo("nothing was sent; the run goes on waiting")
        raise typer.Exit(1)
    if _keyset(client.read_flow_run(run.id)) != keyset:
        raise DeftError(f"run {run.name} was answered by somebody else meanwhile: see 'deft approve'")
    done = client.resume_flow_run(run.id, run_input=answer)
    if done.status.value != "ACCEPT":
        raise DeftError(f"run {run.name} does not take the answer: {_reason(done)}")
    typer.echo(
        {
            "approve": f"approved{chosen}; run {run.name} goes on",
            "reject": f"rejected; run {run.name} ends",
            "correct": f"corrected, nothing is approved yet; run {run.name} makes the summary again and asks "
            f"again: deft approve {run.name}",
        }[verb]
    )


def _form(client: SyncPrefectClient, run_id: UUID, keyset: dict[str, str]) -> dict[str, Any]:
    """The JSON schema of what a run that waits wants to know."""
    form: dict[str, Any] = json.loads(client.read_flow_run_input(run_id, keyset["schema"]))
    return form


def _choices(form: dict[str, Any]) -> list[str]:
    """What a form offers to choose from; nothing where it asks for a plain yes or no."""
    field = form["properties"].get("choice", {})
    return field.get("enum") or [field["const"]] if field else []


def _check(name: str, answer: dict[str, Any], form: dict[str, Any]) -> None:
    """Raises `UsageError` where an answer holds what the form does not ask for, or what it does not offer."""
    unasked = [f"--{key.replace('_', '-')}" for key in answer if key not in form["properties"]]
    if unasked:
        raise UsageError(f"run {name} does not ask for {listed(unasked)}: see 'deft approve {name}'")
    choices = _choices(form)
    if "choice" in answer and answer["choice"] not in choices:
        raise UsageError(f"--choice {answer['choice']!r} is not offered: choose one of {listed(choices)}")


def _choice(name: str, answer: dict[str, Any], choices: list[str]) -> dict[str, str]:
    """The choice that an answer lacks: the person's, or, for a no, any, since the form wants one."""
    if not choices or "choice" in answer:
        return {}
    if not answer["approve"]:
        return {"choice": choices[0]}
    typer.echo("\n".join(f"{number}. {choice}" for number, choice in enumerate(choices, start=1)))
    if not sys.stdin.isatty():
        raise UsageError(f"nothing was sent: run {name} wants to know which; add --choice and --yes")

    def offered(text: str) -> str:
        if text in choices:
            return text
        if not text.isdecimal() or not 1 <= int(text) <= len(choices):
            raise typer.BadParameter(f"give a number from 1 to {len(choices)}")
        return choices[int(text) - 1]

    return {"choice": typer.prompt("which", value_proc=offered)}


def _reason(done: Any) -> str:
    return " ".join(str(getattr(done.details, "reason", None) or done.status.value).split())


def _find(client: SyncPrefectClient, word: str) -> FlowRun:
    """The one run that waits and is called `word`, or whose id is or begins with it.

    Raises:
        DeftError: there is no such run, it does not wait, or several are meant.
    """
    found = [run for run in _waiting(client) if run.name == word or str(run.id).startswith(word.lower())]
    if len(found) > 1:
        raise DeftError(f"several runs that wait are meant by {word!r}: {listed([run.id for run in found])}")
    if found:
        return found[0]
    others = _runs(client, name={"any_": [word]}) or _runs(client, id={"any_": _uuid(word)})
    if not others:
        raise DeftError(f"no run is called {word!r}, and none that waits has an id that begins so")
    state = others[0].state
    expired = bool(state and state.is_paused() and _expired(others[0]))
    text = "nobody answered it in time, start it again" if expired else f"it is {state and state.name}"
    raise DeftError(f"run {word} does not wait for an approval: {text}")


def _uuid(word: str) -> list[UUID]:
    try:
        return [UUID(word)]
    except ValueError:
        return []


def _waiting(client: SyncPrefectClient) -> list[FlowRun]:
    """The runs that ask with one of `FORMS`, not something else, and can still be answered; newest first."""
    return [
        run
        for run in _runs(client, state={"type": {"any_": ["PAUSED"]}})
        if (keyset := _keyset(run))
        and not _expired(run)
        and _form(client, run.id, keyset).get("title") in FORMS
    ]


def _runs(client: SyncPrefectClient, **which: Any) -> list[FlowRun]:
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate(which), sort=FlowRunSort.EXPECTED_START_TIME_DESC
    )


def _keyset(run: FlowRun) -> dict[str, str] | None:
    """Under which names the form and the answer of a run that waits are stored."""
    return run.state.state_details.run_input_keyset if run.state and run.state.is_paused() else None


def _expired(run: FlowRun) -> bool:
    until = run.state and run.state.state_details.pause_timeout
    return bool(until and until < datetime.now(UTC))


def _show(summary: str) -> None:
    """Print the summary: laid out in a terminal, as it is elsewhere."""
    if not sys.stdout.isatty():
        typer.echo(summary)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(summary))
