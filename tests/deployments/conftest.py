"""A Prefect server with the settings of compose.yaml, on a SQLite file instead of PostgreSQL."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
AUTH = "deft:not-a-secret"
VARIABLES = {
    "DEFT_AUTH": AUTH,
    "DEFT_ENCRYPTION_KEY": "bm90LWEtc2VjcmV0LW5vdC1hLXNlY3JldC1ub3QtYS0=",
    "DEFT_POSTGRES_PASSWORD": "not-a-secret",
}


@dataclass(frozen=True)
class Server:
    url: str
    home: Path
    log: Path

    @contextmanager
    def used(self, auth=AUTH):
        """Prefect's settings of this process point at the server."""
        from prefect.settings import (
            PREFECT_API_AUTH_STRING,
            PREFECT_API_URL,
            PREFECT_HOME,
            temporary_settings,
        )

        settings = {PREFECT_API_URL: self.url, PREFECT_API_AUTH_STRING: auth, PREFECT_HOME: self.home}
        with temporary_settings(settings):
            yield


def compose(variables):
    """compose.yaml with its variables, all of them required, filled in."""

    def filled(value):
        if isinstance(value, dict):
            return {key: filled(one) for key, one in value.items()}
        if isinstance(value, list):
            return [filled(one) for one in value]
        return (
            value
            if not isinstance(value, str)
            else re.sub(r"\$\{(\w+):\?\}", lambda found: variables[found.group(1)], value)
        )

    content = yaml.safe_load((DEPLOYMENTS / "compose.yaml").read_text(encoding="utf-8"))
    return filled(content)


@contextmanager
def started(home, database=None):
    """A server as compose starts it, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = set(re.findall(r"\$\{(\w+)", (DEPLOYMENTS / "compose.yaml").read_text(encoding="utf-8")))
    service = compose({**dict.fromkeys(names, "x"), **VARIABLES, "DEFT_PORT": str(port)})["services"][
        "server"
    ]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    settings = {
        **service["environment"],
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": database or f"sqlite+aiosqlite:///{home}/prefect.db",
    }
    program, *words = service["command"]
    words[words.index("--host") + 1] = "127.0.0.1"
    words[words.index("--port") + 1] = str(port)
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", program, *words],
            env=clean | settings, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}/api"
        wait_for(lambda: answers(url), 120, lambda: log.read_text()[-2000:])
        yield Server(url, home, log)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def answers(url):
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def wait_for(condition, seconds, otherwise=lambda: "waited in vain"):
    """What `condition` gives as soon as it is true."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, otherwise()
        time.sleep(0.3)
    return found


@pytest.fixture(scope="session", name="hardened_server")
def _hardened_server(tmp_path_factory):
    with started(tmp_path_factory.mktemp("prefect")) as server:
        yield server


@pytest.fixture(scope="session")
def compose_file():
    """Gives compose.yaml with variables filled in."""
    return compose


@pytest.fixture(scope="session")
def start_server():
    """Starts a server of its own in a folder, on a database."""
    return started


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def deft_deploy(data, monkeypatch):
    """Calls `deft deploy` with options; gives its exit status, what it says, and its error."""
    import typer
    from typer.testing import CliRunner

    from deployments.deploy import deploy
    from tasks.errors import DeftError

    for name in [name for name in os.environ if name.startswith("DEFT_")]:
        monkeypatch.delenv(name)
    app = typer.Typer()
    app.command()(deploy)

    def call(*options):
        images = ["--image", "deft-flows/orchestrator:0.1.0", "--engine-image", "deft-flows/engine:0.1.0"]
        place = ["--data", str(data), "--user", "1000:1000", "--docker-group", "999"]
        done = CliRunner().invoke(app, [*images, *place, *options])
        if done.exception and not isinstance(done.exception, DeftError | SystemExit):
            raise done.exception
        return done

    return call
