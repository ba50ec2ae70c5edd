"""The place that runs the commands of a project in containers of its image."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from docker.errors import BuildError  # type: ignore[import-untyped]
from docker.types import DeviceRequest  # type: ignore[import-untyped]

from blocks.containers.daemon import DOCKER_ERRORS, connected
from tasks.errors import DeftError, InputError, StageFailed
from tasks.huggingface.commands import (
    WORKSPACE,
    Command,
    container_environment,
    container_name,
    has_gpus,
    image_of,
)
from tasks.huggingface.credentials import needed, require
from tasks.huggingface.images import frozen_matrix
from tasks.huggingface.runner import (
    GRACE_SECONDS,
    Outcome,
    Watch,
    follow,
    fresh_log,
    make_folders,
    present,
)

logger = logging.getLogger("deft")

KEPT_IN_CONTAINER = ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
NGC_USER = "$oauthtoken"
REFUSED = re.compile(r"\b401\b|unauthorized|authentication required|access denied", re.IGNORECASE)
RUN_LABEL = "deft.huggingface.project"


class DockerRunner:
    """Runs commands in containers of the project's image, as the user of this process."""

    name = "docker"

    def __init__(
        self,
        run: str,
        *,
        user: str | None = None,
        gpus: bool = True,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Name containers after this run.

        Args:
            run: name of the run, of letters, digits, dots and dashes.
            user: `UID:GID` of the processes in containers; by default this process's.
            gpus: give containers every GPU of the host, where the audit of the project found some.
            labels: of the containers.

        Raises:
            InputError: the user is root; what its containers write would be root's.
        """
        self._user = user or f"{os.getuid()}:{os.getgid()}"
        if self._user.partition(":")[0] in {"0", "root"}:
            raise InputError(
                "containers that write into a project do not run as root: start as another user, name one "
                "(container_user: 1000:1000), or take the place 'process'"
            )
        self._run, self.gpus, self._labels = run, gpus, dict(labels or {})
        self._ended = threading.Event()
        self._container: Any = None

    def prepare(self, project: Path, config: Mapping[str, Any]) -> None:
        """Make the folders and build the image; where root starts it, the project is the named user's.

        Raises:
            StageFailed: the build failed; its log is `logs/build.log`.
            DeftError: Docker does not answer.
        """
        make_folders(project)
        build_image(project, config)
        if os.getuid() == 0:
            user, _, group = self._user.partition(":")
            for path in (project, *project.rglob("*")):
                os.chown(path, int(user), int(group), follow_symlinks=False)

    def run(
        self,
        command: Command,
        project: Path,
        config: Mapping[str, Any],
        *,
        limit_seconds: float,
        watch: Watch | None = None,
    ) -> Outcome:
        """Run the command detached in a named container; a container left of that name is removed first.

        Raises:
            DeftError: Docker does not answer, or cannot start the container.
        """
        log = fresh_log(project / command.log)
        if self._ended.is_set():
            raise DeftError("the run is being ended: nothing is started any more")
        name = container_name(config, f"{self._run}_{command.name}")
        with connected(DeftError) as client:
            _remove_named(client, name)
            image = build_image(project, config)  # its layers are there, unless a person changed a file
            settings = self.settings(command, project, config)
            began = time.monotonic()
            container = client.containers.run(image, name=name, detach=True, **settings)
            self._container = container
            try:

                def state() -> int | None:
                    container.reload()
                    ended = container.attrs["State"]["Status"] in {"exited", "dead"}
                    return int(container.attrs["State"]["ExitCode"]) if ended else None

                stopped = follow(state, log, began + limit_seconds, watch, self._ended)
                if stopped:
                    container.stop(timeout=GRACE_SECONDS)
                status = int(container.wait(timeout=60)["StatusCode"])
                if not log.is_file() or not log.stat().st_size:
                    log.write_bytes(container.logs())  # the shell itself failed, before its tee
            finally:
                self._container = None
                with suppress(*DOCKER_ERRORS):
                    container.remove(force=True)
        return Outcome(status=status, seconds=time.monotonic() - began, log=log, stopped=stopped)

    def settings(self, command: Command, project: Path, config: Mapping[str, Any]) -> dict[str, Any]:
        """The container of a command as the Docker SDK takes it; secrets are in its environment alone."""
        environment = {
            **container_environment(),
            **present(KEPT_IN_CONTAINER),
            **command.environment,
            **present(command.passed),
        }
        mounts = {str(folder): {"bind": str(folder), "mode": "ro"} for folder in command.mounts}
        settings: dict[str, Any] = {
            "entrypoint": ["/bin/bash"],
            "command": ["-lc", command.shell()],
            "user": self._user,
            "environment": environment,
            "volumes": {str(project.absolute()): {"bind": WORKSPACE, "mode": "rw"}, **mounts},
            "working_dir": WORKSPACE,
            "init": True,  # a shell that is the first process would not hear a request to stop
            "labels": {**self._labels, RUN_LABEL: str(config["model_short_name"])},
        }
        if command.shm_size:
            settings["shm_size"] = command.shm_size
        if self.gpus and has_gpus(config):
            settings["device_requests"] = [DeviceRequest(count=-1, capabilities=[["gpu"]])]
        return settings

    def stop(self) -> None:
        """Stop the container that runs."""
        self._ended.set()
        if self._container is not None:
            with suppress(*DOCKER_ERRORS):
                self._container.stop(timeout=GRACE_SECONDS)


def build_image(project: Path, config: Mapping[str, Any]) -> str:
    """Build the image of a project; gives its id, since another project may have the same tag.

    Where NVIDIA's registry refuses the base image, it is asked again with NGC_KEY.

    Raises:
        StageFailed: the build failed; `logs/build.log` tells where.
        InputError: NGC_KEY is needed for the base image, and not set.
    """
    log = project / "logs" / "build.log"
    base, tag = str(config.get("ngc_image") or ""), image_of(config)
    settings = {
        "path": str(project),
        "tag": tag,
        "buildargs": {"NGC_IMAGE": base} if base else {},
        "rm": True,
    }
    with connected(DeftError) as client, log.open("a", encoding="utf-8") as output:
        try:
            try:
                image, lines = client.images.build(**settings)
            except BuildError as error:
                registry = frozen_matrix().repository.split("/")[0]
                if not (base.startswith(f"{registry}/") and REFUSED.search(str(error))):
                    raise
                require(needed(push_to_hub=False, wandb=False, pull_refused=True))
                client.login(NGC_USER, os.environ["NGC_KEY"], registry=registry, reauth=True)
                image, lines = client.images.build(**settings)
        except BuildError as error:
            output.writelines(str(line.get("stream", "")) for line in error.build_log)
            raise StageFailed(f"image {tag} was not built: {error}; see {log}") from error
        output.writelines(str(line.get("stream", "")) for line in lines)
    return str(image.id)


def _remove_named(client: Any, name: str) -> None:
    for container in client.containers.list(all=True, filters={"name": f"^/?{name}$"}):
        logger.warning("removing container %s, left over", name)
        container.remove(force=True)
