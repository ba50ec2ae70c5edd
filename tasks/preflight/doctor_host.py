"""The host as `deft doctor` looks at it: programs with a time limit, the Docker daemon, what was found."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from blocks.versions import ANOMALYGEN, DATA_SERVICES, NATIVE, PYT, image_uri
from tasks.errors import DeftError
from tasks.preflight.hardware import Gpu
from tasks.preflight.look import Image, Look
from tasks.preflight.subject import Subject

Engine = Literal["native", "nvidia"]
Status = Literal["ok", "warn", "error", "unknown"]

PROGRAM_TIMEOUT = 10.0
"""Seconds that a program has for an answer."""
IMAGES: dict[Engine, tuple[str, ...]] = {
    "native": (NATIVE,),
    "nvidia": (PYT, DATA_SERVICES, ANOMALYGEN, NATIVE),
}
"""Keys of the images that an engine runs in; the first is the one that is tried."""


class Found(NamedTuple):
    """What a check found, and what a person can do about it."""

    status: Status
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Host:
    """A host, looked at for one workspace and one engine.

    Attributes:
        workspace: the folder of the task's data; runs write below its `results`.
        engine: whose code answers to actions.
        probe: whether a container may be started.
        environment: variables, of which only presence counts for secrets.
        api_url: of the Prefect server; none where none is set.
        api_headers: that the server wants.
    """

    workspace: Path
    engine: Engine = "native"
    probe: bool = False
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    api_url: str | None = field(default=None, repr=False)
    api_headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @cached_property
    def look(self) -> Look:
        """The view that the preflight of a pipeline has, on those images of this engine that have a name."""
        images = {}
        for key in IMAGES[self.engine]:
            with suppress(ValueError):
                images[key] = image_uri(key)
        subject = Subject(
            workspace=self.workspace,
            mode="loop_only",
            profile="aoi_changenet",
            runtime_name="doctor",
            starts_images=True,
            images=images,
            parameters={},
            environment=self.environment,
        )
        return Look(subject)

    def image(self, key: str) -> Image:
        """The image behind a key; raises `ValueError` where the versions file has none."""
        uri = image_uri(key)
        return next(image for image in self.look.images if image.uri == uri)

    @cached_property
    def _gpus(self) -> tuple[list[Gpu], DeftError | None]:
        try:
            return self.look.gpus, None
        except DeftError as error:
            return [], error

    @property
    def gpus(self) -> list[Gpu]:
        """The GPUs that nvidia-smi names, asked once; raises `DeftError` where its answer is none."""
        found, error = self._gpus
        if error:
            raise error
        return found

    @property
    def results(self) -> Path:
        """Where runs write, or the workspace before the first one."""
        folder = self.workspace / "results"
        return (folder if folder.is_dir() else self.workspace).absolute()

    def program(self, name: str) -> str | None:
        """The path of a program; none where it is not on the path."""
        return shutil.which(name, path=self.environment.get("PATH", os.defpath))

    def said_by(self, program: str, *words: str) -> str:
        """What a program prints on standard output.

        Raises:
            OSError: it cannot be started.
            ValueError: it ends with an error.
            TimeoutError: it does not end in time; it is killed with all that it started.
        """
        process = subprocess.Popen(
            [program, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,
            env=dict(self.environment),
        )
        try:
            said, _ = process.communicate(timeout=PROGRAM_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise TimeoutError(f"{program} gave no answer in {PROGRAM_TIMEOUT:g} s") from error
        if process.returncode:
            raise ValueError(f"{program} ended with exit status {process.returncode}")
        return said


def version_in(text: str, after: str = "") -> tuple[int, ...] | None:
    """The first dotted version in a text, behind a word; none where there is none."""
    found = re.search(rf"{re.escape(after)}\D*?(\d+(?:\.\d+)+)", text, re.DOTALL)
    return tuple(int(part) for part in found[1].split(".")) if found else None


def dotted(version: tuple[int, ...]) -> str:
    """A version as it is written."""
    return ".".join(map(str, version))


def program_version(
    host: Host, name: str, words: tuple[str, ...], least: tuple[int, ...], remedy: str, after: str = ""
) -> Found:
    """Whether a program is there and new enough, by what it says of itself."""
    program = host.program(name)
    if program is None:
        return Found("error", f"no program {name}", remedy)
    found = version_in(host.said_by(program, *words), after)
    if found is None:
        return Found("unknown", f"{program} names no version", remedy)
    if found < least:
        return Found("error", f"{name} {dotted(found)} is older than {dotted(least)}", remedy)
    return Found("ok", f"{name} {dotted(found)}")
