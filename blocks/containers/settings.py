"""What a site says about its containers; with a title and a description each, it is the form in the UI."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from docker.errors import DockerException  # type: ignore[import-untyped]
from docker.utils import parse_bytes  # type: ignore[import-untyped]
from pydantic import AfterValidator, BaseModel, Field

Identity = Literal["env", "passwd", "root_chown"]

SOCKETS = ("/run/docker.sock", "/var/run/docker.sock", "/run/containerd", "/var/lib/docker")
SYSTEM = ("/boot", "/dev", "/etc", "/proc", "/run", "/sys", "/var/lib/docker", "/var/run")
PROGRAMS = ("/usr", "/bin", "/lib", "/sbin")


def checked_mount(text: str) -> str:
    """A mount, `/folder` or `/folder:ro`; raises `ValueError` when no container may see that folder."""
    folder = Path(text.removesuffix(":ro"))
    if not folder.is_absolute() or ".." in folder.parts or ":" in str(folder):
        raise ValueError(f"mount {text!r} is no absolute folder; write /folder or /folder:ro")
    for path in (folder, folder.resolve()):
        contained = any(Path(one).is_relative_to(path) for one in (*SOCKETS, *SYSTEM, *PROGRAMS))
        if contained or any(path.is_relative_to(one) for one in SYSTEM):
            raise ValueError(
                f"mount {text!r} would show {path} of the host to containers; mount data folders"
            )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"mount {text!r} is not a folder; mount the folder that holds it")
    return text


def _checked_size(text: str) -> str:
    try:
        parse_bytes(text)
    except DockerException as error:
        raise ValueError(f"{text!r} is no size; write for instance 8g or 512m") from error
    return text


def _checked_gpus(text: str) -> str:
    if text not in ("", "all") and not re.fullmatch(r"[\w-]+(,[\w-]+)*", text):
        raise ValueError(f"{text!r} names no GPUs; write all, ids such as 0,1, UUIDs, or leave it empty")
    return text


def _checked_outside(paths: dict[str, str]) -> dict[str, str]:
    for inside, outside in paths.items():
        if not Path(inside).is_absolute():
            raise ValueError(f"host path {inside!r} is no absolute folder")
        checked_mount(outside)
    return paths


Mount = Annotated[str, AfterValidator(checked_mount)]
Size = Annotated[str, AfterValidator(_checked_size)]


class ContainerSettings(BaseModel):
    """The settings of every container that a runtime starts; the descriptions say what each does."""

    mounts: list[Mount] = Field(
        title="Mounts",
        min_length=1,
        description="Folders that containers see, at the same path as here; :ro at the end: read only.",
        examples=[["/data/aoi", "/data/pool:ro"]],
    )
    engine: Literal["native", "nvidia"] = Field(
        default="nvidia",
        title="Engine",
        description="nvidia: each action runs in the image that it names; native: all run in our own.",
    )
    gpus: Annotated[str, AfterValidator(_checked_gpus)] = Field(
        default="all",
        title="GPUs",
        description="all, ids or UUIDs with commas between, or empty for a host without a GPU.",
    )
    concurrency_limit: str | None = Field(
        default="gpu",
        title="Concurrency limit",
        description="Prefect's global limit that is held while a container computes on the GPU; empty: none.",
    )
    shm_size: Size = Field(default="8g", title="Shared memory", description="Size of /dev/shm.")
    ipc_host: bool = Field(
        default=False,
        title="Shared memory of the host",
        description="Use the host's /dev/shm in place of an own one; never done for ChangeNet.",
    )
    user: Annotated[str, Field(pattern=r"^\d+:\d+$")] | None = Field(
        default=None,
        title="User",
        description="uid:gid that containers run as and that owns the results; empty: this process's.",
    )
    identity: Identity = Field(
        default="env",
        title="Identity",
        description="How an image knows its user: by variables, by the host's passwd file, or by running as "
        "root and giving the results to the user afterwards.",
    )
    allow_root: bool = Field(
        default=False, title="Allow root", description="Let containers run as root where this process does."
    )
    environment: dict[str, str] = Field(
        default={}, title="Environment", description="More variables; no secrets, those are credentials."
    )
    network: Literal["bridge", "none", "host"] = Field(
        default="bridge", title="Network", description="Docker network; behind an air gap always none."
    )
    pull: Literal["missing", "never"] = Field(
        default="missing",
        title="Pull",
        description="Whether an image that is not on the host may be fetched; behind an air gap never.",
    )
    memory: Size | None = Field(default=None, title="Memory", description="The most a container may use.")
    cpus: Annotated[float, Field(gt=0)] | None = Field(
        default=None, title="CPUs", description="The most cores a container may use."
    )
    time_limit_minutes: Annotated[float, Field(gt=0)] | None = Field(
        default=None, title="Time limit", description="Minutes after which a container is stopped."
    )
    stop_grace_seconds: int = Field(
        default=10,
        ge=0,
        title="Grace",
        description="Seconds between asking a container to end and killing it.",
    )
    host_paths: Annotated[dict[str, str], AfterValidator(_checked_outside)] = Field(
        default={},
        title="Host paths",
        description="For a flow that runs in a container itself: the host's folder behind each of its own.",
    )
    air_gapped: bool | None = Field(
        default=None,
        title="Air gap",
        description="No network for containers; unset: the variables AIR_GAPPED and HF_HUB_OFFLINE decide.",
    )
