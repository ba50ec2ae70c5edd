import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Completed, Failed, Running
from pydantic import BaseModel
from typer.testing import CliRunner

from deployments.trigger import assigned, cancel, trigger
from deployments.watch import WaitedTooLong
from tasks.errors import DeftError, InputError, UsageError

pytestmark = pytest.mark.slow  # a server and a worker

app = typer.Typer()
app.command()(trigger)
app.command()(cancel)

COMMAND = (
    "from deployments.cli import prepare_terminal; prepare_terminal(); import typer\n"
    "from deployments.trigger import trigger\ntyper.run(trigger)"
)


class Mining(BaseModel):
    k: int = 5
    source: str | None = None


class Config(BaseModel):
    iterations: int = 1
    mining: Mining = Mining()


DEFAULT = Config()


@pytest.fixture(autouse=True)
def _no_address_in_the_environment(monkeypatch):
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def deployment(prefect_server):
    """A deployment whose runs wait for ever; its name."""
    name = f"d-{uuid4()}"

    @flow(name="triggered")
    def triggered(board: str = "", rows: int = 0, config: Config = DEFAULT, extra: dict | None = None):
        pass

    with get_client(sync_client=True) as client:
        client.create_deployment(
            client.create_flow_from_name("triggered"),
            name=name,
            parameters={"config": {"iterations": 2, "mining": {"k": 7}}},
            parameter_openapi_schema=triggered.parameters.model_dump(),
            enforce_parameter_schema=True,
        )
    return name


def deft(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def started(*words):
    done = deft("trigger", *words)
    assert done.exit_code == 0, done.exception
    with get_client(sync_client=True) as client:
        return client.read_flow_run(re.search(r"id (\S{36})", done.output)[1])


def set_state(run, state):
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, state, force=True)


def state_of(run):
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run.id).state


def one_line(done, kind):
    assert isinstance(done.exception, kind), done.exception
    assert "\n" not in str(done.exception)
    return str(done.exception)


def test_run_with_parameters_of_file_and_words(deployment, tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("rows: 3\nboard: from the file\n")
    words = ["--param", "board=007", "--param", "config.mining.source=1", "--param", "extra.a=[1, {b: 1e-3}]"]
    run = started(deployment, "--params", file, *words, "--name", "mine", "--tag", "x", "--tag", "y")
    assert run.parameters == {
        "rows": 3,
        "board": "007",
        "config": {"iterations": 2, "mining": {"k": 7, "source": "1"}},
        "extra": {"a": [1, {"b": 0.001}]},
    }
    assert (run.name, set(run.tags)) == ("mine", {"x", "y"})


def test_output_names_run_and_page(deployment):
    done = deft("trigger", f"triggered/{deployment}", "--name", "seen")
    first, page = done.output.splitlines()
    assert first.startswith(f"run seen of triggered/{deployment} started; id ")
    ui = PREFECT_API_URL.value().removesuffix("/api")
    assert page == f"{ui}/runs/flow-run/{first.split()[-1]}"


def test_second_request_with_a_key_says_what_differs(deployment):
    key = f"order {uuid4()}"
    run = started(deployment, "--idempotency-key", key, "--param", "rows=1")
    done = deft("trigger", deployment, "--idempotency-key", key, "--param", "rows=2")
    assert "was there already, with another rows: nothing was started, it is Scheduled" in done.output
    assert str(run.id) in done.output
    assert "another" not in deft("trigger", deployment, "--idempotency-key", key, "--param", "rows=1").output


def test_start_at_a_time(deployment):
    moment = (datetime.now(UTC) + timedelta(hours=3)).replace(microsecond=0)
    for written in (moment.isoformat(), moment.astimezone().replace(tzinfo=None).isoformat()):
        assert started(deployment, "--at", written).expected_start_time == moment


@pytest.mark.parametrize(
    ("words", "kind", "text"),
    [
        (["--param", "rows"], UsageError, "'rows' is not KEY=VALUE"),
        (["--param", "=1"], UsageError, "not KEY=VALUE"),
        (["--param", "a..b=1"], UsageError, "not KEY=VALUE"),
        (["--param", "rows={"], UsageError, "the value of rows is no YAML"),
        (["--param", "rows.x=1"], UsageError, "rows.x lies in a value that is no mapping"),
        (["--param", "row=1"], InputError, "did you mean rows"),
        (["--param", "rows=x"], InputError, "'rows'"),
        (["--param", "rows=.nan"], InputError, "as JSON"),
        (["--param", "config.iterations=x"], InputError, "config.iterations"),
        (["--params", "nothing.yaml"], InputError, "nothing.yaml"),
        (["--job-variable", "image=a:1"], InputError, "no work pool"),
        (["--at", "soon"], UsageError, "is no time"),
        (["--at", "2020-01-01T00:00"], UsageError, "is over"),
        (["--timeout", "5"], UsageError, "--wait or --follow"),
    ],
)
def test_what_cannot_be_started(deployment, words, kind, text):
    assert text in one_line(deft("trigger", deployment, *words), kind)


@pytest.mark.parametrize("how", ["--wait", "--follow"])
@pytest.mark.parametrize(
    ("state", "status"), [(Completed(), 0), (Failed(message="no\nboards"), 1), (Cancelled(), 4)]
)
def test_exit_status_tells_the_end(deployment, how, state, status):
    key = str(uuid4())
    run = started(deployment, "--idempotency-key", key)
    set_state(run, state)
    done = deft("trigger", deployment, "--idempotency-key", key, how)
    if status == 1:
        assert one_line(done, DeftError) == f"run {run.name} ended Failed: no boards"
    else:
        assert done.exit_code == status
    assert f"run {run.name} is {state.name}" in done.output


def test_exit_status_when_the_time_is_over(deployment):
    done = deft("trigger", deployment, "--wait", "--timeout", "0.3")
    assert "still Scheduled after 0.3 s" in one_line(done, WaitedTooLong)
    assert done.exception.exit_status == 124


def test_interrupted_here_the_run_goes_on(deployment):
    environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value()}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, deployment, "--follow", "--name", "left alone"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    lines = [process.stdout.readline() for _ in range(3)]
    assert lines[2] == "run left alone is Scheduled\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == "run left alone goes on: 'deft cancel left alone' ends it\n"
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(lines[0].split()[-1]).state.name == "Scheduled"


def test_cancel_before_the_start(deployment):
    run = started(deployment)
    done = deft("cancel", str(run.id)[:18])
    assert (done.exit_code, done.output) == (0, f"run {run.name} is Cancelled\n")
    assert state_of(run).is_cancelled()
    done = deft("cancel", run.id)
    assert (done.exit_code, "ended already" in done.output) == (0, True)


def test_cancel_what_has_completed(deployment):
    run = started(deployment)
    set_state(run, Completed())
    assert "ended Completed, not Cancelled" in one_line(deft("cancel", run.id), DeftError)


@pytest.fixture
def running(deployment):
    """A run that a worker has, as far as the server knows."""
    run = started(deployment)
    set_state(run, Running())
    return run


def test_cancel_waits_for_the_end(running):
    end = threading.Timer(1.5, set_state, [running, Cancelled(message="its worker ended it")])
    end.start()
    done = deft("cancel", running.name)
    end.join()
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        f"run {running.name} is Cancelling",
        f"run {running.name} is Cancelled: its worker ended it",
    ]


def test_cancel_that_nobody_hears(running):
    done = deft("cancel", running.id, "--timeout", "0.2")
    assert "see that its worker runs" in one_line(done, WaitedTooLong)


def test_cancel_without_waiting(running):
    done = deft("cancel", running.id, "--no-wait")
    assert (done.exit_code, done.output) == (0, f"run {running.name} is Cancelling\n")


def test_cancel_nobody(prefect_server):
    assert "no run is called 'nobody'" in one_line(deft("cancel", "nobody"), InputError)


def test_address_of_the_environment_goes_before_that_of_the_profile(prefect_server, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert "http://127.0.0.1:9/api cannot be reached" in one_line(deft("cancel", "x"), DeftError)


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("3", {"type": "integer"}, 3),
        ("3", {}, 3),
        ("3", {"type": "string"}, "3"),
        ("007", {"anyOf": [{"type": "string"}, {"type": "null"}]}, "007"),
        ("'007'", {"type": "string"}, "007"),
        ("null", {"anyOf": [{"type": "string"}, {"type": "null"}]}, None),
        ("null", {"type": "string"}, "null"),
        ("3", {"anyOf": [{"type": "string"}, {"type": "integer"}]}, 3),
        ("2026-11-21", {}, "2026-11-21"),
        ("[a, 1]", {}, ["a", 1]),
        ("a=b", {}, "a=b"),
        ("${a.b}", {"type": "string"}, "${a.b}"),
        ("", {}, None),
        ("", {"type": "string"}, ""),
    ],
)
def test_value_is_yaml_unless_text_is_wanted(text, schema, value):
    assert assigned([f"x={text}"], {}, {}, {"properties": {"x": schema}}) == {"x": value}


def test_key_of_a_mapping_leaves_its_other_keys_and_the_default_alone():
    defaults = {"a": {"b": 1, "c": {"d": 2}}}
    assert assigned(["a.c.d=3", "a.c.e=4"], {}, defaults, {}) == {"a": {"b": 1, "c": {"d": 3, "e": 4}}}
    assert assigned(["a.b=3"], {"a": {"x": 0}}, defaults, {}) == {"a": {"x": 0, "b": 3}}
    assert assigned(["n.b=3"], {}, {"n": None}, {}) == {"n": {"b": 3}}
    assert defaults == {"a": {"b": 1, "c": {"d": 2}}}


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="$\\"))
)
KEYS = st.from_regex(r"[a-z_]{1,5}x", fullmatch=True)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@given(value=JSON)
def test_json_is_taken_as_it_is_written(value):
    assert assigned([f"x={json.dumps(value)}"], {}, {}, {}) == {"x": value}


def test_commands_do_without_prefect_where_the_environment_has_the_address():
    code = "import sys, deployments.trigger; raise SystemExit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
