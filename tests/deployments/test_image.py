import io
import re
import tarfile
from pathlib import Path

import docker
import pytest
import typer
from typer.testing import CliRunner

from blocks.versions import BASE, BASE_CPU, NATIVE, ORCHESTRATOR, image_uri
from deployments import image as module
from deployments.image import (
    Recipe,
    build_image,
    fetch_base,
    follow,
    image,
    smoke_test,
    write_context,
)
from tasks.errors import DeftError, InputError, StageFailed, UsageError

NOWHERE = "127.0.0.1:1/deft-test/none:1"


@pytest.fixture
def app():
    made = typer.Typer()
    made.command()(image)
    return lambda *words: CliRunner().invoke(made, list(map(str, words)))


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "my wheels"
    folder.mkdir()
    (folder / "deft_flows-0.1.0-py3-none-any.whl").write_bytes(b"wheel")
    (folder / "notes.txt").write_text("not for the build")
    return folder


@pytest.fixture
def online(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "AIR_GAPPED"):
        monkeypatch.delenv(name, raising=False)


def members(root, wheels=None):
    stream = io.BytesIO()
    write_context(stream, root, wheels)
    with tarfile.open(fileobj=stream) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar}


def test_build_context_is_the_package_and_nothing_else(tmp_path):
    for name in (".dockerignore", "pyproject.toml", "README.md", "constraints.txt", "versions.yaml"):
        (tmp_path / name).write_bytes((module.ROOT / name).read_bytes())
    for name in (
        *(
            "tasks/a.py",
            "tasks/__pycache__/a.pyc",
            "deployments/Dockerfile",
            "deployments/secrets.env",
            "flows/.env",
        ),
        *(".git/config", ".env", "tests/test_a.py", "deft-demo/train.csv", ".venv-test/pip.conf"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert set(members(tmp_path)) == {
        *("pyproject.toml", "README.md", "constraints.txt", "versions.yaml"),
        *(".dockerignore", "tasks/a.py", "deployments/Dockerfile"),
    }


def test_named_wheels_take_the_place_of_the_folder_in_the_checkout(tmp_path, wheels):
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "stale.whl").write_bytes(b"")
    (tmp_path / ".dockerignore").write_text("*\n!wheels\n")
    assert set(members(tmp_path)) == {".dockerignore", "wheels/stale.whl"}
    assert set(members(tmp_path, wheels)) == {".dockerignore", "wheels/deft_flows-0.1.0-py3-none-any.whl"}


def test_build_with_wheels_uses_no_network_unless_one_is_named(wheels):
    plain, offline, both = (
        Recipe(tag="t:1", base="b:1", **given)
        for given in ({}, {"wheels": wheels}, {"wheels": wheels, "network": "host"})
    )
    assert [recipe.build_network() for recipe in (plain, offline, both)] == [None, "none", "host"]
    assert [recipe.build_arguments()["PIP_NO_INDEX"] for recipe in (plain, offline, both)] == ["", "1", ""]


def test_orchestrator_has_no_torch_but_what_a_fine_tuning_asks_the_hub_with():
    extras = [
        Recipe(tag="t:1", base="b:1", engine=engine).build_arguments()["EXTRA"] for engine in (True, False)
    ]
    assert extras == ["[engine]", "[huggingface]"]


@pytest.mark.parametrize("key", [NATIVE, ORCHESTRATOR, BASE, BASE_CPU])
def test_tags_and_bases_stand_in_the_versions_file(key):
    tag = image_uri(key)
    assert tag not in (module.ROOT / module.DOCKERFILE).read_text()
    assert tag not in Path(module.__file__).read_text()


def test_no_daemon_is_one_line(monkeypatch, tmp_path, app):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    failure = app("--base", "b:1", "--tag", "t:1").exception
    assert isinstance(failure, DeftError)
    assert re.fullmatch(r"no Docker daemon answers: .*; start it, or set DOCKER_HOST", str(failure))


def test_unusable_versions_file_is_a_usage_error(monkeypatch, tmp_path, app):
    monkeypatch.setenv("TAO_VERSIONS_FILE", str(tmp_path / "none.yaml"))
    failure = app().exception
    assert isinstance(failure, UsageError)
    assert "none.yaml cannot be read" in str(failure)


@pytest.mark.parametrize("option", ["--base", "--tag"])
def test_image_name_that_is_none_is_a_usage_error(app, option):
    given = {"--base": "python:3.11", "--tag": "engine:1"} | {option: "; rm -rf /:1"}
    failure = app(*(word for pair in given.items() for word in pair)).exception
    assert isinstance(failure, UsageError)
    assert str(failure) == f"{option} '; rm -rf /:1' is no image with a tag or digest, such as name:1.0"


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "AIR_GAPPED"])
def test_missing_base_is_not_pulled_offline(docker_engine, monkeypatch, online, variable):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(
        InputError, match=rf"base image {NOWHERE} is not on this Docker host and {variable} switches"
    ):
        fetch_base(docker_engine, NOWHERE)


def test_missing_base_that_cannot_be_pulled_is_one_line(docker_engine, online):
    with pytest.raises(InputError) as failure:
        fetch_base(docker_engine, NOWHERE)
    assert "cannot be pulled" in str(failure.value)
    assert "docker load" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_folder_without_wheels_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no wheels; make some: pip wheel"):
        build_image(None, Recipe(tag="t:1", base="b:1", wheels=tmp_path))


def test_index_with_a_password_is_refused():
    with pytest.raises(UsageError) as failure:
        build_image(None, Recipe(tag="t:1", base="b:1", index="https://me:hunter2@index.local/simple"))
    assert "hunter2" not in str(failure.value)


def test_installed_copy_cannot_build(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "ROOT", tmp_path)
    with pytest.raises(InputError, match=r"no pyproject.toml; deft image works in a checkout"):
        build_image(None, Recipe(tag="t:1", base="b:1"))


def test_failed_build_says_why_in_one_line(docker_engine, python_base):
    recipe = Recipe(tag="deft-test-image/none:1", base=python_base, network="none")
    with pytest.raises(StageFailed) as failure:
        build_image(docker_engine, recipe)
    assert str(failure.value) == (
        "image deft-test-image/none:1 was not built: /usr/local/bin/python3: No module named pip"
    )
    with pytest.raises(docker.errors.ImageNotFound):
        docker_engine.images.get(recipe.tag)


def test_first_error_of_pip_is_the_reason():
    events = [
        {"stream": "Step 1\n"},
        {"stream": "\x1b[91m      ERROR: No matching distribution found for torch==2.13.0\n\x1b[0m"},
        {"stream": "\x1b[91mERROR: see the log\n\x1b[0m"},
        {"error": "The command '/bin/sh -c ...' returned a non-zero code: 1"},
    ]
    with pytest.raises(
        docker.errors.DockerException, match=r"^No matching distribution found for torch==2\.13\.0$"
    ):
        follow(events)


def test_pull_shows_no_progress_bars(capsys):
    follow(
        [
            {"status": "Pulling from library/python", "id": "3.11"},
            {"status": "Downloading", "progressDetail": {"current": 1, "total": 2}},
            {"status": "Pull complete", "progressDetail": {}},
        ]
    )
    assert capsys.readouterr().out == "Pulling from library/python\nPull complete\n"


def test_image_that_does_not_answer_is_no_success(docker_engine, python_base):
    with pytest.raises(StageFailed, match="the image was built, but does not start: "):
        smoke_test(docker_engine, python_base, engine=False)


def test_dockerfile_needs_no_newer_builder_and_holds_no_secret():
    text = (module.ROOT / module.DOCKERFILE).read_text()
    instructions = [line.split()[0] for line in text.splitlines() if line and line[0].isupper()]
    assert "--mount" not in text
    assert "<<" not in text
    assert "ADD" not in instructions
    assert {line for line in text.splitlines() if line.startswith("ARG ")} >= {"ARG BASE"}
