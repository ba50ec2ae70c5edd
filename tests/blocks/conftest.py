"""A concurrency limit of one place, on the Prefect server of the session."""

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

LIMIT = "deft-test-place"


@pytest.fixture
def one_place(prefect_server):
    """A limit of the name LIMIT as long as the test lasts; gives how to ask how many places are taken."""
    with get_client(sync_client=True) as client:
        limit = GlobalConcurrencyLimitCreate(name=LIMIT, limit=1)
        client._client.post("/v2/concurrency_limits/", json=limit.model_dump(mode="json"))
        yield lambda: client.read_global_concurrency_limit_by_name(LIMIT).active_slots
        client.delete_global_concurrency_limit_by_name(LIMIT)
