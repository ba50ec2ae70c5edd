"""What several checks look at, looked at once for one summary."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from blocks.network import offline_variable
from blocks.versions import NATIVE
from tasks.preflight.aoi import AoiSets
from tasks.preflight.folders import FolderSets
from tasks.preflight.hardware import Gpu, gpus
from tasks.preflight.sets import DataSets
from tasks.preflight.subject import Subject

DOCKER_TIMEOUT = 5
"""Seconds that a Docker daemon has for an answer."""


@dataclass(frozen=True)
class Network:
    """Whether the run may use the network, and who said so; nothing is probed."""

    offline: bool
    source: str


@dataclass(frozen=True)
class Image:
    """An image that a phase needs.

    Attributes:
        key: in the versions file.
        uri: behind that key.
        image_id: of the local copy; empty when there is none.
        architecture: of the local copy.
        size: of the local copy in bytes.
    """

    key: str
    uri: str
    image_id: str = ""
    architecture: str = ""
    size: int = 0

    @property
    def is_native(self) -> bool:
        """Whether it is our own engine, which also runs without a GPU."""
        return self.key == NATIVE

    @property
    def registry(self) -> str:
        """The host that it is pulled from; empty for an image that is built here."""
        host = self.uri.split("/")[0]
        return host if "." in host or ":" in host else ""


@dataclass(frozen=True)
class Docker:
    """The daemon as it answered; `error` says in one line why it did not."""

    version: str = ""
    architecture: str = ""
    runtimes: tuple[str, ...] = ()
    root: str = ""
    error: str = ""


def sets_of(profile: str, root: Path, loop: Mapping[str, Any]) -> DataSets:
    """The data sets of a profile on a workspace, with the settings of its loop."""
    return FolderSets(root) if profile == "image_classifier" else AoiSets(root, loop)


class Look:
    """The view of the checks on one subject."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    @cached_property
    def network(self) -> Network:
        """The network mode: what the person said, else the environment, else the default."""
        mode = self.subject.network_mode
        if mode is not None:
            return Network(mode == "airgap", "parameter network_mode")
        said = offline_variable(self.subject.environment)
        return Network(said is not None, f"environment variable {said}" if said else "default")

    @cached_property
    def sets(self) -> DataSets:
        """The data sets of the profile."""
        loop = self.subject.loop
        return sets_of(self.subject.profile, self.subject.workspace, loop.settings if loop else {})

    @cached_property
    def gpus(self) -> list[Gpu]:
        """The GPUs of this host."""
        return gpus(self.subject.environment)

    @cached_property
    def _daemon(self) -> tuple[Any, Docker]:
        import docker  # type: ignore[import-untyped]
        import requests
        from docker.errors import DockerException  # type: ignore[import-untyped]

        try:
            client = docker.from_env(environment=dict(self.subject.environment), timeout=DOCKER_TIMEOUT)
            version, info = client.version(), client.info()
        except (DockerException, requests.RequestException, OSError) as error:
            return None, Docker(error=" ".join(str(error).split())[:200])
        runtimes = tuple(sorted(info.get("Runtimes") or {}))
        root = info.get("DockerRootDir", "")
        return client, Docker(version.get("Version", ""), version.get("Arch", ""), runtimes, root)

    @property
    def docker_client(self) -> Any:
        """The client of that daemon; none where it does not answer."""
        return self._daemon[0]

    @property
    def docker(self) -> Docker:
        """The Docker daemon that the environment names."""
        return self._daemon[1]

    @cached_property
    def architecture(self) -> str:
        """The CPU architecture that images must have, in Docker's words."""
        machine = platform.machine()
        return self.docker.architecture or {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)

    @cached_property
    def images(self) -> list[Image]:
        """The images that the phases need, with their local copies."""
        return [self._inspected(key, uri) for key, uri in self.subject.images.items()]

    @property
    def in_nvidia_image(self) -> bool:
        """Whether a phase runs in an image that is not our own, and so on a GPU."""
        return self.subject.starts_images and any(not image.is_native for image in self.images)

    def _inspected(self, key: str, uri: str) -> Image:
        from docker.errors import ImageNotFound

        client = self._daemon[0]
        if client is None:
            return Image(key, uri)
        try:
            attributes = client.images.get(uri).attrs
        except ImageNotFound:
            return Image(key, uri)
        known = attributes.get("Architecture", ""), attributes.get("Size", 0)
        return Image(key, uri, attributes["Id"], *known)
