"""The client of the Docker daemon, and its errors as one line, for whatever starts containers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import docker  # type: ignore[import-untyped]
from docker.errors import DockerException  # type: ignore[import-untyped]
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from blocks.containers.outcome import trouble

CALL_SECONDS = 600  # a busy host may need minutes to make a container of a large image

DOCKER_ERRORS = (DockerException, RequestException, HTTPError)
"""What the SDK raises, of its own and of the libraries below it."""


@contextmanager
def connected(failure: Callable[[str], Exception] = ValueError) -> Iterator[Any]:
    """A client of the Docker daemon.

    Args:
        failure: makes of one line the error that is raised where none answers, and where it refuses what is
            asked inside the block.
    """
    try:
        client = docker.from_env(timeout=CALL_SECONDS)
    except DockerException as error:
        raise failure(f"no Docker daemon answers: {error}; start it, or set DOCKER_HOST") from error
    try:
        yield client
    except DOCKER_ERRORS as error:
        raise failure(trouble(message_of(error)).error) from error
    finally:
        client.close()


def message_of(error: Exception) -> str:
    """What the daemon says about an error, else the error itself."""
    return str(getattr(error, "explanation", None) or error)
