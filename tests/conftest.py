"""Shared fixtures: a Prefect server of the test session's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.chat_endpoint import serve  # noqa: F401
from tests.docker_images import (  # noqa: F401
    docker_engine,
    engine_image,
    orchestrator_image,
    python_base,
    training_base,
)

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch comes: two workers share the cores as it is
settings.register_profile("untimed", deadline=None)  # a loaded machine is no failure
settings.load_profile("untimed")

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with cases and data beside the checkout; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the shared folder with cases and data is not beside this checkout")
    return SHARED


@pytest.fixture(scope="session", name="prefect_server")
def _prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A real Prefect server with a database and a result store of this session's own."""
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    from prefect.settings import (
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_LOCAL_STORAGE_PATH,
        temporary_settings,
    )
    from prefect.testing.utilities import prefect_test_harness

    storage = tmp_path_factory.mktemp("results")
    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOCAL_STORAGE_PATH: storage}),
    ):
        yield
