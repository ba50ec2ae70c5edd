import time
from types import SimpleNamespace

import pytest
from docker.errors import APIError, NotFound

from blocks.containers import engine
from blocks.reaping import reap


@pytest.fixture
def made(docker_engine, python_base):
    """Containers of this test, with our label, removed at its end."""
    containers = []

    def make(command, name="deft-test-engine", labels=None):
        arguments = {"image": python_base, "command": command, "init": True}
        containers.append(engine.started(docker_engine, name, arguments, labels or {}))
        return containers[-1]

    yield make
    for container in containers:
        engine.remove(container)


def test_a_container_that_runs_or_has_ended_is_found(made, docker_engine):
    assert engine.left_over(docker_engine, "deft-test-engine") is None
    container = made(["bash", "-c", "read -t 1 < <(sleep 60); exit 4"])
    assert engine.left_over(docker_engine, "deft-test-engine").id == container.id
    container.wait()
    assert engine.left_over(docker_engine, "deft-test-engine").id == container.id


def test_one_that_was_killed_or_never_ran_is_removed(made, docker_engine, python_base):
    made(["sleep", "60"]).kill()
    assert engine.left_over(docker_engine, "deft-test-engine") is None
    labels = {"deft.key": "deft-test-engine"}
    docker_engine.containers.create(python_base, ["true"], name="deft-test-engine", labels=labels)
    assert engine.left_over(docker_engine, "deft-test-engine") is None
    with pytest.raises(NotFound):
        docker_engine.containers.get("deft-test-engine")


def test_a_container_that_does_not_start_leaves_nothing(docker_engine, python_base):
    arguments = {"image": python_base, "command": ["no-such-program"]}
    with pytest.raises(APIError, match="no-such-program"):
        engine.started(docker_engine, "deft-test-engine", arguments, {})
    assert docker_engine.containers.list(all=True, filters={"name": "deft-test-engine"}) == []


def test_asking_gives_exit_code_and_words(docker_engine, python_base):
    arguments = {"image": python_base, "command": ["bash", "-c", "echo one; echo two >&2; exit 3"]}
    code, said = engine.ask(docker_engine, "deft-test-ask", arguments)
    assert (code, sorted(said.split())) == (3, ["one", "two"])
    assert docker_engine.containers.list(all=True, filters={"name": "deft-test-ask"}) == []


def test_an_error_while_watching_takes_the_container_along(made, docker_engine):
    container = made(["sleep", "60"])
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), engine.watched(container, 2):
        raise KeyboardInterrupt
    assert time.monotonic() - begun < 30
    assert docker_engine.containers.list(all=True, filters={"name": "deft-test-engine"}) == []


def test_stopping_without_containers_does_nothing():
    engine.stop_all()


def test_the_hook_takes_only_what_belongs_to_the_run(made, docker_engine):
    made(["sleep", "60"], "deft-test-engine-1", {"deft.flow-run-id": "run-1"})
    made(["sleep", "60"], "deft-test-engine-2", {"deft.flow-run-id": "run-2"})
    reap(flow=None, flow_run=SimpleNamespace(id="run-1", name="one"), state=None)
    names = [
        one.name for one in docker_engine.containers.list(all=True, filters={"name": "deft-test-engine"})
    ]
    assert names == ["deft-test-engine-2"]


def test_the_hook_without_a_daemon_says_so(monkeypatch, caplog):
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    reap(flow=None, flow_run=SimpleNamespace(id="run-1", name="one"), state=None)
    assert "no container was stopped: no Docker daemon answers" in caplog.text


def test_the_daemon_says_where_it_keeps_its_data(docker_engine, monkeypatch):
    assert [path.is_absolute() for path in engine.data_root(docker_engine)] == [True]
