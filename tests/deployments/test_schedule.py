"""What the server does by itself: schedules, collisions, runs that died. No worker is needed to see it."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed, Failed, Pending, Running, Suspended

from deployments.automations import automations

PARAMETERS = {"workspace": "/data/workspace", "runtime": "inline"}


@pytest.fixture(scope="module")
def deployed(start_server, tmp_path_factory):
    """A server of its own: on one that other tests use, a person may have paused the schedule."""
    from deployments.plan import DOCKER, STAGES, Plan
    from deployments.registration import register_automations, register_deployments, register_pool
    from deployments.site import Site

    site = Site(
        data=tmp_path_factory.mktemp("data"),
        image="deft-flows/orchestrator:0.1.0",
        engine_image="deft-flows/engine:0.1.0",
        network="host",
        user="1000:1000",
        docker_group="999",
        cron="* * * * *",
    )
    plan = Plan(site, (DOCKER, STAGES))
    with (
        start_server(tmp_path_factory.mktemp("prefect")) as server,
        server.used(),
        get_client(sync_client=True) as client,
    ):
        for pool in plan.pools:
            register_pool(client, pool, overwrite=False)
        assert len([*register_automations(client, overwrite=False)]) == 2
        assert len([*register_deployments(client, plan)]) == 12
        yield client


def new_run(client, name):
    deployment = client.read_deployment_by_name(name)
    return client.create_flow_run_from_deployment(deployment.id, parameters=PARAMETERS)


def set_state(client, run, state):
    return client.set_flow_run_state(run.id, state)


def wait_until(client, run, holds, seconds):
    until = time.monotonic() + seconds
    while not holds(state := client.read_flow_run(run.id).state):
        assert time.monotonic() < until, state
        time.sleep(0.5)
    return state


def test_a_schedule_makes_runs(deployed):
    nightly = deployed.read_deployment_by_name("nightly/nightly")
    which = FlowRunFilter.model_validate(
        {"deployment_id": {"any_": [nightly.id]}, "tags": {"all_": ["auto-scheduled"]}}
    )
    until = time.monotonic() + 90
    while not (runs := deployed.read_flow_runs(flow_run_filter=which)):
        assert time.monotonic() < until, "no scheduled run: look at the scheduler in the server's log"
        time.sleep(1)
    assert runs[0].auto_scheduled
    assert {"deft", "autoretry"} <= set(runs[0].tags)


def test_a_night_that_still_runs_has_the_next_left_out(deployed):
    first, second = (new_run(deployed, "nightly/nightly") for _ in range(2))
    assert set_state(deployed, first, Pending()).state.type == StateType.PENDING
    left_out = set_state(deployed, second, Pending()).state
    assert left_out.type == StateType.CANCELLED
    assert left_out.message == "Deployment concurrency limit reached."
    set_state(deployed, first, Running())
    set_state(deployed, first, Failed())


def test_a_run_that_a_person_asked_for_waits(deployed):
    first, second = (new_run(deployed, "deft-pipeline/aoi") for _ in range(2))
    set_state(deployed, first, Pending())
    waits = set_state(deployed, second, Pending()).state
    assert waits.name == "AwaitingConcurrencySlot"
    set_state(deployed, first, Running())
    set_state(deployed, first, Failed())


def test_a_crashed_run_is_started_again_twice(deployed):
    run = new_run(deployed, "deft-aoi/aoi-loop")
    for _ in range(2):
        set_state(deployed, run, Pending())
        set_state(deployed, run, Running())
        set_state(deployed, run, Crashed(message="killed"))
        state = wait_until(deployed, run, lambda state: state.is_scheduled(), 90)
        assert state.name == "AwaitingRetry"
    set_state(deployed, run, Pending())
    set_state(deployed, run, Running())
    set_state(deployed, run, Crashed(message="killed"))
    time.sleep(5)
    assert deployed.read_flow_run(run.id).state.is_crashed()


def test_a_crashed_run_without_the_tag_stays_crashed(deployed):
    run = new_run(deployed, "automl/sweep")
    set_state(deployed, run, Pending())
    set_state(deployed, run, Running())
    set_state(deployed, run, Crashed(message="killed"))
    time.sleep(4)
    assert deployed.read_flow_run(run.id).state.is_crashed()


def heartbeat(client, run):
    """The event that the engine of a running flow sends."""
    from prefect.events import Event, RelatedResource, Resource

    event = Event(
        occurred=datetime.now(UTC),
        event="prefect.flow-run.heartbeat",
        resource=Resource({"prefect.resource.id": f"prefect.flow-run.{run.id}"}),
        related=[
            RelatedResource({"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"})
            for tag in run.tags
        ],
    )
    answer = client._client.post("/events", json=[event.model_dump(mode="json")])
    assert answer.status_code == 204


@pytest.mark.slow
def test_a_run_that_falls_silent_is_crashed_and_started_again(deployed):
    ours = automations()[0]
    (there,) = deployed.read_automations_by_name(ours.name)
    quick = ours.model_copy(deep=True)
    quick.trigger.within = timedelta(seconds=15)  # two minutes are long for a test
    deployed.update_automation(there.id, quick)
    silent, alive, suspended = (
        new_run(deployed, name) for name in ("deft-pipeline/classifier", "deft-pipeline/aoi", "automl/sweep")
    )
    for run in (silent, alive, suspended):
        set_state(deployed, run, Pending())
        set_state(deployed, run, Running())
        heartbeat(deployed, run)
    # The server handles two events at once: a heartbeat that it sees after the suspension starts the watch.
    time.sleep(3)
    set_state(deployed, suspended, Suspended(timeout_seconds=600))
    until = time.monotonic() + 90
    while (state := deployed.read_flow_run(silent.id).state).name != "AwaitingRetry":
        assert time.monotonic() < until, state
        heartbeat(deployed, alive)
        time.sleep(2)
    time.sleep(5)
    assert deployed.read_flow_run(alive.id).state.is_running()
    assert deployed.read_flow_run(suspended.id).state.name == "Suspended"
    states = [state.message for state in deployed.read_flow_run_states(silent.id)]
    assert states[-2:] == ["no sign of life for two minutes", "started again after a crash"]
    deployed.update_automation(there.id, ours)
