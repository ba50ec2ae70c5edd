"""Checks of the Prefect server, by its API: whether it answers, and whether its schedules make runs."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import httpx

from tasks.preflight.doctor_host import Found, Host

TIMEOUT = 10
PAGE = 200
CLIENT = "deft doctor"
START = "prefect server start, or docker compose up of deployments/compose.yaml; then set PREFECT_API_URL"


def server(host: Host) -> Found:
    """Whether the Prefect server answers, and its version."""
    if not host.api_url:
        return Found("warn", "PREFECT_API_URL is not set: every command starts a server of its own", START)
    try:
        found = _ask(host, "GET", "admin/version")
    except httpx.HTTPError as error:
        if _status_of(error) in (401, 403):
            return Found(
                "error", f"{_shown(host)} asks for credentials", "export PREFECT_API_AUTH_STRING=..."
            )
        return Found("error", f"{_shown(host)} does not answer: {_reason(error)}", START)
    ours = version("prefect")
    if not isinstance(found, str) or found.split(".")[:2] != ours.split(".")[:2]:
        return Found("warn", f"{_shown(host)}: Prefect {found}, here is {ours}", "use one version of Prefect")
    return Found("ok", f"{_shown(host)}: Prefect {found}")


def schedules(host: Host) -> Found:
    """Whether the scheduler works: deployments with an active schedule have runs that are to come."""
    if not host.api_url:
        return Found("unknown", "no server to ask", START)
    try:
        deployments = _ask(host, "POST", "deployments/filter", {"limit": PAGE})
        waiting = {
            one["id"]: one["name"]
            for one in deployments
            if not one["paused"] and any(schedule["active"] for schedule in one["schedules"])
        }
        if not waiting:
            return Found("ok", "no deployment has an active schedule", "deft deploy")
        coming = {
            "state": {"type": {"any_": ["SCHEDULED"]}},
            "expected_start_time": {"after_": datetime.now(UTC).isoformat()},
            "deployment_id": {"any_": list(waiting)},
        }
        runs = _ask(host, "POST", "flow_runs/filter", {"flow_runs": coming, "limit": PAGE})
    except httpx.HTTPError as error:
        return Found("unknown", f"{_shown(host)} does not say: {_reason(error)}", START)
    without = sorted(waiting.keys() - {run["deployment_id"] for run in runs})
    if without and len(runs) < PAGE:
        return Found(
            "error",
            f"active schedule, but no run to come: {', '.join(waiting[one] for one in without)}",
            "look for errors of the scheduler in the server's log; a new schedule takes a minute",
        )
    return Found("ok", f"{len(waiting)} deployments with an active schedule have runs to come")


def _shown(host: Host) -> str:
    """The server's address without a name and password that may stand in it."""
    return re.sub(r"//[^/@]*@", "//", host.api_url or "")


def _status_of(error: httpx.HTTPError) -> int | None:
    return error.response.status_code if isinstance(error, httpx.HTTPStatusError) else None


def _reason(error: httpx.HTTPError) -> str:
    status = _status_of(error)
    return f"HTTP {status}" if status else str(error) or type(error).__name__


def _ask(host: Host, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    with httpx.Client(base_url=host.api_url or "", headers=dict(host.api_headers), timeout=TIMEOUT) as client:
        headers = {}
        if method == "POST":
            token = client.get("csrf-token", params={"client": CLIENT})
            if token.is_success:  # else the server has no such protection
                headers = {"Prefect-Csrf-Token": token.json()["token"], "Prefect-Csrf-Client": CLIENT}
        answer = client.request(method, path, json=body, headers=headers)
        answer.raise_for_status()
        return answer.json()
