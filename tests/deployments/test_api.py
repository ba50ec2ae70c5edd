import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import httpx
import pytest

from deployments.api import DeftClient
from deployments.connection import Connection, ServerAway, reason
from deployments.watch import WaitedTooLong
from tasks.errors import DeftError, InputError
from tests.serving import serving

AUTH = "deft:pass-word:1"
LATER = datetime.now(UTC) + timedelta(days=1)

FLOWS = """
import time
from prefect import flow, get_run_logger, serve
from pydantic import BaseModel, ConfigDict, Field
from flows.approval import decide

class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")
    iterations: int = Field(default=1, ge=1)

@flow(name="child")
def child():
    get_run_logger().info("the child speaks")

@flow(name="tiny")
def tiny(lines: int = 0, seconds: float = 0, mode: str = "run", config: Config = Config()):
    for number in range(lines):
        get_run_logger().info("line %d", number)
    end = time.time() + seconds
    while time.time() < end:
        time.sleep(0.1)
    if mode == "child":
        child()
    if mode == "gate":
        chosen = decide("# All", "ab" * 16, given="ask", given_token=None, key="gate", timeout_seconds=300)
        get_run_logger().info("approved: %s", chosen.approved)
        if not chosen.approved:
            raise ValueError("rejected")

if __name__ == "__main__":
    serve(tiny.to_deployment("aoi"), child.to_deployment("nightly"), tiny.to_deployment("nightly"))
"""


class Server:
    """A Prefect server with a password and CSRF protection, that can be stopped and started again."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.process = None

    def environment(self, **more):
        own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        return {**own, "PREFECT_HOME": str(self.folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", **more}

    def start(self):
        environment = self.environment(
            PREFECT_SERVER_API_AUTH_STRING=AUTH, PREFECT_SERVER_CSRF_PROTECTION_ENABLED="true"
        )
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        for _ in range(240):
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            try:
                if httpx.get(f"{self.url}/health").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.25)
        raise AssertionError("the server does not start")

    def stop(self):
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    own = Server(tmp_path_factory.mktemp("server"))
    own.start()
    yield own
    own.stop()


@pytest.fixture(scope="module")
def served(server, tmp_path_factory):
    """The deployments of FLOWS, in a process that runs what is started."""
    folder = tmp_path_factory.mktemp("flows")
    (folder / "tiny.py").write_text(FLOWS)
    environment = server.environment(
        PREFECT_HOME=str(folder / "home"),
        PREFECT_API_URL=server.url,
        PREFECT_API_AUTH_STRING=AUTH,
        PREFECT_RUNNER_POLL_FREQUENCY="1",
    )
    process = subprocess.Popen(
        [sys.executable, "tiny.py"],
        cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    with DeftClient(server.url, AUTH) as client:
        until = time.monotonic() + 60
        while len(client.deployments()) < 3:
            assert time.monotonic() < until
            time.sleep(0.3)
    yield server
    process.terminate()
    process.wait(30)


@pytest.fixture
def client(served):
    with DeftClient(served.url, AUTH) as own:
        yield own


@pytest.fixture
def later(client):
    return client.create("tiny/aoi", at=LATER)


def refusal(kind, call, *values, **options):
    with pytest.raises(kind) as caught:
        call(*values, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert AUTH.split(":", 1)[1] not in text
    return text


def test_deployments_by_name(client):
    assert client.deployments() == ["child/nightly", "tiny/aoi", "tiny/nightly"]
    assert client.deployment("aoi").name == "tiny/aoi"
    assert "did you mean tiny/aoi" in refusal(InputError, client.deployment, "tiny/aoy")
    assert "there are child/nightly, tiny/aoi" in refusal(InputError, client.deployment, "zzz")
    assert "child/nightly, tiny/nightly" in refusal(InputError, client.deployment, "nightly")
    assert "there is no deployment" in refusal(InputError, client.deployment, "../admin/version")


def test_one_idempotency_key_starts_one_run(client):
    key = f"order {uuid4()}"
    first = client.create("aoi", {"lines": 1}, idempotency_key=key, at=LATER, tags=["line-4"], name="mine")
    again = client.create("aoi", {"lines": 2}, idempotency_key=key, at=LATER)
    assert (first.created, again.created) == (True, False)
    assert (again.id, again.name, again.parameters["lines"]) == (first.id, "mine", 1)
    assert first.state == "Scheduled"
    text = refusal(InputError, client.create, "tiny/nightly", idempotency_key=key)
    assert "run mine of another deployment" in text


def test_without_a_key_each_request_starts_a_run(client):
    first, second = (client.create("aoi", at=LATER) for _ in range(2))
    assert first.created
    assert second.created
    assert first.id != second.id


def test_wrong_parameters(client):
    assert "no parameter 'line': did you mean lines" in refusal(InputError, client.create, "aoi", {"line": 1})
    assert "'lines'" in refusal(InputError, client.create, "aoi", {"lines": "x"})
    text = refusal(InputError, client.create, "aoi", {"config": {"iterations": 0}})
    assert "config.iterations" in text
    assert "less than the minimum" in text
    assert "'depth'" in refusal(InputError, client.create, "aoi", {"config": {"depth": 0}})
    assert "as JSON" in refusal(InputError, client.create, "aoi", {"seconds": float("nan")})
    assert "as JSON" in refusal(InputError, client.create, "aoi", {"seconds": LATER})


def test_job_variables_need_a_work_pool_that_has_them(client, server):
    text = refusal(InputError, client.create, "aoi", job_variables={"env": {}})
    assert "no work pool" in text
    with Connection(server.url, AUTH) as api:
        variables = {"properties": {"image": {"type": "string"}}, "type": "object"}
        template = {"job_configuration": {"image": "{{ image }}"}, "variables": variables}
        api.send("POST", "/work_pools/", {"name": "gpu", "type": "docker", "base_job_template": template})
        flow = api.send("POST", "/flows/", {"name": "pooled"}).content["id"]
        body = {"name": "one", "flow_id": flow, "work_pool_name": "gpu", "parameter_openapi_schema": {}}
        made = api.send("POST", "/deployments/", body).content["id"]
        try:
            wrong = {"imag": "a"}
            assert "did you mean image" in refusal(InputError, client.create, "one", job_variables=wrong)
            wrong = {"image": 3}
            assert "image" in refusal(InputError, client.create, "one", job_variables=wrong)
            assert client.create("one", job_variables={"image": "a:1"}, at=LATER).pool == "gpu"
        finally:
            api.send("DELETE", f"/deployments/{made}")


def test_no_such_run(client):
    missing = str(uuid4())
    for call in (client.run, client.find, client.cancel, client.wait, client.follow):
        assert missing in refusal(InputError, call, missing)
    assert missing in refusal(InputError, client.approve, missing, {"approve": True})
    assert "no id of a run" in refusal(InputError, client.run, "../admin/version")
    assert "no run is called" in refusal(InputError, client.find, "nobody")
    assert "no run is called" in refusal(InputError, client.find, "")


def test_find_by_name_id_or_beginning(client):
    name = f"board-{uuid4()}"
    run = client.create("aoi", name=name, at=LATER)
    assert "no run is called" in refusal(InputError, client.find, run.id[:3])
    assert {client.find(word).id for word in (name, run.id, run.id[:20], run.id[:20].upper())} == {run.id}
    other = client.create("aoi", name=name, at=LATER)
    text = refusal(InputError, client.find, name)
    assert run.id in text
    assert other.id in text
    client.cancel(run.id)
    assert client.find(name).id == other.id


def test_cancel_before_the_start_and_again(client, later):
    assert client.cancel(later.id).state == "Cancelled"
    assert client.cancel(later.id).ended
    assert client.wait(later.id).kind == "CANCELLED"


def test_records_of_all_pages_in_order(client, server, later):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with Connection(server.url, AUTH) as api:
        for part in (range(250, 450), range(250)):  # sent in the wrong order, four of each moment
            records = [
                {
                    "name": "x", "level": 20, "message": f"{number}", "flow_run_id": later.id,
                    "timestamp": (start + timedelta(seconds=number // 4)).isoformat(),
                }
                for number in part
            ]  # fmt: skip
            api.send("POST", "/logs/", records)
    found = [int(record.message) // 4 for record in client.logs(later.id)]
    assert len(found) == 450
    assert found == sorted(found)
    last = [int(record.message) // 4 for record in client.logs([later.id], start + timedelta(seconds=110))]
    assert min(last) == 110
    assert len(last) == 10


def test_more_records_of_one_moment_than_a_page(client, server, later):
    one = {"name": "x", "level": 20, "flow_run_id": later.id, "timestamp": "2026-01-01T00:00:00Z"}
    with Connection(server.url, AUTH) as api:
        api.send("POST", "/logs/", [{**one, "message": f"{number}"} for number in range(430)])
    assert {record.message for record in client.logs(later.id)} == {str(number) for number in range(430)}


def test_follow_through_an_approval(client):
    run = client.create("aoi", {"mode": "gate", "lines": 230})
    said = []

    def tell(line):
        said.append(line)
        if "waits for a person" in line:
            assert f"deft approve {run.name}" in line
            assert client.link(run.id) in line
            with DeftClient(client._server.place, AUTH) as other:
                text = refusal(DeftError, other.approve, run.id, {"approve": "perhaps"})
                assert "'approve'" in text
                assert other.approve(run.id, {"approve": True, "note": "as agreed"}).state == "Resuming"
                assert "not paused" in refusal(DeftError, other.approve, run.id, {"approve": True})

    assert client.follow(run.id, tell, timeout=120, poll=0.5).state == "Completed"
    lines = [line.split("  ", 1)[1] for line in said if "  line " in line]
    assert lines[:230] == [f"line {number}" for number in range(230)]
    assert any("approved: True" in line for line in said)
    assert said[-1].startswith(f"run {run.name} is Completed")
    records = [line for line in said if line[2] == ":"]
    assert records == sorted(records, key=lambda line: line[:8])


def test_cancel_while_it_runs_and_time_to_wait_is_over(client):
    run = client.create("aoi", {"seconds": 120})
    until = time.monotonic() + 60
    while client.run(run.id).state != "Running":
        assert time.monotonic() < until
        time.sleep(0.3)
    with pytest.raises(WaitedTooLong, match=f"'deft cancel {run.name}'") as caught:
        client.wait(run.id, timeout=0.5, poll=0.2)
    assert caught.value.exit_status == 124
    assert client.cancel(run.id).state == "Cancelling"
    assert client.cancel(run.id).kind in ("CANCELLING", "CANCELLED")
    assert client.wait(run.id, timeout=60, poll=0.5).state == "Cancelled"


@pytest.mark.slow
def test_reject_and_lines_of_a_run_that_it_started(client):
    run = client.create("aoi", {"mode": "gate"})

    def reject(line):
        if "waits for a person" in line:
            client.approve(run.id, {"approve": False})

    ended = client.wait(run.id, timeout=120, poll=0.5, say=reject)
    assert (ended.state, "rejected" in ended.message) == ("Failed", True)
    said = []
    run = client.create("aoi", {"mode": "child"})
    assert client.follow(run.id, said.append, timeout=120).state == "Completed"
    assert any("the child speaks" in line for line in said)


@pytest.mark.slow
def test_suspended_run_is_cancelled_at_once(client):
    run = client.create("aoi", {"mode": "gate"})
    said = []

    def cancel(line):
        said.append(line)
        if "waits for a person" in line:
            assert client.cancel(run.id).state == "Cancelled"

    assert client.wait(run.id, timeout=120, poll=0.5, say=cancel).state == "Cancelled"


@pytest.mark.slow
def test_server_that_comes_back_while_we_follow(client, served, caplog):
    run = client.create("aoi", {"lines": 5, "seconds": 25})
    said = []
    restarted = threading.Event()

    def restart():
        while not any("  line 4" in line for line in said):  # Prefect drops what a run says to no server
            time.sleep(0.2)
        served.stop()
        time.sleep(4)
        served.start()
        restarted.set()

    thread = threading.Thread(target=restart, daemon=True)
    thread.start()
    ended = client.follow(run.id, said.append, timeout=150, poll=0.5)
    thread.join()
    assert restarted.is_set()
    assert ended.state == "Completed"
    assert [line.split("  ")[1] for line in said if "  line " in line] == [f"line {n}" for n in range(5)]
    assert "asking again" in caplog.text


def test_wrong_password(server):
    for auth in ("deft:wrong", None):
        with DeftClient(server.url, auth) as client:
            assert "set PREFECT_API_AUTH_STRING" in refusal(DeftError, client.create, "tiny/aoi")


def test_password_in_the_address_or_environment_is_in_no_message(server, served, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", server.url.replace("//", f"//{AUTH.replace(':1', '%3A1')}@"))
    with DeftClient() as client:
        assert len(client.deployments()) == 3
        assert AUTH.split(":")[1] not in refusal(InputError, client.deployment, "zzz")
        assert client.link("x") == f"{server.url.removesuffix('/api')}/runs/flow-run/x"
    monkeypatch.setenv("PREFECT_API_URL", server.url)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", AUTH)
    with DeftClient() as client:
        assert len(client.deployments()) == 3


def test_token_that_the_server_no_longer_takes_is_renewed(client):
    client.deployments()
    client._server._csrf["Prefect-Csrf-Token"] = "0" * 64
    assert client.deployments()


@pytest.mark.parametrize("url", ["", "host:4200/api", "ftp://host/api", "http://", "http://[::1/api"])
def test_address_that_is_none(url, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert "set PREFECT_API_URL" in refusal(InputError, DeftClient, url)


def test_address_without_api(server):
    with DeftClient(server.url.removesuffix("/api"), AUTH) as client:
        assert "with /api behind it" in refusal(DeftError, client.deployment, "tiny/aoi")


def test_server_away_at_the_start():
    begun = time.monotonic()
    with DeftClient("http://127.0.0.1:9/api", AUTH) as client:
        text = refusal(ServerAway, client.deployment, "tiny/aoi")
    assert text.startswith("Prefect server http://127.0.0.1:9/api cannot be reached")
    assert time.monotonic() - begun < 60


@pytest.fixture
def scripted():
    """A server that gives one answer after the other: status, headers, content; None hangs up."""
    script, asked = [], []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append((time.monotonic(), self.command, body))
            step = script.pop(0)
            if step is None:
                self.close_connection = True
                return
            status, headers, content = step
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_):
            pass

    own = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    own.script, own.asked = script, asked
    own.url = f"http://127.0.0.1:{own.server_address[1]}/api"
    with serving(own):
        yield own


def test_busy_server_is_asked_again_after_the_pause_it_wants(scripted):
    scripted.script += [(429, {"Retry-After": "1"}, b""), (503, {"Retry-After": "soon"}, b""), None]
    scripted.script += [(200, {}, b"{}")]
    with Connection(scripted.url) as api:
        assert api.send("GET", "/x").content == {}
    first, second, third, _ = [moment for moment, _, _ in scripted.asked]
    assert second - first >= 1
    assert third - second >= 0.3


def test_patience_ends(scripted):
    scripted.script += [(503, {}, b"")] * 20
    with Connection(scripted.url, patience=1) as api:
        assert "answers 503" in refusal(ServerAway, api.send, "GET", "/x")
    assert 2 <= len(scripted.asked) <= 5


def test_request_for_a_run_is_sent_again_with_its_key(scripted):
    deployment = (
        b'{"id": "d", "parameters": {}, "parameter_openapi_schema": {}, "work_pool_name": null, '
        b'"job_variables": {}}'
    )
    run = b'{"id": "i", "name": "n", "state": null, "deployment_id": "d"}'
    scripted.script += [(200, {}, deployment), (404, {}, b"{}"), None, (502, {}, b""), (200, {}, run)]
    with DeftClient(scripted.url) as client:
        assert client.create("a/b").created
    (first, second, third) = [body for _, method, body in scripted.asked if method == "POST"]
    assert first == second == third
    assert b"idempotency_key" in first


def test_run_that_nobody_takes(scripted):
    late = b'{"id": "s", "name": "Late", "type": "SCHEDULED"}, "work_pool_name": "gpu"}'
    done = b'{"id": "t", "name": "Completed", "type": "COMPLETED"}}'
    looks = [(200, {}, b'{"id": "i", "name": "n", "state": ' + state) for state in (late, done)]
    none = (200, {}, b"[]")
    scripted.script += [looks[0], (404, {}, b"{}"), none, looks[0], none, looks[1], none]
    said = []
    with DeftClient(scripted.url) as client:
        assert client.wait(str(uuid4()), poll=0.01, say=said.append).ended
    assert said[0] == "run n is Late: nobody has taken it yet; see that a worker of work pool gpu runs"
    assert len(said) == 2


@pytest.mark.parametrize("loss", [None, (502, {}, b""), (504, {}, b"")])
def test_answer_of_a_person_is_not_sent_twice(scripted, loss):
    run = b'{"id": "i", "name": "n", "state": null}'
    scripted.script += [(200, {}, run), (404, {}, b"{}"), (503, {}, b""), loss, (200, {}, b"{}")]
    with DeftClient(scripted.url) as client:
        assert "is not known" in refusal(DeftError, client.approve, str(uuid4()), {"approve": True})
    assert [method for _, method, _ in scripted.asked] == ["GET", "GET", "POST", "POST"]


def test_time_to_wait_is_over_while_the_server_is_away(scripted):
    run = b'{"id": "i", "name": "n", "state": {"id": "s", "name": "Running", "type": "RUNNING"}}'
    scripted.script += [(200, {}, run), (404, {}, b"{}"), (200, {}, b"[]"), *[(503, {}, b"")] * 50]
    with DeftClient(scripted.url) as client:
        assert "when last heard of" in refusal(
            WaitedTooLong, client.wait, str(uuid4()), timeout=1.5, poll=0.1
        )


def test_control_characters_do_not_reach_the_terminal(scripted):
    state = b'{"id": "s", "name": "Completed", "type": "COMPLETED", "message": "a\\u001b[2Jb"}'
    run = b'{"id": "i", "name": "n\\u0007", "state": ' + state + b"}"
    scripted.script += [(200, {}, run), (404, {}, b"{}"), (200, {}, b"[]")]
    said = []
    with DeftClient(scripted.url) as client:
        assert client.wait(str(uuid4()), say=said.append).ended
    assert said == ["run n is Completed: a[2Jb"]


def test_something_else_than_prefect(scripted):
    scripted.script += [(200, {}, b"<html>"), (500, {}, b"<html>oops")]
    with Connection(scripted.url) as api:
        assert "is no Prefect API" in refusal(DeftError, api.send, "GET", "/x")
        assert "answers 500 to /x (<html>oops)" in refusal(DeftError, api.send, "GET", "/x")


def test_reason_is_one_line():
    wrong = [{"loc": ["body", "a", 0], "msg": "no number"}, {"loc": ["body", "b"], "msg": "missing"}]
    assert reason({"exception_detail": wrong}) == "a.0: no number; b: missing"
    assert reason({"detail": "not\n found"}) == "not found"
    assert reason("text") == "text"
