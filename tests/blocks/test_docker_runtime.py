"""The runtime against a real daemon; the actions are small scripts that play what images do."""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.testing.standard_test_suites import BlockStandardTestSuite

from blocks.containers import engine
from blocks.containers.habits import Image
from blocks.containers.jobs import Job
from blocks.containers.plan import name_of
from blocks.credentials import Credentials
from blocks.docker_runtime import DockerRuntime
from blocks.reaping import reap
from blocks.runtime import ActionRequest
from blocks.versions import DATA_SERVICES, NATIVE, image_uri
from tests.blocks.conftest import LIMIT

TOKEN = "open-sesame-7"  # noqa: S105 - a planted one
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")


class TestDockerRuntimeBlock(BlockStandardTestSuite):
    # The project has no public site yet, so blocks link to no page and no logo.
    test_has_a_documentation_url = None
    test_has_a_valid_image = None

    @pytest.fixture
    def block(self):
        return DockerRuntime


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="deft-test-") as made:
        Path(made).chmod(0o755)  # pytest's own folders are closed to other users
        yield Path(made)


@pytest.fixture
def images(folder, python_base, monkeypatch):
    versions = folder / "versions.yaml"
    versions.write_text(
        f"images: {{native: {{engine: '{python_base}'}}, tao_toolkit: {{data_services: '{python_base}'}}}}"
    )
    monkeypatch.setenv("TAO_VERSIONS_FILE", str(versions))
    for name in ("AIR_GAPPED", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return versions


@pytest.fixture
def runtime(folder, images):
    def made(**changes):
        values = {
            "mounts": [str(folder)],
            "engine": "native",
            "gpus": "",
            "allow_root": os.getuid() == 0,
            "stop_grace_seconds": 2,
        }
        return DockerRuntime(**{**values, **changes})

    return made


@pytest.fixture
def asked(folder):
    """A request whose action is a Python script with this body."""

    def request(body, key="", name="action", **changes):
        script = folder / f"{name}.py"
        script.write_text(textwrap.dedent(body))
        out = folder / "out"
        values = {
            "category": "python3",
            "argv": [str(script)],
            "image": NATIVE,
            "log_file": out / f"{name}.log",
            "key": key,
            "results": [out],
        }
        return ActionRequest(**{**values, **changes})

    return request


def record(request):
    return json.loads((request.log_file.parent / "jobs" / f"{request.log_file.stem}.json").read_text())


def left(client, request):
    name = name_of(request, Image(request.image, "", client.images.get(image_uri(request.image)).id))
    return client.containers.list(all=True, filters={"name": name})


def test_an_action_runs_in_a_container_and_leaves_log_and_record(runtime, asked, docker_engine, caplog):
    caplog.set_level(logging.INFO, "deft")
    request = asked(
        """
        import pathlib, sys
        pathlib.Path(sys.argv[1]).write_text("made")
        print("epoch 1/1 done")
        print("Execution status: PASS")
        """,
        key="k",
    )
    request.argv.append(str(request.results[0] / "made.txt"))
    outcome = runtime().run(request)
    assert (outcome.exit_status, outcome.error, outcome.adopted) == (0, "", False)
    assert 0 < outcome.seconds < 30
    assert (request.results[0] / "made.txt").read_text() == "made"
    assert request.log_file.read_text() == "epoch 1/1 done\nExecution status: PASS\n"
    assert ("deft.progress", logging.INFO, "epoch 1/1 done") in caplog.record_tuples
    assert left(docker_engine, request) == []
    job = record(request)
    assert (job["state"], job["exit_code"], job["kind"], job["attempt"]) == ("COMPLETE", 0, "OK", 1)
    assert sorted(path.name for path in request.results[0].iterdir()) == ["action.log", "jobs", "made.txt"]


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ("print('Execution status: FAIL')", 1, "ended with exit status 0"),
        ("print('done')", 1, "did not say 'Execution status: PASS'"),
        (
            "print('ERROR: no such column'); print('Execution status: FAIL'); raise SystemExit(1)",
            1,
            "no such column",
        ),
        (
            "print('ERROR: not attained'); print('Execution status: FAIL'); raise SystemExit(3)",
            3,
            "not attained",
        ),
        ("import os; os.kill(os.getpid(), 7)", 1, "shm_size"),
    ],
)
def test_an_exit_code_alone_is_not_believed(body, status, error, runtime, asked):
    request = asked(body)
    outcome = runtime().run(request)
    assert outcome.exit_status == status
    assert error in outcome.error
    assert record(request)["state"] == "ERROR"


def test_a_container_that_takes_too_long_is_stopped(runtime, asked, docker_engine):
    request = asked("import time\nprint('begun', flush=True)\ntime.sleep(60)", key="slow")
    begun = time.monotonic()
    outcome = runtime(time_limit_minutes=0.02).run(request)
    assert time.monotonic() - begun < 30
    assert outcome.exit_status == 1
    assert "[TIMEOUT]" in outcome.error
    assert record(request)["kind"] == "TIMEOUT"
    assert left(docker_engine, request) == []


def test_stop_from_another_thread_ends_all_containers(runtime, asked, docker_engine):
    requests = [
        asked("import time\nprint('begun', flush=True)\ntime.sleep(60)", key=name, name=name) for name in "ab"
    ]
    outcomes = {}
    threads = [
        threading.Thread(target=lambda one=one: outcomes.update({one.key: runtime().run(one)}))
        for one in requests
    ]
    for thread in threads:
        thread.start()
    for request in requests:
        wait_for(lambda request=request: request.log_file.is_file() and request.log_file.read_text())
    begun = time.monotonic()
    runtime().stop()
    for thread in threads:
        thread.join(40)
    assert time.monotonic() - begun < 30
    assert {outcome.error for outcome in outcomes.values()} == {"stopped on request"}
    assert {record(request)["state"] for request in requests} == {"CANCELED"}
    assert [left(docker_engine, request) for request in requests] == [[], []]


def wait_for(happened, seconds=60):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


LAUNCHER = """
import sys
from pathlib import Path
from blocks.docker_runtime import DockerRuntime
from blocks.runtime import ActionRequest
DockerRuntime.model_validate_json(sys.argv[1]).run(ActionRequest.model_validate_json(sys.argv[2]))
"""


def launched(runtime, request):
    """Another process that runs the request, and its container once that has said something."""
    request.log_file.unlink(missing_ok=True)
    arguments = [runtime.model_dump_json(), request.model_dump_json()]
    process = subprocess.Popen([sys.executable, "-c", LAUNCHER, *arguments], stderr=subprocess.DEVNULL)
    wait_for(lambda: request.log_file.is_file() and request.log_file.read_text(), 60)
    return process


SLOW = """
import time
print('begun', flush=True)
time.sleep({})
print('Execution status: PASS')
"""


def test_a_running_container_of_a_killed_process_is_adopted(runtime, asked, docker_engine):
    request = asked(SLOW.format(4), key="adopted")
    process = launched(runtime(), request)
    process.kill()
    process.wait()
    (before,) = left(docker_engine, request)
    assert record(request)["state"] == "RUNNING"
    outcome = runtime().run(request)
    assert (outcome.exit_status, outcome.adopted) == (0, True)
    assert outcome.seconds > 3.5  # since its start, by the wall clock, which is set now and then
    assert request.log_file.read_text() == "begun\nExecution status: PASS\n"
    assert record(request)["container"] == before.id
    assert left(docker_engine, request) == []


def test_a_finished_container_of_a_killed_process_is_adopted(runtime, asked, docker_engine):
    request = asked(SLOW.format(1), key="finished")
    process = launched(runtime(), request)
    process.kill()
    process.wait()
    (container,) = left(docker_engine, request)
    container.wait()
    outcome = runtime().run(request)
    assert (outcome.exit_status, outcome.adopted) == (0, True)
    assert request.log_file.read_text() == "begun\nExecution status: PASS\n"


def test_a_container_that_is_killed_from_outside_is_started_again_once(runtime, asked, docker_engine):
    request, outcomes, killed = asked("import time; time.sleep(60)", key="outside"), [], set()
    thread = threading.Thread(target=lambda: outcomes.append(runtime().run(request)))
    thread.start()
    while thread.is_alive():
        for container in left(docker_engine, request):
            if container.status == "running" and container.id not in killed:
                container.kill()
                killed.add(container.id)
        time.sleep(0.1)
    assert len(killed) == 2
    assert outcomes[0].exit_status == 1
    assert outcomes[0].error.endswith("[KILLED]")
    assert record(request)["attempt"] == 2


@pytest.mark.slow
def test_a_container_that_was_killed_unwatched_is_started_again(runtime, asked, docker_engine):
    request = asked(SLOW.format(1), key="killed")
    process = launched(runtime(), request)
    process.kill()
    process.wait()
    (container,) = left(docker_engine, request)
    container.kill()
    outcome = runtime().run(request)
    assert (outcome.exit_status, outcome.adopted) == (0, False)


@pytest.mark.slow
def test_other_work_is_not_adopted(runtime, asked, docker_engine):
    request = asked(SLOW.format(30), key="one")
    process = launched(runtime(), request)
    process.kill()
    process.wait()
    try:
        other = asked("print('Execution status: PASS')", key="two", name="other")
        assert not runtime().run(other).adopted
    finally:
        left(docker_engine, request)[0].remove(force=True)


def test_an_interrupted_process_takes_its_container_along(runtime, asked, docker_engine):
    request = asked(SLOW.format(60), key="interrupted")
    process = launched(runtime(), request)
    process.send_signal(signal.SIGINT)
    process.wait(8)
    assert left(docker_engine, request) == []
    assert record(request)["state"] == "CANCELED"


def test_a_name_that_belongs_to_others_is_an_error(runtime, asked, docker_engine, python_base):
    request = asked("print('Execution status: PASS')", key="taken")
    name = name_of(request, Image(NATIVE, "", docker_engine.images.get(python_base).id))
    foreign = docker_engine.containers.create(python_base, ["true"], name=name)
    try:
        with pytest.raises(ValueError, match="is not ours"):
            runtime().run(request)
    finally:
        foreign.remove()


@as_root
def test_an_unknown_user_is_helped_by_the_passwd_file(runtime, asked, docker_engine):
    # User 1 (daemon) has an account here and none in the image.
    request = asked("import os, pwd\npwd.getpwuid(os.getuid())\nprint('Execution status: PASS')")
    outcome = runtime(user="1:1").run(request)
    assert outcome.exit_status == 0, outcome.error
    job = record(request)
    assert (job["attempt"], job["earlier"], job["kind"]) == (2, ["IDENTITY"], "OK")
    assert "getpwuid" in (request.log_file.parent / "action.attempt1.log").read_text()
    assert "getpwuid" not in request.log_file.read_text()


@pytest.mark.slow
@as_root
def test_a_user_that_nobody_knows_ends_with_what_to_do(runtime, asked):
    request = asked("import os, pwd\npwd.getpwuid(os.getuid())\nprint('Execution status: PASS')")
    outcome = runtime(user="54321:54321", allow_root=False).run(request)
    assert "[IDENTITY]" in outcome.error
    assert record(request)["earlier"] == ["IDENTITY"]


@as_root
def test_results_belong_to_the_user_and_the_image_is_read_only(runtime, asked):
    request = asked(
        """
        import getpass, os, pathlib, sys
        out = pathlib.Path(sys.argv[1])
        (out / "made").write_text(getpass.getuser())
        pathlib.Path(os.environ["HOME"], "scratch").write_text("")
        try:
            pathlib.Path("/opt/x").write_text("")
        except OSError as error:
            (out / "error").write_text(str(error))
        print("Execution status: PASS")
        """
    )
    out = request.results[0]
    request.argv.append(str(out))
    out.mkdir()
    (out / "spec.yaml").touch()
    outcome = runtime(user="12345:12346").run(request)
    assert outcome.exit_status == 0, outcome.error
    assert (out / "made").read_text() == "deft"
    assert "Read-only file system" in (out / "error").read_text()
    for path in (out, out / "made", out / "spec.yaml"):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)


@as_root
def test_what_root_left_is_given_back(runtime, asked, folder):
    request = asked(
        """
        import os, pathlib, sys
        assert os.getuid() == 0
        out = pathlib.Path(sys.argv[1])
        (out / "made").write_text("")
        (out / "link").symlink_to(sys.argv[2])
        print("Execution status: FAIL")
        """
    )
    (folder / "other").touch()
    request.argv += [str(request.results[0]), str(folder / "other")]
    assert runtime(user="12345:12345", identity="root_chown").run(request).exit_status == 1
    assert (request.results[0] / "made").stat().st_uid == 12345
    assert (request.results[0] / "link").lstat().st_uid == 12345
    assert (folder / "other").stat().st_uid == os.getuid()


@as_root
def test_a_permission_that_lacks_names_user_and_owner(runtime, asked):
    request = asked("import pathlib, sys\npathlib.Path(sys.argv[1], 'x').write_text('')")
    request.argv.append(str(request.log_file.parents[1]))
    outcome = runtime(user="12345:12345").run(request)
    assert "[PERMISSION]" in outcome.error
    assert "the user is 12345:12345" in outcome.error


def test_shared_memory_is_doubled_once(runtime, asked):
    body = """
    import os
    size = os.statvfs("/dev/shm")
    if size.f_blocks * size.f_frsize < {} << 20:
        print("RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error.")
        raise SystemExit(1)
    print("Execution status: PASS")
    """
    request = asked(body.format(30))
    assert runtime(shm_size="16m").run(request).exit_status == 0
    assert record(request)["earlier"] == ["SHM"]
    outcome = runtime(shm_size="16m").run(asked(body.format(60)))
    assert "[SHM]" in outcome.error
    assert "attempt2" not in " ".join(path.name for path in request.log_file.parent.iterdir())


def test_memory_that_runs_out_is_told(runtime, asked):
    request = asked("import time\nx = bytearray(400 << 20)\nprint('Execution status: PASS')")
    outcome = runtime(memory="60m").run(request)
    if outcome.exit_status == 0:
        pytest.skip("this host swaps")
    assert "[OOM]" in outcome.error


def test_secrets_reach_the_container_only(runtime, asked, caplog):
    caplog.set_level(logging.INFO)
    request = asked(
        "import os\nassert len(os.environ['HF_TOKEN']) == 13\nprint('with', os.environ['HF_TOKEN'])\n"
        "print('Execution status: PASS')"
    )
    outcome = runtime(credentials=Credentials(owner="site", hf_token=TOKEN)).run(request)
    assert outcome.exit_status == 0, outcome.error
    written = "".join(path.read_text() for path in request.results[0].rglob("*") if path.is_file())
    assert TOKEN not in written + caplog.text
    assert "with ***" in written
    assert "HF_TOKEN" in record(request)["environment"]


def test_behind_the_air_gap_there_is_no_network(runtime, asked):
    request = asked(
        """
        import os, socket
        assert os.environ["HF_HUB_OFFLINE"] == "1" and "HF_TOKEN" not in os.environ
        assert [name for _, name in socket.if_nameindex()] == ["lo"]
        print("Execution status: PASS")
        """
    )
    credentials = Credentials(owner="site", hf_token=TOKEN)
    outcome = runtime(air_gapped=True, credentials=credentials).run(request)
    assert outcome.exit_status == 0, outcome.error
    fetching = asked("", category="bash", argv=["-c", "curl http://x"])
    with pytest.raises(ValueError, match="curl"):
        runtime(air_gapped=True).run(fetching)


def test_refused_before_anything_is_written(runtime, asked, folder):
    request = asked("print('Execution status: PASS')", paths={"pool_parquet": Path("/elsewhere/pool")})
    with pytest.raises(ValueError, match="pool_parquet: /elsewhere/pool lies in no mount"):
        runtime().run(request)
    assert not (folder / "out").exists()


def test_no_daemon_is_one_line(runtime, asked, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    for call in (lambda: runtime().run(asked("")), lambda: runtime().image_digest(NATIVE)):
        with pytest.raises(ValueError, match="no Docker daemon answers"):
            call()


def test_an_image_that_is_not_here(runtime, images, docker_engine):
    images.write_text("images: {native: {engine: 'localhost:9/none:1'}}")
    for own in (runtime(pull="never"), runtime(air_gapped=True)):
        with pytest.raises(ValueError, match="localhost:9/none:1 is not on this host and may not be fetched"):
            own.image_digest(NATIVE)
    with pytest.raises(ValueError, match="localhost:9/none:1 cannot be fetched"):
        runtime().image_digest(NATIVE)


def test_the_digest_is_the_image_on_the_host(runtime, docker_engine, python_base):
    assert runtime().image_digest(NATIVE) == docker_engine.images.get(python_base).id


def test_engine_decides_who_answers(runtime):
    assert runtime().image_for(DATA_SERVICES) == NATIVE
    assert not runtime().runs_nvidia
    assert runtime(engine="nvidia").image_for(DATA_SERVICES) == DATA_SERVICES
    assert runtime(engine="nvidia").runs_nvidia


def test_a_gpu_that_docker_cannot_give_says_what_to_do(runtime, asked, docker_engine):
    if "nvidia" in docker_engine.info()["Runtimes"]:
        pytest.skip("this host has GPUs")
    request = asked("print('Execution status: PASS')", gpu=True, key="gpu")
    outcome = runtime(gpus="all").run(request)
    assert outcome.exit_status == 1
    assert "NVIDIA Container Toolkit" in outcome.error
    assert record(request)["kind"] == "RUNTIME"
    assert left(docker_engine, request) == []


def test_a_gpu_that_is_missed_while_keys_are_asked_for_is_one_line(runtime, asked, docker_engine):
    if "nvidia" in docker_engine.info()["Runtimes"]:
        pytest.skip("this host has GPUs")
    request = asked("", image=DATA_SERVICES)
    request.results[0].mkdir()
    (request.results[0] / "spec.yaml").touch()
    request.argv += ["-e", str(request.results[0] / "spec.yaml")]
    with pytest.raises(ValueError, match=r"could not select device driver .* NVIDIA Container Toolkit"):
        runtime(engine="nvidia", gpus="all").run(request)


def test_the_container_that_docker_made(runtime, asked, docker_engine, monkeypatch):
    """What the daemon was told, not what we think we told it (trust S5)."""
    seen = {}
    follow = engine.Running.follow

    def look(self, *arguments):
        self.container.reload()
        seen.update(self.container.attrs)
        return follow(self, *arguments)

    monkeypatch.setattr(engine.Running, "follow", look)
    runtime().run(asked("print('Execution status: PASS')"))
    host = seen["HostConfig"]
    assert not host["Privileged"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["ReadonlyRootfs"]
    assert host["NetworkMode"] == "bridge"
    assert (host["IpcMode"], host["PidMode"], host["Init"]) == ("private", "", True)
    assert not host["AutoRemove"]
    assert not any("docker.sock" in bind["Source"] for bind in seen["Mounts"])
    assert seen["Config"]["Labels"]["deft.stage"].startswith("python3 ")


class TestInsideAFlow:
    """Concurrency limits, labels and the hook that reaps."""

    @pytest.fixture(autouse=True)
    def _server(self, prefect_server):
        return None

    def test_a_limit_that_does_not_exist_is_one_line(self, runtime, asked):
        from prefect import flow

        own, request = (
            runtime(concurrency_limit="no-such-gpu"),
            asked("print('Execution status: PASS')", gpu=True),
        )

        @flow
        def one():
            with pytest.raises(ValueError, match="prefect gcl create no-such-gpu --limit 1"):
                own.run(request)
            return own.run(request.model_copy(update={"gpu": False})).exit_status

        assert one() == 0

    @pytest.mark.slow
    @pytest.mark.usefixtures("one_place")
    def test_two_that_compute_on_the_gpu_take_turns(self, runtime, asked, folder):
        from prefect import flow, task

        body = """
        import pathlib, sys, time
        begun = time.time()
        time.sleep(0.7)
        pathlib.Path(sys.argv[1]).write_text(f"{begun} {time.time()}")
        print("Execution status: PASS")
        """
        requests = [asked(body, name=name, gpu=True) for name in "ab"]
        for request in requests:
            request.argv.append(str(folder / "out" / request.log_file.stem))
        own = runtime(concurrency_limit=LIMIT)
        stage = task(lambda request: own.run(request).error, name="stage")

        @flow
        def both():
            return [future.result() for future in [stage.submit(request) for request in requests]]

        assert both() == ["", ""]
        (_, end), (begun, _) = sorted(
            [float(one) for one in (folder / "out" / name).read_text().split()] for name in "ab"
        )
        assert end < begun

    def test_the_hook_stops_what_the_run_and_those_below_it_have_left(
        self, runtime, asked, docker_engine, monkeypatch
    ):
        from prefect import flow
        from prefect.runtime import flow_run

        request, own = asked(SLOW.format(60), key="reaped"), runtime()
        # As if this process were killed while the container runs: it neither waits nor removes.
        monkeypatch.setattr(engine.Running, "follow", lambda *_: engine.Ended(1))
        monkeypatch.setattr(engine, "remove", lambda container: None)
        monkeypatch.setattr(Job, "over", lambda *_: None)
        runs = {}

        @flow
        def inner():
            own.run(request)

        @flow
        def outer():
            runs["outer"] = flow_run.get_id()
            inner()

        outer()
        monkeypatch.undo()
        (container,) = docker_engine.containers.list(
            filters={"label": f"deft.root-flow-run-id={runs['outer']}"}
        )
        assert container.labels["deft.flow-run-id"] != runs["outer"]
        reap(flow=outer, flow_run=SimpleNamespace(id=runs["outer"], name="outer"), state=None)
        assert docker_engine.containers.list(all=True, filters={"id": container.id}) == []
        assert record(request)["state"] == "CANCELED"


class TestImageOfNvidia:
    """A script in place of NVIDIA's launcher: what it knows is asked once, and asked again after a drift."""

    LAUNCHER = """
    #!/usr/local/bin/python3
    import pathlib, sys
    folder = pathlib.Path(__file__).parent
    with (folder / "calls").open("a") as calls:
        calls.write(" ".join(sys.argv[1:]) + "\\n")
    if "-e" in sys.argv:
        print("gap_analysis: error: unrecognized arguments: -e")
        raise SystemExit(2)
    known = (folder / "keys").read_text().split()
    if "--cfg=job" in sys.argv:
        print("\\n".join(f"{key}: ???" for key in known))
        raise SystemExit(0)
    for word in sys.argv[2:]:
        if word.partition("=")[0] not in known:
            print(f"Could not override '{word}'.")
            raise SystemExit(1)
    print("Execution status: PASS")
    """

    @pytest.fixture
    def launcher(self, folder, images, tmp_path):
        from prefect.settings import PREFECT_HOME, temporary_settings

        script = folder / "gap_analysis"
        script.write_text(textwrap.dedent(self.LAUNCHER).lstrip())
        script.chmod(0o755)
        (folder / "keys").write_text("inference_results_dir results_dir")
        with temporary_settings({PREFECT_HOME: tmp_path}):
            yield folder

    @pytest.fixture
    def gap_analysis(self, launcher):
        out = launcher / "out"
        out.mkdir()
        spec = out / "vcn_aoi_spec.yaml"
        spec.write_text(f"inference_results_dir: {launcher}/infer\nresults_dir: {out}\nnative: {{a: 1}}\n")
        return ActionRequest(
            category=str(launcher / "gap_analysis"),
            argv=["vcn_aoi", "-e", str(spec)],
            image=DATA_SERVICES,
            log_file=out / "vcn_aoi.log",
            results=[out],
        )

    def calls(self, launcher):
        file = launcher / "calls"
        said = file.read_text().splitlines()
        file.unlink()
        return said

    def test_the_command_line_is_what_the_image_knows(self, runtime, launcher, gap_analysis):
        own = runtime(engine="nvidia")
        assert own.run(gap_analysis).exit_status == 0
        asked = f"vcn_aoi inference_results_dir={launcher}/infer results_dir={launcher}/out"
        *asking, real = self.calls(launcher)
        assert len(asking) == 2
        assert real == asked
        assert own.run(gap_analysis).exit_status == 0
        assert self.calls(launcher) == [asked]  # what it knows is kept
        assert (launcher / "out/experiment_specs").is_dir()

    @pytest.mark.slow
    def test_a_drift_is_mended_once(self, runtime, launcher, gap_analysis):
        own = runtime(engine="nvidia")
        assert own.run(gap_analysis).exit_status == 0
        self.calls(launcher)
        (launcher / "keys").write_text("inference_csv output_dir")
        assert own.run(gap_analysis).exit_status == 0
        first, *asking, real = self.calls(launcher)
        assert "inference_results_dir=" in first
        assert len(asking) == 2
        assert real == f"vcn_aoi inference_csv={launcher}/infer/inference.csv output_dir={launcher}/out"
        assert record(gap_analysis)["earlier"] == ["CLI_DRIFT"]

    def test_an_image_that_tells_no_keys_gets_the_line_as_it_is(
        self, runtime, launcher, gap_analysis, caplog
    ):
        (launcher / "gap_analysis").write_text("#!/bin/bash\necho no help; [[ $* != *cfg* ]] || exit 1\n")
        outcome = runtime(engine="nvidia").run(gap_analysis)
        assert "did not say 'Execution status: PASS'" in outcome.error
        assert "its command line goes as it is" in caplog.text
        assert not list((launcher / "out").glob(".probe-*"))


def test_it_is_saved_and_loaded_by_name(prefect_server, runtime, images):
    saved = runtime(gpus="0,1", credentials=Credentials(owner="site", hf_token=TOKEN))
    saved.save("line-3", overwrite=True)
    found = DockerRuntime.load("line-3")
    assert (found.gpus, found.mounts) == (saved.gpus, saved.mounts)
    assert found.credentials.environment() == {"HF_TOKEN": TOKEN}
