"""The Docker daemon: its images and containers, and the end of those that this process has started."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from docker.errors import APIError, DockerException, ImageNotFound, NotFound  # type: ignore[import-untyped]

from blocks.containers.daemon import connected, message_of
from blocks.containers.jobs import say_canceled
from blocks.containers.log import Log
from blocks.containers.outcome import Ended, trouble
from blocks.containers.plan import FLOW_RUN_LABEL, KEY_LABEL, LOG_LABEL, ROOT_FLOW_RUN_LABEL

logger = logging.getLogger("deft")

ASK_SECONDS = 600
GRACE_SECONDS = 10


def image_id(client: Any, uri: str, may_pull: bool) -> str:
    """The id of an image on the host, fetched first where it must and may be.

    Raises:
        ValueError: it is not there, and may not or cannot be fetched.
    """
    try:
        return str(client.images.get(uri).id)
    except ImageNotFound:
        if not may_pull:
            raise ValueError(
                f"image {uri} is not on this host and may not be fetched (air gap, or pull=never); "
                "bring it with docker load"
            ) from None
    logger.info("fetching image %s", uri)
    try:
        return str(client.images.pull(uri).id)
    except APIError as error:
        raise ValueError(f"image {uri} cannot be fetched: {trouble(message_of(error)).error}") from error


def data_root(client: Any) -> list[Path]:
    """The folder where the daemon keeps images and containers, if it says so."""
    with suppress(DockerException, OSError):
        return [Path(client.info()["DockerRootDir"])]
    return []


class Running:
    """A container that this process watches over."""

    def __init__(self, container: Any, grace_seconds: int) -> None:
        self.container = container
        self.stopped: Literal["", "TIMEOUT", "CANCELED"] = ""
        self._grace_seconds = grace_seconds

    def stop(self, why: Literal["TIMEOUT", "CANCELED"]) -> None:
        """Ask it to end, and kill it after the time of grace."""
        self.stopped = self.stopped or why
        with suppress(DockerException, OSError):
            self.container.stop(timeout=self._grace_seconds)

    def follow(self, log: Log, limit_seconds: float | None) -> Ended:
        """Take what it says until it ends; a limit counts from its own start."""
        timer = self._timer(limit_seconds)
        try:
            for chunk in self.container.logs(stream=True, follow=True):
                log.take(chunk)
            code = int(self.container.wait()["StatusCode"])
        finally:
            timer.cancel()
        state = self._state()
        return Ended(code, bool(state.get("OOMKilled")), self.stopped, _seconds(state))

    def _timer(self, limit_seconds: float | None) -> threading.Timer:
        left = (limit_seconds or 0) - _seconds(self._state())
        timer = threading.Timer(max(left, 0), self.stop, ["TIMEOUT"])
        timer.daemon = True
        if limit_seconds is not None:
            timer.start()
        return timer

    def _state(self) -> dict[str, Any]:
        try:
            self.container.reload()
        except NotFound:
            return {}
        return dict(self.container.attrs["State"])


_RUNNING: dict[str, Running] = {}


@contextmanager
def watched(container: Any, grace_seconds: int) -> Iterator[Running]:
    """Watch over a container: whatever happens, it is gone afterwards."""
    running = _RUNNING[container.id] = Running(container, grace_seconds)
    try:
        yield running
    except BaseException:
        running.stop("CANCELED")
        raise
    finally:
        del _RUNNING[container.id]
        remove(container)


def stop_all() -> None:
    """Stop every container that this process watches over."""
    _at_once(lambda running: running.stop("CANCELED"), list(_RUNNING.values()))


def _at_once(call: Callable[[Any], None], items: Sequence[Any]) -> None:
    with ThreadPoolExecutor(max(len(items), 1)) as pool:
        list(pool.map(call, items))


def started(client: Any, name: str, arguments: Mapping[str, Any], labels: Mapping[str, str]) -> Any:
    """Make a container and start it; one that does not start is removed again."""
    container = client.containers.create(name=name, labels={KEY_LABEL: name, **labels}, **arguments)
    try:
        container.start()
    except BaseException:
        remove(container)
        raise
    return container


def left_over(client: Any, name: str) -> Any | None:
    """The container that an interrupted process left under that name, if it runs or has come to its end.

    One that never ran, or that a signal ended when nobody watched, is removed: it tells nothing.

    Raises:
        ValueError: the name belongs to a container that is not ours.
    """
    try:
        container = client.containers.get(name)
    except NotFound:
        return None
    if container.labels.get(KEY_LABEL) != name:
        raise ValueError(f"container {name} is not ours but has that name; remove it with docker rm")
    state = container.attrs["State"]
    if container.status in ("running", "paused", "restarting"):
        return container
    if container.status == "exited" and not Ended(state["ExitCode"], bool(state["OOMKilled"])).killed:
        return container
    logger.warning("container %s was left %s and did not finish; starting again", name, container.status)
    remove(container)
    return None


def ask(client: Any, name: str, arguments: Mapping[str, Any]) -> tuple[int, str]:
    """Run a short command in a container; gives its exit code and all that it said."""
    with watched(started(client, name, arguments, {}), grace_seconds=0) as running:
        code = int(running.container.wait(timeout=ASK_SECONDS)["StatusCode"])
        return code, running.container.logs().decode("utf-8", "replace")


def remove(container: Any) -> None:
    """Remove a container, running or not; one that is gone already is fine."""
    with suppress(DockerException, OSError):
        container.remove(force=True)


def stop_run(run_id: object) -> None:
    """Stop and remove the containers of a flow run and of the runs below it."""
    try:
        with connected() as client:
            found = {
                container.id: container
                for label in (FLOW_RUN_LABEL, ROOT_FLOW_RUN_LABEL)
                for container in client.containers.list(all=True, filters={"label": f"{label}={run_id}"})
            }
            _at_once(_reap, list(found.values()))
    except ValueError as error:
        logger.warning("no container was stopped: %s", error)


def _reap(container: Any) -> None:
    logger.warning("stopping container %s", container.name)
    with watched(container, GRACE_SECONDS) as running:
        running.stop("CANCELED")
    log = container.labels.get(LOG_LABEL)
    if log:
        say_canceled(Path(log))


def _seconds(state: Mapping[str, Any]) -> float:
    """How long a container has run, by its state."""
    if not state:
        return 0.0
    begun = datetime.fromisoformat(state["StartedAt"])
    over = datetime.fromisoformat(state["FinishedAt"])
    end = over if not state["Running"] else datetime.now(UTC)
    return max((end - begun).total_seconds(), 0.0)
