"""A place of Prefect's concurrency limit for the GPU, which stages and fine-tunings take in turn."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context

from httpx import TransportError
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.context import FlowRunContext, TaskRunContext

logger = logging.getLogger("deft")

LEASE_SECONDS = 60
PATIENCE_SECONDS = 600
PAUSE_SECONDS = 5
SILENT_SECONDS = 10.0
"""How long a run waits for its place before it says so."""


class NoPlaceError(ValueError):
    """There is no such limit, or the server that keeps it stays away."""


@contextmanager
def place_on_the_gpu(limit: str | None) -> Iterator[None]:
    """Wait for a place of the limit and hold it; outside a run of Prefect's, or without a limit, do neither.

    Raises:
        NoPlaceError: there is no such limit, or the server stays away.
    """
    if not (limit and (FlowRunContext.get() or TaskRunContext.get())):
        yield
        return
    place = _taken(limit)
    try:
        yield
    finally:
        try:
            place.__exit__(None, None, None)
        except TransportError:  # no training is lost because the server is away at its end
            logger.warning(
                "limit %s could not be given back, the server is away; it ends by itself in %d s",
                limit,
                LEASE_SECONDS,
            )


def _taken(limit: str) -> AbstractContextManager[None]:
    """A place of a concurrency limit, waited for; a server that is away is waited for too.

    Raises:
        NoPlaceError: there is no such limit, or the server stays away.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        place = concurrency(
            limit,
            occupy=1,
            lease_duration=LEASE_SECONDS,
            strict=True,
            raise_on_lease_renewal_failure=False,  # no training ends for a hiccup of the server
        )
        say = (logger.info, "waiting for a place of limit %s", limit)
        patience = threading.Timer(SILENT_SECONDS, copy_context().run, say)
        patience.start()
        try:
            place.__enter__()
        except ConcurrencySlotAcquisitionError as error:
            raise NoPlaceError(
                f"concurrency limit {limit}: {error}; "
                f"create it with: prefect gcl create {limit} --limit 1, or deft deploy"
            ) from error
        except TransportError as error:
            if time.monotonic() > until:
                raise NoPlaceError(
                    f"concurrency limit {limit}: the Prefect server is away: {error}"
                ) from error
            time.sleep(PAUSE_SECONDS)
        else:
            return place
        finally:
            patience.cancel()
