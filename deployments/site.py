"""What a site decides about its deployments: the variables DEFT_... of prefect.yaml and compose.yaml."""

from __future__ import annotations

import base64
import os
import re
import secrets
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from blocks.versions import NATIVE, ORCHESTRATOR, POSTGRES, image_uri
from tasks.artifacts import write_text
from tasks.errors import DeftError, InputError, UsageError
from tasks.spec import explained

RUNTIME = "docker-runtime/gpu"
DOCKER_SOCKET = Path("/var/run/docker.sock")
STRATEGIES = {"cancel": "CANCEL_NEW", "wait": "ENQUEUE"}

Ids = Annotated[str, StringConstraints(pattern=r"^[0-9]+:[0-9]+$")]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]*$")]
Collision = Literal["cancel", "wait"]


class Site(BaseModel):
    """One site.

    Attributes:
        data: folder that holds the workspaces, at the same path on the host and in every container.
        image: image of the flows, which start a container beside them for each stage.
        engine_image: image that answers to single actions.
        engine: who answers to actions in the site's own runtime: NVIDIA's images, or ours alone.
        gpus: GPUs of a stage there: all, ids with commas, or none.
        runtime: where the stages of a flow run.
        network: Docker network of the flows, on which they reach the Prefect server.
        user: UID:GID of the flows, who owns the data folder.
        docker_group: group that may use the Docker daemon.
        cron: when the nightly flow starts.
        timezone: the clock that `cron` is meant for.
        collision: whether a night is left out (cancel) or waits while the one before still runs.
        data_claim: PersistentVolumeClaim of the data folder, on a Kubernetes cluster.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path
    image: str
    engine_image: str
    engine: Literal["native", "nvidia"] = "nvidia"
    gpus: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9,-]+$")] = "all"
    runtime: Word = RUNTIME
    network: Word
    user: Ids
    docker_group: Annotated[str, StringConstraints(pattern=r"^[0-9]+$")]
    cron: str = "0 2 * * *"
    timezone: str = "UTC"
    collision: Collision = "cancel"
    data_claim: Word = "deft-data"

    @field_validator("data")
    @classmethod
    def _mountable(cls, value: Path) -> Path:
        if not value.is_absolute() or value == Path("/") or re.search(r"[:,\s]", str(value)):
            raise ValueError("has to be an absolute folder, without blanks, commas and colons, to be mounted")
        return value

    @field_validator("image", "engine_image")
    @classmethod
    def _tagged(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._/:-]*(:[\w.-]+|@sha256:[0-9a-f]{64})", value):
            raise ValueError(f"{value!r} is no image with a tag or digest")
        if value.endswith(":latest"):
            raise ValueError(f"{value!r}: Docker pulls :latest anew for each run; give a version")
        return value

    @model_validator(mode="after")
    def _scheduled(self) -> Self:
        from prefect.client.schemas.schedules import CronSchedule

        try:
            CronSchedule(cron=self.cron, timezone=self.timezone)
        except ValidationError as error:
            raise ValueError(explained(error)) from error
        return self

    def runtime_values(self) -> dict[str, object]:
        """The fields of the Docker runtime block that is made for the site."""
        values = {"mounts": [str(self.data)], "engine": self.engine}
        gpus = "" if self.gpus == "none" else self.gpus
        return {**values, "gpus": gpus, "allow_root": self.user.startswith("0:")}

    def environment(self) -> dict[str, str]:
        """The variables that `prefect.yaml` names."""
        values = {f"DEFT_{name.upper()}": str(value) for name, value in self.model_dump(mode="json").items()}
        return {**values, "DEFT_COLLISION_STRATEGY": STRATEGIES[self.collision]}


def site_of(api_url: str, data: Path, **chosen: str | None) -> Site:
    """The site of these options; what is None is looked up on this host or takes its default.

    Args:
        api_url: of the Prefect server, as runs reach it.
        data: folder that holds the workspaces.
        **chosen: other fields of `Site` by name.

    Raises:
        InputError: a field is not what it must be, or cannot be found out here.
    """
    given = {name: value for name, value in chosen.items() if value}
    user = given.get("user") or owner_of(data)
    found = {
        "image": given.get("image") or _image(ORCHESTRATOR),
        "engine_image": given.get("engine_image") or _image(NATIVE),
        "network": "host" if urlsplit(api_url).hostname in ("127.0.0.1", "localhost", "::1") else "bridge",
        "docker_group": str(DOCKER_SOCKET.stat().st_gid)
        if DOCKER_SOCKET.exists()
        else user.partition(":")[2],
    }
    try:
        return Site.model_validate({**found, **given, "user": user, "data": data})
    except ValidationError as error:
        raise InputError(f"deft deploy: {explained(error)}") from error


def owner_of(data: Path) -> str:
    """UID:GID of the folder's owner, who runs the flows.

    Raises:
        InputError: there is no such folder, or it belongs to root.
    """
    if not data.is_dir():
        raise InputError(
            f"no data folder {data} here: create it, or say who runs the flows with --user UID:GID"
        )
    found = data.stat()
    if found.st_uid == 0:
        raise InputError(
            f"the data folder {data} belongs to root, and flows do not run as root unless they have to: "
            "give it to a user (chown), or say --user UID:GID"
        )
    return f"{found.st_uid}:{found.st_gid}"


def write_env(file: Path, site: Site, port: int) -> Path:
    """Write the variables of compose.yaml with new secrets; only the owner may read the file.

    Raises:
        UsageError: the file is there; its secrets are those of the database.
        DeftError: the versions file has no database image.
    """
    if file.exists():
        raise UsageError(f"{file} is there, and its passwords are those of the server: edit it, or remove it")
    _make_home_of_the_server(site)
    values = site.model_dump(mode="json") | {
        "network": "deft",
        "port": port,
        "postgres_image": _image(POSTGRES),
        "postgres_password": secrets.token_urlsafe(24),
        "auth": f"deft:{secrets.token_urlsafe(24)}",
        "encryption_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }
    lines = [f"DEFT_{name.upper()}='{value}'\n" for name, value in values.items()]
    old = os.umask(0o077)
    try:
        return write_text(file, "# Written by `deft deploy --write-env`; never commit it.\n" + "".join(lines))
    finally:
        os.umask(old)


def _make_home_of_the_server(site: Site) -> None:
    """Make the folder that compose.yaml mounts, as its user: Docker would make it as root.

    Raises:
        InputError: it cannot be made.
    """
    home = site.data / ".prefect" / "server"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{home} cannot be made ({error.strerror}): run this as its owner") from error
    if os.getuid() == 0:
        uid, gid = map(int, site.user.split(":"))
        for folder in (home.parent, home):
            os.chown(folder, uid, gid)


def _image(key: str) -> str:
    try:
        return image_uri(key)
    except ValueError as error:
        raise DeftError(str(error)) from error
