"""The runtime against a real Prefect server and a real worker of a process work pool."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.deployments.runner import EntrypointType
from prefect.settings import PREFECT_API_URL
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import ValidationError

from blocks.pool_run import outcome_file
from blocks.runtime import ActionRequest
from blocks.work_pool_runtime import WorkPoolRuntime
from flows.run_action import run_action

IMAGE = "registry.example.com/deft/flow:1"
DIGEST = "sha256:" + "0" * 64


class TestWorkPoolRuntimeBlock(BlockStandardTestSuite):
    # The project has no public site yet, so blocks link to no page and no logo.
    test_has_a_documentation_url = None
    test_has_a_valid_image = None

    @pytest.fixture
    def block(self):
        return WorkPoolRuntime


def runtime(**fields):
    return WorkPoolRuntime(**{"deployment": "run-action/pool", "gpus": "", "poll_seconds": 0.3, **fields})


def bcq(folder, answer="no"):
    """A short action; an answer of None makes it fail."""
    folder.mkdir(parents=True, exist_ok=True)
    item = {"video_id": str(folder), "response": "yes", "gt": answer}
    file = folder / "predictions.json"
    file.write_text(json.dumps([{name: value for name, value in item.items() if value}]))
    return ActionRequest(
        category="gap_analysis",
        argv=["vlm_bcq", f"predictions_json={file}", f"results_dir={folder / 'out'}"],
        image="images.tao_toolkit.data_services",
        log_file=folder / "logs" / "bcq.log",
        key=str(folder),
        gpu=True,
    )


def awaiting(folder):
    """An action that works until `answer.json` appears in its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "inference.csv").write_text("image\n")
    evaluator = {"type": "artifact", "producer": "test", "path": f"{folder}/answer-{{iter_label}}.json"}
    contract = {"name": "far_pct", "display_name": "FAR", "operator": "<", "target": 10, "unit": "%"}
    spec = {
        "inference_csv": str(folder / "inference.csv"),
        "results_dir": str(folder / "out"),
        "metric_contract": {**contract, "evaluator": {**evaluator, "timeout_s": 300}},
        "iter_label": "iter1",
        "checkpoint_kind": "latest",
    }
    (folder / "spec.yaml").write_text(json.dumps(spec))
    return ActionRequest(
        category="evaluation",
        argv=["measure", "-e", str(folder / "spec.yaml")],
        image="images.native.engine",
        log_file=folder / "measure.log",
        key=str(folder),
    )


def answer(folder):
    (folder / "answer-iter1.json").write_text(json.dumps({"name": "far_pct", "value": 4.5, "unit": "%"}))


def wait_for(condition, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.2)


def says(file, text):
    return file.is_file() and text in file.read_text()


def children(request):
    """State types of the runs of one request, the oldest first."""
    wanted = FlowRunFilter.model_validate({"tags": {"all_": [runtime()._name_of(request)]}})
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=wanted)
    return [run.state.type.value for run in sorted(runs, key=lambda run: run.created)]


class TestFields:
    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({}, {}),
            ({"gpus": "all"}, {"device_requests": [{"Count": -1, "Capabilities": [["gpu"]]}]}),
            ({"gpus": "0,1"}, {"device_requests": [{"DeviceIDs": ["0", "1"], "Capabilities": [["gpu"]]}]}),
            ({"gpus": "2", "kind": "kubernetes"}, {"gpus": 2}),
            ({"gpus": "all", "remote_runtime": "docker-runtime/gpu"}, {}),
            (
                {"image": IMAGE, "shm_size": "8g", "volumes": ["/d:/d"], "environment": {"A": "b"}},
                {"image": IMAGE, "shm_size": "8g", "volumes": ["/d:/d"], "env": {"A": "b"}},
            ),
            (
                {"shm_size": "8g", "job_variables": {"shm_size": "1g", "user": "7"}},
                {"shm_size": "1g", "user": "7"},
            ),
        ],
    )
    def test_job_variables(self, tmp_path, fields, expected):
        assert runtime(**fields)._variables(bcq(tmp_path)) == expected

    def test_action_without_gpu_asks_for_none(self, tmp_path):
        assert runtime(gpus="all")._variables(awaiting(tmp_path)) == {}

    @pytest.mark.parametrize(
        ("image", "expected"), [(None, ""), (IMAGE, IMAGE), (f"{IMAGE}@{DIGEST}", DIGEST)]
    )
    def test_image_digest_is_the_configured_reference(self, image, expected):
        assert runtime(image=image).image_digest("images.tao_toolkit.pyt") == expected

    @pytest.mark.parametrize(
        "fields",
        [
            {"deployment": "run-action"},
            {"gpus": "all", "kind": "kubernetes"},
            {"gpus": "0", "kind": "kubernetes"},
            {"gpus": "0; rm -rf /"},
            {"image": "registry.example.com/flow"},
            {"image": "--privileged x:1"},
            {"poll_seconds": 0},
            {"time_limit_minutes": 0},
        ],
    )
    def test_field_that_cannot_be(self, fields):
        with pytest.raises(ValidationError):
            runtime(**fields)

    def test_without_key_no_two_calls_are_the_same_work(self, tmp_path):
        request = bcq(tmp_path).model_copy(update={"key": ""})
        assert runtime()._name_of(request) != runtime()._name_of(request)


@pytest.fixture(scope="module", name="deployment")
def _deployment(prefect_server, tmp_path_factory):
    """The deployment `run-action/pool` in a process work pool, with nobody at work."""
    command("work-pool", "create", "pool", "--type", "process")
    deployed = run_action.to_deployment(
        name="pool", entrypoint_type=EntrypointType.MODULE_PATH, work_pool_name="pool"
    )
    deployed.apply()


@pytest.fixture(scope="module", name="worker")
def _worker(deployment, tmp_path_factory):
    """A worker of that pool."""
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    arguments = ["worker", "start", "--pool", "pool", "--type", "process", "--name", "test"]
    with log.open("w") as stream:
        process = subprocess.Popen(
            prefect(*arguments), env=environment(), stdout=stream, stderr=stream, start_new_session=True
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def prefect(*arguments):
    return [sys.executable, "-m", "prefect", "--no-prompt", *arguments]


def command(*arguments):
    subprocess.run(prefect(*arguments), env=environment(), check=True, capture_output=True)


def environment():
    return {
        **os.environ,
        "PREFECT_API_URL": PREFECT_API_URL.value(),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "OMP_NUM_THREADS": "1",
    }


class TestWithoutWorker:
    def test_no_such_deployment(self, prefect_server, tmp_path):
        with pytest.raises(ValueError, match="no deployment run-action/absent; create it with: deft deploy"):
            runtime(deployment="run-action/absent").run(bcq(tmp_path))

    def test_job_variable_that_the_pool_would_leave_out(self, deployment, tmp_path):
        with pytest.raises(ValueError, match=r"pool knows no job variable device_requests; it knows .*env"):
            runtime(gpus="all").run(bcq(tmp_path))

    def test_value_that_the_pool_refuses(self, deployment, tmp_path):
        with pytest.raises(ValueError, match=r"run-action/pool refuses the run: .*field 'stream_output'"):
            runtime(job_variables={"stream_output": "loud"}).run(bcq(tmp_path))

    def test_runtime_there_that_is_none(self, deployment):
        with pytest.raises(ValueError, match="absent"):
            runtime(remote_runtime="docker-runtime/absent").image_for("images.native.engine")
        runtime().save("itself", overwrite=True)
        with pytest.raises(ValueError, match="is no runtime that can run there"):
            runtime(remote_runtime="work-pool-runtime/itself").image_for("images.native.engine")


@pytest.mark.slow
@pytest.mark.usefixtures("worker")
class TestWithWorker:
    def test_action_runs_there_and_its_messages_are_said_here(self, tmp_path, caplog):
        caplog.set_level(logging.INFO, "deft")
        request = bcq(tmp_path)
        outcome = runtime(environment={"DEFT_TEST": "1"}).run(request)
        assert (outcome.exit_status, outcome.error, outcome.adopted) == (0, "", False)
        assert outcome.seconds > 0
        assert (tmp_path / "out" / "kpi_gaps.jsonl").is_file()
        assert request.log_file.read_text().splitlines()[-1] == "Execution status: PASS"
        assert "Execution status: PASS" in [record.getMessage() for record in caplog.records]

    def test_failed_action_gives_its_status_and_error_line_and_is_begun_anew(self, tmp_path, caplog):
        request = bcq(tmp_path, answer=None)
        outcome = runtime().run(request)
        assert outcome.exit_status == 1
        assert "item 0" in outcome.error
        assert any(
            record.levelno == logging.ERROR and "item 0" in record.message for record in caplog.records
        )
        bcq(tmp_path)
        assert runtime().run(request).exit_status == 0
        assert children(request) == ["FAILED", "COMPLETED"]

    def test_same_work_asked_for_again_is_done_again(self, tmp_path):
        # Whoever asks again has found that the files of the first time are gone or altered.
        request = bcq(tmp_path)
        assert not runtime().run(request).adopted
        (tmp_path / "out" / "kpi_gaps.jsonl").unlink()
        assert not runtime().run(request).adopted
        assert (tmp_path / "out" / "kpi_gaps.jsonl").is_file()
        assert children(request) == ["COMPLETED", "COMPLETED"]

    def test_folder_that_is_not_shared(self, tmp_path, monkeypatch):
        # The run logs to a folder of its own, as on a machine that has another one at the path.
        request, parameters = bcq(tmp_path), WorkPoolRuntime._parameters
        elsewhere = {"log_file": str(tmp_path / "elsewhere.log")}
        monkeypatch.setattr(
            WorkPoolRuntime, "_parameters", lambda self, asked: {**parameters(self, asked), **elsewhere}
        )
        with pytest.raises(ValueError, match=rf"left nothing in {request.log_file.parent}: .* not shared"):
            runtime().run(request)
        assert outcome_file(tmp_path / "elsewhere.log").is_file()

    def test_runtime_there_that_is_missing(self, tmp_path):
        outcome = runtime(remote_runtime="inline-runtime/absent").run(bcq(tmp_path))
        assert outcome.exit_status == 1
        assert "inline-runtime/absent" in outcome.error

    def test_longer_than_its_time(self, tmp_path):
        request = awaiting(tmp_path)
        outcome = runtime(time_limit_minutes=0.02).run(request)
        assert outcome.exit_status == 1
        assert "longer than 0.02 minutes, the time_limit_minutes" in outcome.error
        assert children(request) == ["CANCELLED"]

    def test_stop_in_another_thread_cancels_the_run(self, tmp_path):
        request = awaiting(tmp_path)
        with ThreadPoolExecutor(1) as threads:
            ending = threads.submit(runtime().run, request)
            wait_for(lambda: says(request.log_file, "waiting up to"))
            runtime().stop()
            outcome = ending.result(120)
        assert outcome.exit_status == 1
        assert "ended Cancelled" in outcome.error

    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
    def test_ended_parent_cancels_its_child(self, tmp_path, started, how):
        request = awaiting(tmp_path)
        parent = started(request)
        wait_for(lambda: says(request.log_file, "waiting up to"))
        parent.send_signal(how)
        assert parent.wait(60) != 0
        wait_for(lambda: children(request) == ["CANCELLED"])

    def test_child_of_a_killed_parent_goes_on_and_is_taken_up(self, tmp_path, started):
        request = awaiting(tmp_path)
        parent = started(request)
        wait_for(lambda: says(request.log_file, "waiting up to"))
        parent.kill()
        parent.wait()
        assert children(request) == ["RUNNING"]
        again = started(request)
        wait_for(lambda: says(tmp_path / "parent.log", "of an earlier process goes on"))
        answer(tmp_path)
        assert again.wait(120) == 0
        assert json.loads((tmp_path / "outcome.json").read_text())["adopted"]
        assert children(request) == ["COMPLETED"]

    def test_child_that_ended_after_its_parent_was_killed_is_taken_up(self, tmp_path, started):
        request = awaiting(tmp_path)
        parent = started(request)
        wait_for(lambda: says(request.log_file, "waiting up to"))
        parent.kill()
        parent.wait()
        answer(tmp_path)
        wait_for(lambda: children(request) == ["COMPLETED"])
        outcome = runtime().run(request)
        assert (outcome.exit_status, outcome.adopted) == (0, True)
        assert children(request) == ["COMPLETED"]
        assert not outcome_file(request.log_file).exists()


PARENT = """
import logging, sys
from pathlib import Path
from prefect import flow
from blocks.runtime import ActionRequest
from blocks.work_pool_runtime import WorkPoolRuntime
logging.getLogger("deft").addHandler(logging.StreamHandler())
logging.getLogger("deft").setLevel(logging.INFO)

@flow
def parent(folder: str):
    request = ActionRequest.model_validate_json(Path(folder, "request.json").read_text())
    place = WorkPoolRuntime(deployment="run-action/pool", gpus="", poll_seconds=0.3)
    outcome = place.run(request)
    Path(folder, "outcome.json").write_text(outcome.model_dump_json())

parent(sys.argv[1])
"""


@pytest.fixture
def started(tmp_path):
    """Starts a flow in a process of its own that has a request run, as deft does on the command line."""
    (tmp_path / "parent.py").write_text(PARENT)
    processes = []

    def start(request):
        (tmp_path / "request.json").write_text(request.model_dump_json())
        arguments = [sys.executable, str(tmp_path / "parent.py"), str(tmp_path)]
        with (tmp_path / "parent.log").open("w") as log:
            processes.append(
                subprocess.Popen(arguments, env=environment(), stdout=log, stderr=log, start_new_session=True)
            )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
