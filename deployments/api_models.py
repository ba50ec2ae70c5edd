"""What the Prefect API tells of runs, deployments and logs, and the checks of what is sent to it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Any
from uuid import UUID

from tasks.errors import InputError, listed

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass(frozen=True)
class Run:
    """A run as the server last told of it.

    `kind` is Prefect's type of its state (RUNNING), `state` the name of the state (Running, Retrying...).
    `created` is whether the request that gave this run made it; false if there was one of the caller's
    idempotency key, or if the first answer got lost and the request was sent again.
    """

    id: str
    name: str
    state: str
    kind: str
    message: str = ""
    created: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    deployment_id: str | None = None
    pool: str | None = None
    state_id: str | None = None
    form: Mapping[str, str] | None = None
    until: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.kind in ENDED


@dataclass(frozen=True)
class Deployment:
    """A deployment: what can be started by name, with which parameters and job variables."""

    id: str
    name: str
    parameters: Mapping[str, Any]
    schema: Mapping[str, Any]
    pool: str | None
    job_variables: Mapping[str, Any]


@dataclass(frozen=True)
class LogRecord:
    """A line that a run logged; `level` as in Python's logging."""

    id: str
    run_id: str
    timestamp: datetime
    level: int
    message: str


def run_of(content: Mapping[str, Any]) -> Run:
    """A run from the answer of the API."""
    state = content["state"] or {"id": None, "name": "without a state", "type": "PENDING"}
    details = state.get("state_details") or {}
    until = details.get("pause_timeout")
    return Run(
        id=content["id"],
        name=content["name"],
        state=state["name"],
        kind=state["type"],
        message=" ".join((state.get("message") or "").split()),
        parameters=content.get("parameters") or {},
        deployment_id=content.get("deployment_id"),
        pool=content.get("work_pool_name"),
        state_id=state["id"],
        form=details.get("run_input_keyset"),
        until=datetime.fromisoformat(until) if until else None,
    )


def record_of(content: Mapping[str, Any]) -> LogRecord:
    """A log record from the answer of the API."""
    return LogRecord(
        id=content["id"],
        run_id=content["flow_run_id"],
        timestamp=datetime.fromisoformat(content["timestamp"]),
        level=content["level"],
        message=content["message"],
    )


def is_id(word: str) -> bool:
    """Whether `word` is a whole id."""
    try:
        UUID(word)
    except ValueError:
        return False
    return True


def check_names(what: str, given: Collection[str], known: Collection[str], owner: str) -> None:
    """Raises `InputError` if a name is not known: the server takes it, and the run fails or ignores it."""
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=3)
            meant = (
                f"did you mean {' or '.join(near)}?" if near else f"it has {listed(sorted(known)) or 'none'}"
            )
            raise InputError(f"{owner} has no {what} {name!r}: {meant}")


def check_json(value: Any) -> None:
    """Raises `InputError` if a value cannot be sent: a date, a set, NaN."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"a value cannot be sent as JSON ({error}): give text, numbers, lists or mappings"
        ) from None
