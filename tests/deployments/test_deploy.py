import asyncio
import json
import os
import subprocess
import sys
import sysconfig
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import yaml
from docker.models.containers import _create_container_args
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import PrefectHTTPStatusError
from prefect.utilities.templating import apply_values
from prefect_docker.worker import DockerWorker, DockerWorkerJobConfiguration
from pydantic import ValidationError

from blocks.docker_runtime import DockerRuntime
from deployments.automations import SILENCE, automations
from deployments.plan import DOCKER, KUBERNETES, LOCAL, STAGES, TEMPLATES, Plan
from deployments.registration import (
    KEPT,
    block_types,
    register_automations,
    register_deployments,
    register_pool,
    register_runtime,
)
from deployments.site import Site, owner_of
from flows import FLOWS
from tasks.errors import DeftError, InputError, UsageError

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
AUTH = ("deft", "not-a-secret")


@pytest.fixture(scope="module")
def site():
    return Site(
        data="/data",
        image="deft-flows/orchestrator:0.1.0",
        engine_image="deft-flows/engine:0.1.0",
        network="deft",
        user="1000:1000",
        docker_group="999",
    )


@pytest.fixture
def registered(hardened_server, deft_deploy):
    """A client of the server, with everything of ours on it."""
    with hardened_server.used(), get_client(sync_client=True) as client:
        if not any(block.name == "gpu" for block in client.read_block_documents()):
            assert deft_deploy().exit_code == 0
        yield client


def ids(client):
    """The id of everything on the server that is ours."""
    deployments = client.read_deployments()
    return {
        "types": {one.slug: one.id for one in client.read_block_types()},
        "schemas": {one.id for one in client.read_block_schemas()},
        "blocks": {one.name: one.id for one in client.read_block_documents()},
        "pools": {one.name: one.id for one in client.read_work_pools()},
        "limits": {one.name: one.id for one in client.read_global_concurrency_limits()},
        "automations": [(one.name, one.id) for one in client.read_automations()],
        "deployments": {(one.flow_id, one.name): one.id for one in deployments},
        "schedules": {one.id for deployment in deployments for one in deployment.schedules},
    }


def test_again_and_again_without_harm(hardened_server, deft_deploy):
    found = []
    with hardened_server.used(), get_client(sync_client=True) as client:
        for _ in range(3):
            said = deft_deploy("--kubernetes")
            assert said.exit_code == 0, said.exception
            found.append(ids(client))
    assert found[0] == found[1] == found[2]
    assert set(block_types()) <= set(found[0]["types"])
    assert set(found[0]["pools"]) >= {DOCKER, STAGES, KUBERNETES}
    assert len(found[0]["automations"]) == 2
    assert "nightly/nightly" in said.output
    assert "prefect worker start --pool deft-docker" in said.output


def test_without_a_password_nothing_answers(hardened_server, deft_deploy):
    for path in ("admin/settings", "csrf-token?client=x", "deployments/name/nightly/nightly"):
        assert httpx.get(f"{hardened_server.url}/{path}").status_code == 401
    said = "answers 401 to /api/hello: set PREFECT_API_AUTH_STRING"
    with hardened_server.used(auth="deft:wrong"), pytest.raises(DeftError, match=said):
        raise deft_deploy().exception


def test_without_a_csrf_token_nothing_is_changed(hardened_server):
    url = f"{hardened_server.url}/deployments/filter"
    assert httpx.get(f"{hardened_server.url}/admin/version", auth=AUTH).status_code == 200
    assert httpx.post(url, json={}, auth=AUTH).status_code == 403


def test_results_are_never_pickled(hardened_server):
    settings = httpx.get(f"{hardened_server.url}/admin/settings", auth=AUTH).json()
    assert settings["results"]["default_serializer"] == "json"
    assert settings["server"]["analytics_enabled"] is False


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"parameters": {"workspace": "/data/x", "runtime": "inline", "phase1": {"trials": 0}}}, "trials"),
        ({"parameters": {"workspace": "/data/x", "runtime": "inline", "mode": "all"}}, "mode"),
        ({"job_variables": {"gpus": 1}}, "gpus"),
        (
            {"job_variables": {"device_requests": [{"Count": 0, "Capabilities": [["gpu"]]}]}},
            "device_requests",
        ),
    ],
)
def test_what_no_run_could_do_is_refused_at_once(registered, body, said):
    deployment = registered.read_deployment_by_name("deft-pipeline/aoi")
    with pytest.raises(PrefectHTTPStatusError) as refused:
        registered.create_flow_run_from_deployment(deployment.id, **body)
    assert refused.value.response.status_code in (409, 422)
    assert said in refused.value.response.text


def test_what_a_person_changed_stays(registered, deft_deploy, site):
    nightly = registered.read_deployment_by_name("nightly/nightly")
    registered.update_deployment_schedule(nightly.id, nightly.schedules[0].id, active=False)
    registered.create_deployment_schedules(nightly.id, [(CronSchedule(cron="0 5 * * *"), True)])
    aoi = registered.read_deployment_by_name("deft-pipeline/aoi")
    registered.pause_deployment(aoi.id)
    template = registered.read_work_pool(STAGES).base_job_template
    template["variables"]["properties"]["shm_size"]["default"] = "64g"
    registered.update_work_pool(STAGES, WorkPoolUpdate(base_job_template=template))
    block = DockerRuntime.load("gpu")
    block.shm_size = "32g"
    block.save("gpu", overwrite=True)

    said = deft_deploy("--gpu-slots", "2").output
    nightly = registered.read_deployment_by_name("nightly/nightly")
    assert [(one.slug, one.active) for one in nightly.schedules] == [("nightly", False)]
    assert registered.read_work_pool(STAGES).base_job_template == template
    assert DockerRuntime.load("gpu").shm_size == "32g"
    assert registered.read_global_concurrency_limit_by_name("gpu").limit == 2
    assert registered.read_deployment(aoi.id).paused
    registered.resume_deployment(aoi.id)
    assert "up to date; schedule nightly, paused" in said
    assert "up to date, paused" in said
    assert "there, with other values: kept, --overwrite takes ours" in said

    assert register_pool(registered, STAGES, overwrite=True).done == "overwritten"
    assert registered.read_work_pool(STAGES).base_job_template != template
    assert register_runtime(Plan(site, (STAGES,)), overwrite=True).done == "overwritten"
    assert DockerRuntime.load("gpu").shm_size == "8g"


def test_of_two_automations_with_one_name_one_goes(registered):
    first, second = registered.read_automations()
    registered.create_automation(AutomationCore.model_validate(first.model_dump(exclude={"id"})))
    assert len(registered.read_automations_by_name(first.name)) == 2
    done = {one.name: one.done for one in register_automations(registered, overwrite=False)}
    assert done == {first.name: "there", second.name: "there"}
    assert sorted(one.name for one in registered.read_automations()) == sorted([first.name, second.name])


def test_an_automation_that_a_person_changed_stays(registered):
    changed = automations()[0]
    changed.trigger.within = timedelta(minutes=10)
    (there,) = registered.read_automations_by_name(changed.name)
    registered.update_automation(there.id, changed)
    kept, _ = register_automations(registered, overwrite=False)
    assert kept.done == KEPT
    again, _ = register_automations(registered, overwrite=True)
    assert again.done == "overwritten"
    (there,) = registered.read_automations_by_name(changed.name)
    assert there.trigger.within == SILENCE


def test_runs_as_processes_on_a_laptop(hardened_server, deft_deploy, data):
    with hardened_server.used(), get_client(sync_client=True) as client:
        said = deft_deploy(
            "--local", "--cron", "30 3 * * 1-5", "--timezone", "Europe/Berlin", "--collision", "wait"
        )
        assert said.exit_code == 0, said.exception
        found = client.read_deployment_by_name("nightly/nightly")
    assert found.work_pool_name == LOCAL
    assert found.parameters["runtime"] == "inline"
    assert found.parameters["workspace"] == f"{data}/workspace"
    assert found.schedules[0].schedule == CronSchedule(cron="30 3 * * 1-5", timezone="Europe/Berlin")
    assert found.concurrency_options.collision_strategy == "ENQUEUE"
    assert found.job_variables["env"]["PREFECT_LOCAL_STORAGE_PATH"] == f"{data}/.prefect/storage"


def test_a_variable_that_the_pool_does_not_have(registered, site):
    template = registered.read_work_pool(STAGES).base_job_template
    del template["variables"]["properties"]["shm_size"]
    del template["job_configuration"]["container_create_kwargs"]["shm_size"]
    registered.update_work_pool(STAGES, WorkPoolUpdate(base_job_template=template))
    with pytest.raises(InputError, match="work pool deft-stages has no variable shm_size"):
        list(register_deployments(registered, Plan(site, (STAGES,))))
    assert register_pool(registered, STAGES, overwrite=True).done == "overwritten"


def test_a_pool_of_another_type(registered):
    if LOCAL in {one.name for one in registered.read_work_pools()}:
        registered.delete_work_pool(LOCAL)
    registered.create_work_pool(WorkPoolCreate(name=LOCAL, type="docker"))
    with pytest.raises(DeftError, match="with type docker instead of process: remove it"):
        register_pool(registered, LOCAL, overwrite=True)
    registered.delete_work_pool(LOCAL)


def test_needs_a_server(deft_deploy):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(DeftError, match="set PREFECT_API_URL="),
    ):
        raise deft_deploy().exception
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(DeftError, match=r"127\.0\.0\.1:9/api cannot be reached"),
    ):
        raise deft_deploy().exception


def test_local_and_kubernetes_are_two_things(deft_deploy):
    with pytest.raises(UsageError, match="give one"):
        raise deft_deploy("--local", "--kubernetes").exception


def test_a_block_that_nobody_can_make(hardened_server, deft_deploy):
    with hardened_server.used(), pytest.raises(InputError, match="no type no-such"):
        raise deft_deploy("--runtime", "no-such/gpu").exception


def test_every_flow_has_a_deployment(site):
    plan = Plan(site, (DOCKER, STAGES, KUBERNETES))
    assert {entry["entrypoint"] for entry in plan.deployments} == {
        at.replace(":", ".") for at in FLOWS.values()
    }
    assert len(set(plan.names)) == len(plan.deployments)
    assert len({entry["name"] for entry in plan.deployments}) == len(plan.deployments)
    for entry in plan.deployments:
        assert "deft" in entry["tags"]
        assert entry["enforce_parameter_schema"] is True
        assert ":latest" not in json.dumps(entry)
        assert entry["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


def test_only_flows_that_start_containers_have_the_socket(site):
    for entry in Plan(site, (DOCKER, STAGES, KUBERNETES)).deployments:
        has = "/var/run/docker.sock" in json.dumps(entry)
        assert has == (entry["work_pool"]["name"] == DOCKER)


def test_parameter_files_win(site, tmp_path):
    (tmp_path / "aoi.yaml").write_text("mode: loop_only\nworkspace: /lines/3\n")
    plan = Plan(site, (DOCKER,), tmp_path)
    aoi = next(entry for entry in plan.deployments if entry["name"] == "aoi")
    assert aoi["parameters"]["workspace"] == "/lines/3"
    assert aoi["parameters"]["mode"] == "loop_only"
    assert aoi["parameters"]["runtime"] == "docker-runtime/gpu"


def test_parameter_file_of_no_deployment(site, tmp_path):
    (tmp_path / "aio.yaml").write_text("mode: loop_only\n")
    with pytest.raises(InputError, match=r"aio.yaml: no deployment has that name; there are answers, aoi, "):
        Plan(site, (DOCKER,), tmp_path).check()
    with pytest.raises(InputError, match="no folder of parameter files"):
        Plan(site, (DOCKER,), tmp_path / "none").check()


def test_parameter_that_the_flow_does_not_have(site, tmp_path):
    (tmp_path / "aoi.yaml").write_text("modus: loop_only\n")
    with pytest.raises(InputError, match="deployment aoi: its flow has no parameter modus; it has workspace"):
        Plan(site, (DOCKER,), tmp_path).check()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"entrypoint": "flows.pipeline.no_such"}, "no flow lies at flows.pipeline.no_such"),
        ({"description": "{{ $DEFT_DATE }}"}, "no site variable is called DEFT_DATE"),
    ],
)
def test_entry_that_cannot_be(site, tmp_path, changes, said):
    entry = {
        "name": "aoi",
        "entrypoint": "flows.pipeline.deft_pipeline",
        "work_pool": {"name": DOCKER, "job_variables": {}},
        **changes,
    }
    file = tmp_path / "prefect.yaml"
    file.write_text(yaml.safe_dump({"deployments": [entry]}))
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=said.replace("$", r"\$")):
        Plan(site, (DOCKER,), tmp_path / "none", file).check()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", "data"),
        ("data", "/"),
        ("data", "/data:/etc"),
        ("data", "/my data"),
        ("image", "deft-flows/orchestrator"),
        ("image", "deft-flows/orchestrator:latest"),
        ("image", "x:1; rm -rf /"),
        ("engine_image", "deft-flows/engine:$(id)"),
        ("network", "deft --privileged"),
        ("user", "root"),
        ("docker_group", "docker"),
        ("cron", "0 25 * * *"),
        ("timezone", "Europe/Berlim"),
        ("collision", "ignore"),
        ("runtime", "a b"),
    ],
)
def test_site_that_cannot_be(site, field, value):
    with pytest.raises(ValidationError, match=field):
        Site.model_validate({**site.model_dump(), field: value})


def test_site_with_a_registry_port_and_a_digest(site):
    for image in ("registry.local:5000/deft/engine:1", f"registry.local:5000/deft/engine@sha256:{'0' * 64}"):
        assert Site.model_validate({**site.model_dump(), "image": image}).image == image


def test_the_owner_of_the_data_runs_the_flows(tmp_path):
    os.chown(tmp_path, 4711, 4712)
    assert owner_of(tmp_path) == "4711:4712"
    os.chown(tmp_path, 0, 0)
    with pytest.raises(InputError, match="belongs to root"):
        owner_of(tmp_path)
    with pytest.raises(InputError, match="no data folder"):
        owner_of(tmp_path / "none")


class NoDaemon:
    """Stands for the Docker client, which is asked for its version only."""

    @staticmethod
    def version():
        return {"Version": "27.0"}


def container(variables):
    """What docker-py is asked for when a run with these variables starts, by Prefect's own code."""
    template = json.loads((TEMPLATES / "docker.json").read_text())
    rendering = DockerWorkerJobConfiguration.from_template_and_values(template, variables)
    configuration = asyncio.run(rendering)
    worker = DockerWorker(work_pool_name=DOCKER)
    settings = worker._build_container_settings(NoDaemon(), configuration)
    return _create_container_args({**settings, "version": "1.41"})


def test_container_of_a_flow(site, hardened_server):
    with hardened_server.used():
        made = container(Plan(site, (DOCKER,)).deployments[0]["work_pool"]["job_variables"])
    host = made["host_config"]
    assert made["image"] == "deft-flows/orchestrator:0.1.0"
    assert made["user"] == "1000:1000"
    assert made["working_dir"] == "/empty"  # Prefect copies the working folder of each run
    assert host["Binds"] == ["/data:/data", "/var/run/docker.sock:/var/run/docker.sock"]
    assert host["NetworkMode"] == "deft"
    assert host["GroupAdd"] == ["999"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Init"] is True
    assert host["AutoRemove"] is True
    assert not host.get("Privileged")
    assert not host.get("DeviceRequests")
    assert not host.get("Ulimits")
    assert host["IpcMode"] == "private"
    assert host["ShmSize"] == 1 << 30


def test_container_of_a_stage_on_gpus(hardened_server):
    variables = {
        "image": "deft-flows/engine:0.1.0",
        "device_requests": [{"DeviceIDs": ["0", "1"], "Capabilities": [["gpu"]]}],
        "shm_size": "16g",
        "mem_limit": "64g",
        "ulimits": [{"Name": "memlock", "Soft": -1, "Hard": -1}],
        "mounts": [{"Type": "bind", "Source": "/models", "Target": "/models", "ReadOnly": True}],
    }
    with hardened_server.used():
        made = container(variables)
    host = made["host_config"]
    (gpus,) = host["DeviceRequests"]
    assert gpus["DeviceIDs"] == ["0", "1"]
    assert gpus["Capabilities"] == [["gpu"]]
    assert host["ShmSize"] == 16 << 30
    assert host["Memory"] == 64 << 30
    assert host["Ulimits"] == [{"Name": "memlock", "Soft": -1, "Hard": -1}]
    assert host["Mounts"] == [{"Type": "bind", "Source": "/models", "Target": "/models", "ReadOnly": True}]
    assert "user" not in made


@pytest.mark.slow
def test_a_flow_runs_in_a_container_of_the_pool(
    hardened_server, registered, docker_engine, python_base, data
):
    user = 12345
    (data / "predictions.json").write_text('[{"video_id": "a", "response": "yes", "gt": "no"}]')
    for path in (data, data / "predictions.json"):
        os.chown(path, user, user)
    site = Site(
        data=data, image=python_base, engine_image=python_base, network="host", user=f"{user}:{user}",
        docker_group="999", runtime="inline",
    )  # fmt: skip
    list(register_deployments(registered, Plan(site, (DOCKER,))))
    deployment = registered.read_deployment_by_name("gap-analysis-vlm-bcq/answers")
    given = deployment.job_variables
    packages = f"{sysconfig.get_path('purelib')}:/packages:ro"
    paths = {"PYTHONPATH": "/packages:/ours", "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"}  # noqa: S108
    variables = {
        "volumes": [
            *given["volumes"],
            packages,
            f"{DEPLOYMENTS.parent}:/ours:ro",
        ],  # in place of an image of ours
        "env": {**given["env"], **paths, "PREFECT_HOME": "/tmp/prefect"},  # noqa: S108
        "command": "python3 -m prefect flow-run execute",
    }
    run = registered.create_flow_run_from_deployment(
        deployment.id,
        parameters={"predictions_json": str(data / "predictions.json"), "runtime": "inline"},
        job_variables=variables,
    )
    with worker(hardened_server, DOCKER):
        until = time.monotonic() + 240
        while not (state := registered.read_flow_run(run.id).state).is_final():
            assert time.monotonic() < until, state
            time.sleep(1)
    assert state.is_completed(), state
    (report,) = data.glob("bcq_results/*/kpi_gaps.jsonl")
    assert (report.stat().st_uid, report.stat().st_gid) == (user, user)
    assert list(data.glob(".prefect/storage/*"))
    label = {"label": f"io.prefect.flow-run-id={run.id}"}
    assert docker_engine.containers.list(all=True, filters=label) == []


@contextmanager
def worker(server, pool):
    """A worker of that pool, as compose.yaml starts it."""
    settings = {
        "PREFECT_API_URL": server.url,
        "PREFECT_API_AUTH_STRING": ":".join(AUTH),
        "PREFECT_HOME": str(server.home),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "docker"]
    process = subprocess.Popen(command, env=os.environ | settings, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def test_our_docker_template_keeps_what_prefects_has():
    ours = json.loads((TEMPLATES / "docker.json").read_text())["variables"]["properties"]
    theirs = DockerWorker.get_default_base_job_template()["variables"]["properties"]
    assert set(theirs) - set(ours) == {"privileged", "container_create_kwargs"}


def pod(variables):
    template = json.loads((TEMPLATES / "kubernetes.json").read_text())
    defaults = {
        name: one["default"]
        for name, one in template["variables"]["properties"].items()
        if one.get("default") is not None
    }
    return apply_values(template["job_configuration"]["job_manifest"], {**defaults, **variables})


def test_pod_of_a_stage():
    values = {"image": "deft-flows/engine:0.1.0", "data_claim": "deft-data", "data_path": "/data", "gpus": 2}
    manifest = pod({**values, "shm_size": "16Gi", "user_id": 1000, "group_id": 1000})
    spec = manifest["spec"]["template"]["spec"]
    stage = spec["containers"][0]
    assert stage["resources"]["limits"] == {"nvidia.com/gpu": 2}
    assert stage["volumeMounts"] == [
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
        {"name": "data", "mountPath": "/data"},
    ]
    assert spec["volumes"] == [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "deft-data"}},
    ]
    assert stage["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert spec["securityContext"]["runAsUser"] == 1000
    assert spec["automountServiceAccountToken"] is False


def test_pod_without_gpu_asks_for_none():
    manifest = pod({"image": "deft-flows/engine:0.1.0", "data_claim": "deft-data", "data_path": "/data"})
    assert "nvidia.com/gpu" not in json.dumps(manifest)
    assert "{{" not in json.dumps(manifest["spec"]["template"]["spec"]["volumes"])
