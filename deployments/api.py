"""A client of the Prefect API for starting, following, answering and cancelling runs.

It needs httpx and nothing of Prefect, so it starts fast and can be taken to a computer of the line:

    with DeftClient("http://host:4200/api", auth="user:password") as client:
        run = client.create("deft-pipeline/aoi", {"workspace": "line-4"}, idempotency_key="order 1471")
        print(client.wait(run.id).state)
"""

from __future__ import annotations

import itertools
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Self
from urllib.parse import quote
from uuid import uuid4

from deployments.api_models import (
    Deployment,
    LogRecord,
    Run,
    check_json,
    check_names,
    is_id,
    record_of,
    run_of,
)
from deployments.connection import Connection, reason
from deployments.watch import Watch
from tasks.errors import DeftError, InputError, listed

logger = logging.getLogger("deft.flow")

PAGE = 200
"""As many items as the server gives at a time."""
SHORTEST_BEGINNING = 4
"""Characters of an id that name a run; with fewer, one slip of a finger would name some run."""
NOT_ENDED = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")


class DeftClient:
    """Runs of the deployments of one Prefect server; use it in a `with` statement.

    Every method raises `ServerAway` if the server does not answer, and `DeftError` if it does not let us
    in or refuses.

    Args:
        url: address of the API, with `/api`; PREFECT_API_URL if none is given.
        auth: `user:password`; PREFECT_API_AUTH_STRING if none is given.
        patience: how many seconds a server that has answered before may be away.

    Raises:
        InputError: there is no address, or it is none.
    """

    def __init__(self, url: str | None = None, auth: str | None = None, *, patience: float = 300.0) -> None:
        url = url or os.environ.get("PREFECT_API_URL", "")
        auth = auth or os.environ.get("PREFECT_API_AUTH_STRING")
        self._server = Connection(url, auth, patience=patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__()

    def link(self, run_id: str) -> str:
        """The page of a run in the UI; PREFECT_UI_URL says where the UI is, if not beside the API."""
        ui = os.environ.get("PREFECT_UI_URL") or self._server.place.removesuffix("/api")
        return f"{ui.rstrip('/')}/runs/flow-run/{run_id}"

    def deployments(self) -> list[str]:
        """The names `flow/deployment` of all deployments, sorted."""
        flows = {flow["id"]: flow["name"] for flow in self._pages("/flows/filter", {"sort": "NAME_ASC"})}
        every = self._pages("/deployments/filter", {"sort": "NAME_ASC"})
        return sorted(
            f"{flows[item['flow_id']]}/{item['name']}" for item in every if item["flow_id"] in flows
        )

    def deployment(self, name: str) -> Deployment:
        """The deployment `flow/name`, or the one called `name` if there is only one.

        Raises:
            InputError: there is none, or several are meant.
        """
        full = name if "/" in name else self._full_name(name)
        path = "/".join(quote(part, safe="") for part in full.split("/", 1))
        answer = self._server.send("GET", f"/deployments/name/{path}", refusals=(404,))
        if answer.status == 404:
            raise self._unknown(name, self.deployments())
        found = answer.content
        return Deployment(
            id=found["id"],
            name=full,
            parameters=found["parameters"] or {},
            schema=found["parameter_openapi_schema"] or {},
            pool=found["work_pool_name"],
            job_variables=found["job_variables"] or {},
        )

    def create(
        self,
        deployment: str | Deployment,
        parameters: Mapping[str, Any] | None = None,
        *,
        job_variables: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        name: str | None = None,
        idempotency_key: str | None = None,
        at: datetime | None = None,
    ) -> Run:
        """Start a run, or give the one that was started with the same idempotency key.

        The names of parameters and job variables are checked here: the server takes unknown ones.

        Args:
            deployment: `flow/name`, or `name` if only one deployment is called so.
            parameters: those that differ from the deployment's.
            job_variables: those that differ from the deployment's; of its work pool.
            tags: added to the deployment's.
            name: of the run; otherwise the server finds one.
            idempotency_key: of what asks for the run, such as the order of a line: a second request with it
                starts nothing.
            at: when it starts; now if not given. Local time if it has no zone.

        Raises:
            InputError: no such deployment, parameter or job variable, or a value is not what it must be.
        """
        target = self.deployment(deployment) if isinstance(deployment, str) else deployment
        values = dict(parameters or {})
        check_names("parameter", values, target.schema.get("properties", {}), target.name)
        if job_variables:
            self._check_job_variables(target, job_variables)
        body: dict[str, Any] = {
            "parameters": values,
            "tags": list(tags),
            "idempotency_key": idempotency_key or str(uuid4()),
        }
        if job_variables:
            body["job_variables"] = dict(job_variables)
        if name:
            body["name"] = name
        if at:
            moment = at.astimezone(UTC).isoformat()
            body["state"] = {"type": "SCHEDULED", "state_details": {"scheduled_time": moment}}
        check_json(body)
        answer = self._server.send(
            "POST", f"/deployments/{target.id}/create_flow_run", body, refusals=(400, 409, 422)
        )
        if answer.status >= 400:
            text = reason(answer.content).removeprefix("Error creating flow run: ")
            raise InputError(f"{target.name} does not start: {text}")
        run = run_of(answer.content)
        if run.deployment_id != target.id:
            raise InputError(
                f"idempotency key {idempotency_key} is that of run {run.name} of another deployment"
            )
        return replace(run, created=idempotency_key is None or answer.status == 201)

    def run(self, run_id: str, *, until: float = math.inf) -> Run:
        """A run by its id.

        Raises:
            InputError: there is none.
        """
        answer = self._server.send("GET", f"/flow_runs/{_id(run_id)}", refusals=(404,), until=until)
        if answer.status == 404:
            raise InputError(f"there is no run {run_id}")
        return run_of(answer.content)

    def find(self, word: str) -> Run:
        """The run that is called `word`, or whose id begins so (four characters); one not ended goes first.

        Raises:
            InputError: there is none, or several are meant.
        """
        if is_id(word):
            return self.run(word)
        open_runs = self._runs({"state": {"type": {"any_": NOT_ENDED}}})
        start = word.lower() if len(word) >= SHORTEST_BEGINNING else "no id begins so"
        found = [run for run in open_runs if run.name == word or run.id.startswith(start)]
        found = found or list(self._runs({"name": {"any_": [word]}}))
        if not found:
            raise InputError(
                f"no run is called {word!r}, and none that has not ended has an id that begins so"
            )
        if len(found) > 1:
            raise InputError(
                f"several runs are meant by {word!r}, name one by its id: {listed([r.id for r in found])}"
            )
        return found[0]

    def tree(self, run_id: str, *, until: float = math.inf) -> list[Run]:
        """A run, those that it started, those that these started, and so on."""
        runs = [self.run(run_id, until=until)]
        parents = [run_id]
        while parents:
            children = list(self._runs({"parent_flow_run_id": {"any_": parents}}, until))
            parents = [child.id for child in children]
            runs += children
        return runs

    def logs(
        self, run_id: str | Sequence[str], after: datetime | None = None, *, until: float = math.inf
    ) -> Iterator[LogRecord]:
        """What one or several runs logged, oldest first.

        Args:
            run_id: one id or several; what a run started logs under ids of its own, see `tree`.
            after: only what was logged then or later.
            until: moment of `time.monotonic()` at which patience with the server ends.
        """
        which: dict[str, Any] = {"flow_run_id": {"any_": [run_id] if isinstance(run_id, str) else [*run_id]}}
        seen: set[str] = set()
        offset = 0
        while True:
            if after:
                which["timestamp"] = {"after_": after.isoformat()}
            page = self._page("/logs/filter", {"logs": which, "sort": "TIMESTAMP_ASC"}, offset, until)
            records = [record_of(item) for item in page]
            yield from (record for record in records if record.id not in seen)
            seen.update(record.id for record in records)
            if len(page) < PAGE:
                return
            # The next page begins where this one ended, not at a count: meanwhile older records come in.
            last = records[-1].timestamp
            after, offset = (last, offset + PAGE) if last == after else (last, 0)

    def wait(
        self,
        run_id: str,
        timeout: float | None = None,
        poll: float = 2.0,
        say: Callable[[str], None] = logger.info,
    ) -> Run:
        """Wait for a run to end, whatever its end is.

        Args:
            run_id: the run.
            timeout: seconds after which to wait no longer.
            poll: seconds between two looks.
            say: told each new state, and when the run or one that it started waits for a person.

        Raises:
            WaitedTooLong: the time was over before the run had ended.
        """
        return Watch(self, run_id, say, with_logs=False, timeout=timeout, poll=poll).to_the_end()

    def follow(
        self, run_id: str, say: Callable[[str], None] = print, timeout: float | None = None, poll: float = 2.0
    ) -> Run:
        """As `wait`, and tell each line that the run, and those that it started, log."""
        return Watch(self, run_id, say, with_logs=True, timeout=timeout, poll=poll).to_the_end()

    def approve(self, run_id: str, answer: Mapping[str, Any]) -> Run:
        """Answer a run that waits for a person with the fields of its form, as {"approve": true}.

        Raises:
            DeftError: there is no such run, it does not wait, or it does not take the answer.
        """
        check_json(answer)
        run = self.run(run_id)
        # Not sent twice: a second time it could be the answer to the next question.
        done = self._server.send(
            "POST",
            f"/flow_runs/{run.id}/resume",
            {"run_input": dict(answer)},
            repeatable=False,
            refusals=(409, 422),
        )
        if done.status >= 400 or done.content["status"] != "ACCEPT":
            why = reason(done.content if done.status >= 400 else done.content["details"].get("reason"))
            raise DeftError(f"run {run.name} does not take the answer: {why.removeprefix('Reason: ')}")
        return self.run(run_id)

    def cancel(self, run_id: str) -> Run:
        """Ask for a run to end; one that has no process is Cancelled at once, another Cancelling first.

        A run that has ended stays as it is.

        Raises:
            InputError: there is no such run.
        """
        run = self.run(run_id)
        if not run.ended and run.kind != "CANCELLING":
            state = {"type": "CANCELLING", "name": "Cancelling"}
            self._server.send("POST", f"/flow_runs/{_id(run_id)}/set_state", {"state": state})
            run = self.run(run_id)
        return run

    def _runs(self, which: Mapping[str, Any], until: float = math.inf) -> Iterator[Run]:
        body = {"flow_runs": which, "sort": "ID_DESC"}
        return map(run_of, self._pages("/flow_runs/filter", body, until))

    def _pages(self, path: str, body: Mapping[str, Any], until: float = math.inf) -> Iterator[Any]:
        for offset in itertools.count(0, PAGE):
            page = self._page(path, body, offset, until)
            yield from page
            if len(page) < PAGE:
                return

    def _page(self, path: str, body: Mapping[str, Any], offset: int, until: float) -> list[Any]:
        found: list[Any] = self._server.send(
            "POST", path, {**body, "limit": PAGE, "offset": offset}, until=until
        ).content
        return found

    def _full_name(self, name: str) -> str:
        every = self.deployments()
        found = [full for full in every if full.split("/", 1)[1] == name]
        if len(found) > 1:
            raise InputError(f"several deployments are called {name}: name one of {listed(found)}")
        if not found:
            raise self._unknown(name, every)
        return found[0]

    def _unknown(self, name: str, every: list[str]) -> InputError:
        if not every:
            return InputError(f"there is no deployment {name!r}, nor any other: 'deft deploy' makes them")
        near = get_close_matches(name, every, n=5, cutoff=0.5)
        near += [full for full in every if name in full.split("/") and full not in near]
        text = f"did you mean {' or '.join(near)}?" if near else f"there are {listed(every)}"
        return InputError(f"there is no deployment {name!r}: {text}")

    def _check_job_variables(self, target: Deployment, given: Mapping[str, Any]) -> None:
        if target.pool is None:
            raise InputError(f"{target.name} has no work pool: it takes no job variables")
        pool = self._server.send("GET", f"/work_pools/{quote(target.pool, safe='')}").content
        variables = pool["base_job_template"].get("variables", {}).get("properties", {})
        check_names("job variable", given, variables, f"work pool {target.pool}")


def _id(run_id: str) -> str:
    if not is_id(run_id):
        raise InputError(f"{run_id!r} is no id of a run")
    return run_id
