"""A run of a deployment of a test's own, and the wait for what becomes of it."""

import asyncio
from contextlib import asynccontextmanager

from prefect.runner import Runner


@asynccontextmanager
async def served_run(client, flow, parameters, name="test"):
    """Serve a deployment of a flow and one run of it as long as the block lasts; gives the run's id."""
    runner = Runner(name="test", query_seconds=1)
    deployment = await runner.aadd_flow(flow, name=name)
    run = await client.create_flow_run_from_deployment(deployment, parameters=parameters)
    serving = asyncio.create_task(runner.start())
    try:
        yield run.id
    finally:
        await runner.astop()
        await serving


async def reached(client, run_id, there=lambda state: False, looks=600):
    """The state of a run once it is final or `there`, or at the last of so many looks, two in a second."""
    for _ in range(looks):
        state = (await client.read_flow_run(run_id)).state
        if state.is_final() or there(state):
            break
        await asyncio.sleep(0.5)
    return state
