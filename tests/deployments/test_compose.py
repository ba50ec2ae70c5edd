"""compose.yaml: what it must and must not do, and its server on a real PostgreSQL. No compose is needed."""

import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet

from deployments.site import Site, write_env
from tasks.errors import UsageError

SERVICE_KEYS = {
    "cap_add", "cap_drop", "command", "depends_on", "environment", "group_add", "healthcheck", "image",
    "init", "logging", "networks", "ports", "read_only", "restart", "security_opt", "shm_size",
    "stop_grace_period", "tmpfs", "user", "volumes",
}  # fmt: skip
CONDITIONS = {"service_healthy", "service_completed_successfully", "service_started"}
DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
POSTGRES = Path("/usr/lib/postgresql")


def variables_of(text):
    return dict(re.findall(r"^(DEFT_\w+)='([^']*)'", text, re.MULTILINE))


@pytest.fixture
def written(tmp_path, monkeypatch):
    versions = tmp_path / "versions.yaml"
    versions.write_text("images: {services: {postgres: 'postgres:16'}}\n")
    monkeypatch.setenv("TAO_VERSIONS_FILE", str(versions))
    site = Site(
        data=tmp_path / "data",
        image="deft-flows/orchestrator:0.1.0",
        engine_image="deft-flows/engine:0.1.0",
        network="deft",
        user="1000:1000",
        docker_group="999",
        cron="30 1 * * 1-5",
    )
    return write_env(tmp_path / ".env", site, 4200)


@pytest.fixture
def services(written, compose_file):
    return compose_file(variables_of(written.read_text()))["services"]


def test_the_variables_are_those_that_are_used(written):
    used = set(re.findall(r"\$\{(\w+)", (DEPLOYMENTS / "compose.yaml").read_text()))
    example = variables_of((DEPLOYMENTS / ".env.example").read_text())
    assert used == set(variables_of(written.read_text())) == set(example)


def test_only_the_owner_reads_the_passwords_and_nobody_overwrites_them(written):
    assert written.stat().st_mode & 0o777 == 0o600
    values = variables_of(written.read_text())
    assert values["DEFT_CRON"] == "30 1 * * 1-5"
    assert len(values["DEFT_POSTGRES_PASSWORD"]) >= 32
    assert values["DEFT_POSTGRES_PASSWORD"] not in values["DEFT_AUTH"]
    Fernet(values["DEFT_ENCRYPTION_KEY"])
    site = Site.model_validate(
        {
            "data": written.parent / "data",
            "image": "a:1",
            "engine_image": "b:1",
            "network": "deft",
            "user": "1:1",
            "docker_group": "1",
        }
    )
    with pytest.raises(UsageError, match="edit it, or remove it"):
        write_env(written, site, 4200)


def test_a_shell_reads_the_file_as_compose_does(written):
    shown = subprocess.run(
        ["bash", "-c", f"set -a; . {written}; env"], capture_output=True, text=True, check=True
    ).stdout
    assert "DEFT_CRON=30 1 * * 1-5\n" in shown


def test_no_password_and_no_tag_is_in_the_repository():
    text = (DEPLOYMENTS / "compose.yaml").read_text()
    assert not re.findall(r"image: (?!\$\{)", text)
    assert "password" not in re.sub(r"\$\{\w+:\?\}|POSTGRES_PASSWORD|chooses passwords", "", text).lower()
    example = variables_of((DEPLOYMENTS / ".env.example").read_text())
    assert "choose" in example["DEFT_AUTH"]
    assert not re.search(r":\d", example["DEFT_IMAGE"] + example["DEFT_POSTGRES_IMAGE"])


def test_services_are_made_of_known_keys(services):
    for name, service in services.items():
        assert set(service) <= SERVICE_KEYS, name
        assert all(isinstance(value, str) for value in service["environment"].values()), name
        for other, how in service.get("depends_on", {}).items():
            assert other in services
            assert set(how) == {"condition"}
            assert how["condition"] in CONDITIONS


def test_every_service_is_hardened(services):
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if name != "postgres":
            assert service["user"] == "1000:1000"
            assert service["read_only"] is True


def test_only_the_worker_has_the_docker_socket(services):
    assert [name for name, one in services.items() if "docker.sock" in str(one.get("volumes"))] == ["worker"]
    assert services["worker"]["group_add"] == ["999"]


def test_nothing_is_published_beyond_this_host(services):
    assert {name: one["ports"] for name, one in services.items() if "ports" in one} == {
        "server": ["127.0.0.1:4200:4200"]
    }


def test_runs_cannot_reach_the_database(services, compose_file):
    content = compose_file(dict.fromkeys(variables_of((DEPLOYMENTS / ".env.example").read_text()), "deft"))
    assert content["networks"]["database"] == {"internal": True}
    assert [name for name, one in services.items() if "database" in one["networks"]] == ["postgres", "server"]
    assert content["networks"]["deft"]["name"] == "deft"


def test_the_server_is_hardened(services):
    settings = services["server"]["environment"]
    assert settings["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    assert settings["PREFECT_SERVER_API_AUTH_STRING"].startswith("deft:")
    assert settings["PREFECT_RESULTS_DEFAULT_SERIALIZER"] == "json"
    assert settings["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert settings["PREFECT_SERVER_DATABASE_CONNECTION_URL"].startswith("postgresql+asyncpg://")
    Fernet(settings["PREFECT_SERVER_ENCRYPTION_KEY"])
    others = [name for name, one in services.items() if "PREFECT_SERVER_ENCRYPTION_KEY" in one["environment"]]
    assert others == ["server"]


def test_every_variable_of_the_command_reaches_the_registration(services):
    from typer.main import get_params_from_function

    from deployments.deploy import deploy

    known = {one.default.envvar for one in get_params_from_function(deploy).values()} - {None}
    named = {name for name in services["register"]["environment"] if name.startswith("DEFT_")}
    assert named == known
    assert services["register"]["command"] == ["deft", "deploy"]


@pytest.fixture
def database(tmp_path_factory):
    """The URL of a PostgreSQL of this test's own; skips where its programs are not installed."""
    programs = sorted(POSTGRES.glob("*/bin/initdb"))
    if not programs or os.geteuid() != 0 or not shutil.which("runuser"):
        pytest.skip("no PostgreSQL on this machine, or nobody to run it as")
    binaries = programs[-1].parent
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    shutil.chown(folder, "postgres", "postgres")
    as_postgres = ["runuser", "-u", "postgres", "--"]
    secret = folder / "secret"
    secret.write_text("not-a-secret")
    shutil.chown(secret, "postgres")
    options = ["--auth=scram-sha-256", "--username=deft", f"--pwfile={secret}", "--no-sync"]
    subprocess.run(
        [*as_postgres, binaries / "initdb", "-D", folder / "db", *options], check=True, capture_output=True
    )
    server = subprocess.Popen(
        [*as_postgres, binaries / "postgres", "-D", folder / "db", "-p", str(port), "-k", folder],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        ready = [binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        for _ in range(100):
            if subprocess.run(ready, check=False).returncode == 0:
                break
            time.sleep(0.3)
        yield f"postgresql+asyncpg://deft:not-a-secret@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run(
            [*as_postgres, binaries / "pg_ctl", "-D", folder / "db", "-m", "fast", "stop"],
            check=True,
            capture_output=True,
        )
        server.wait(30)
        shutil.rmtree(folder)


@pytest.mark.slow
def test_the_server_runs_on_postgresql(database, tmp_path, deft_deploy, start_server):
    with start_server(tmp_path / "home", database) as server, server.used():
        for _ in range(2):
            said = deft_deploy()
            assert said.exit_code == 0, said.exception
        assert "nightly/nightly" in said.output
        page = httpx.get(server.url.removesuffix("/api") + "/")
        assert page.status_code == 200
        assert "ERROR" not in server.log.read_text()
