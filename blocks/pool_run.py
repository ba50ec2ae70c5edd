"""One run of the deployment `run-action`, followed to its end from the flow that asked for it."""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling

from blocks.containers.log import forward
from blocks.runtime import ActionOutcome

logger = logging.getLogger("deft.flow")

UNTOLD = {"Scheduled", "Pending", "Submitting", "Completed", "Failed"}
"""States that pass at once, or whose reason is told anyway."""
OUTCOME_SECONDS = 5.0
"""How long a file that another machine has written may take to be seen on this one."""
STOP_SECONDS = 120.0
"""How long a cancelled run may take to say that it has ended."""
SILENT_SECONDS = 900.0
"""How long the server may be out of reach."""

_running: set[UUID] = set()
_running_lock = threading.Lock()


class LeftOutcome(ActionOutcome):
    """What a run of `run-action` leaves beside its log: how the action ended, and which run it was."""

    run: str


def outcome_file(log_file: Path) -> Path:
    """Where the outcome of the action lies that logs to `log_file`."""
    return log_file.with_name(f"{log_file.stem}.outcome.json")


def take_outcome(log_file: Path, run: FlowRun, wait_seconds: float) -> ActionOutcome | None:
    """The outcome that this very run has left, or None; it is taken away, so that it counts once only.

    A run that ended well weeks ago must not answer for files that have been altered since.
    """
    file = outcome_file(log_file)
    deadline = time.monotonic() + wait_seconds
    while True:
        if file.is_file():
            left = LeftOutcome.model_validate_json(file.read_text(encoding="utf-8"))
            if left.run == str(run.id):
                file.unlink()
                return ActionOutcome.model_validate(left.model_dump(exclude={"run"}))
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.5)


class LogTail:
    """What is new in a log file that another machine writes."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.read_bytes = 0

    def relay_new(self, *, whole: bool = False) -> None:
        """Say every complete new line; with `whole` also a last one without its line end."""
        if not self.file.is_file():
            return
        if self.file.stat().st_size < self.read_bytes:
            self.read_bytes = 0
        with self.file.open("rb") as stream:
            stream.seek(self.read_bytes)
            new = stream.read()
        if not whole:
            new = new[: new.rfind(b"\n") + 1]
        self.read_bytes += len(new)
        for line in new.decode("utf-8", "replace").splitlines():
            forward(line)


def earlier_runs(client: SyncPrefectClient, work: str) -> list[FlowRun]:
    """All runs of that work, the latest first."""
    wanted = FlowRunFilter.model_validate({"tags": {"all_": [work]}})
    return client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_DESC)


def attempt_of(run: FlowRun) -> int:
    """Which attempt at its work the run was, by its key; 0 for one that a person copied in the UI."""
    return int(run.idempotency_key.rpartition("-")[2]) if run.idempotency_key else 0


def check_variables(
    client: SyncPrefectClient, deployment: DeploymentResponse, variables: dict[str, Any]
) -> None:
    """Refuse job variables that the work pool would leave out without a word.

    Raises:
        ValueError: names them, and those that there are.
    """
    if not variables:
        return
    known: dict[str, Any] = {}
    if deployment.work_pool_name is not None:
        pool = client.read_work_pool(deployment.work_pool_name)
        known = pool.base_job_template.get("variables", {}).get("properties", {})
    unknown = sorted(set(variables) - set(known))
    if unknown:
        raise ValueError(
            f"work pool {deployment.work_pool_name} knows no job variable {', '.join(unknown)}; it knows "
            f"{', '.join(sorted(known)) or 'none'}: correct the runtime block or the pool's template"
        )


def cancel(client: SyncPrefectClient, run_id: UUID) -> None:
    """Ask a run to end; one that has not begun ends at once. That it cannot be asked hides no other error."""
    try:
        client.set_flow_run_state(run_id, Cancelling(message="The flow that asked for it was ended."))
    except (httpx.HTTPError, ObjectNotFound) as error:
        logger.warning("run %s could not be cancelled: %s", run_id, error)


def cancel_all() -> None:
    """Cancel every run that this process follows, in whichever thread."""
    with _running_lock:
        followed = set(_running)
    with get_client(sync_client=True) as client:
        for run_id in followed:
            cancel(client, run_id)


class FollowedRun:
    """A run that is waited for; it is cancelled when the waiting is interrupted."""

    def __init__(self, client: SyncPrefectClient, run: FlowRun, log_file: Path, poll_seconds: float) -> None:
        self.client = client
        self.run = run
        self.log = LogTail(log_file)
        self.poll_seconds = poll_seconds
        self.told = ""
        self.silent_since: float | None = None
        self.cancelled_at: float | None = None

    @property
    def state(self) -> State:
        """The state as it was last seen."""
        assert self.run.state is not None
        return self.run.state

    def to_its_end(self, time_limit: timedelta | None) -> FlowRun:
        """Wait until the run has ended, and say meanwhile what it says.

        A run that works longer than `time_limit` is cancelled; `cancelled_at` then is set.

        Raises:
            ValueError: the run was deleted, or the server is out of reach for long.
        """
        with _running_lock:
            _running.add(self.run.id)
        try:
            while not self._has_ended():
                self._cancel_after(time_limit)
                time.sleep(self.poll_seconds)
            self.log.relay_new(whole=True)
        except BaseException:
            cancel(self.client, self.run.id)
            raise
        finally:
            with _running_lock:
                _running.discard(self.run.id)
        return self.run

    def _has_ended(self) -> bool:
        self._refresh()
        self.log.relay_new()
        if self.state.name != self.told:
            self._tell()
        overdue = self.cancelled_at is not None and time.monotonic() - self.cancelled_at > STOP_SECONDS
        return self.state.is_final() or overdue

    def _refresh(self) -> None:
        try:
            self.run = self.client.read_flow_run(self.run.id)
        except ObjectNotFound as error:
            raise ValueError(f"run {self.run.name} was deleted while it was waited for") from error
        except (httpx.TransportError, httpx.HTTPStatusError) as error:
            now = time.monotonic()
            if self.silent_since is None:
                self.silent_since = now
                logger.warning("the Prefect server cannot be reached (%s); trying on", error)
            if now - self.silent_since > SILENT_SECONDS:
                raise ValueError(f"the Prefect server cannot be reached: {error}") from error
        else:
            self.silent_since = None

    def _tell(self) -> None:
        self.told = self.state.name or ""
        if self.told in UNTOLD:
            return
        if self.told == "Late":
            logger.warning(
                "run %s waits and nobody takes it; start a worker with: prefect worker start --pool %s",
                self.run.name,
                self.run.work_pool_name or "NAME",
            )
        else:
            logger.info("run %s: %s", self.run.name, self.told)

    def _cancel_after(self, time_limit: timedelta | None) -> None:
        begun = self.run.start_time
        if time_limit is None or begun is None or self.cancelled_at is not None:
            return
        if datetime.now(UTC) - begun > time_limit:
            self.cancelled_at = time.monotonic()
            cancel(self.client, self.run.id)
