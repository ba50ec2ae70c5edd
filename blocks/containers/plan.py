"""What a container will be, before there is one: its settings, and what is refused (spec container-run 2-5).

Nothing here talks to Docker. Paths are the same inside and outside; only folders that the runtime
declares are seen, and every path of the call must lie in one of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets as random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.types import DeviceRequest, LogConfig  # type: ignore[import-untyped]
from docker.types import Mount as Bind
from docker.utils import parse_bytes  # type: ignore[import-untyped]

from blocks.containers import airgap, secrets
from blocks.containers.habits import Image
from blocks.containers.settings import ContainerSettings, Identity
from blocks.network import offline_variable
from blocks.runtime import ActionRequest

KEY_LABEL = "deft.key"
STAGE_LABEL = "deft.stage"
LOG_LABEL = "deft.log"
FLOW_RUN_LABEL = "deft.flow-run-id"
ROOT_FLOW_RUN_LABEL = "deft.root-flow-run-id"
SCRATCH = "/tmp"  # noqa: S108 - of the container, gone with it: outputs stay clean
TMPFS = {SCRATCH: "rw,exec,nosuid,nodev,mode=1777"}  # compiled kernels are loaded from there


@dataclass(frozen=True)
class Launcher:
    """The process that starts containers."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    folder: Path
    offline: bool

    @classmethod
    def current(cls, air_gapped: bool | None) -> Launcher:
        """This process; where `air_gapped` is None, its environment says whether it is offline."""
        if air_gapped is None:
            air_gapped = offline_variable() is not None
        return cls(os.getuid(), os.getgid(), tuple(os.getgroups()), Path.cwd(), air_gapped)


@dataclass(frozen=True)
class Variant:
    """What may differ between two attempts at one call."""

    argv: tuple[str, ...]
    identity: Identity
    shm_size: str
    ipc_host: bool

    @classmethod
    def first(cls, request: ActionRequest, settings: ContainerSettings, image: Image) -> Variant:
        """What the first attempt uses."""
        habits = image.habits
        passwd = habits.needs_passwd and settings.identity == "env"
        return cls(
            argv=tuple(request.argv),
            identity="passwd" if passwd else settings.identity,
            shm_size=max(settings.shm_size, habits.shm_size, key=parse_bytes),
            # The host's /dev/shm may be 64 MiB, and then a training dies in the middle of an epoch.
            ipc_host=(settings.ipc_host or habits.ipc_host) and request.category != "visual_changenet",
        )


def name_of(request: ActionRequest, image: Image) -> str:
    """The container's name: of the work, so that a later process finds it; random where work has no key."""
    if not request.key:
        return random_name()
    work = json.dumps([request.key, request.category, request.argv, image.id])
    return f"deft-{hashlib.sha256(work.encode()).hexdigest()[:20]}"


def random_name() -> str:
    """A name for a container that nobody will look for."""
    return f"deft-{random.token_hex(10)}"


def user_of(settings: ContainerSettings, launcher: Launcher) -> str:
    """`uid:gid` that owns the results.

    Raises:
        ValueError: it would be root, and nobody has allowed that.
    """
    user = settings.user or f"{launcher.uid}:{launcher.gid}"
    if user.startswith("0:") and not settings.allow_root:
        raise ValueError(
            "containers would run as root: give the docker-runtime block a user (uid:gid), or set allow_root"
        )
    return user


def check(request: ActionRequest, settings: ContainerSettings, image: Image, launcher: Launcher) -> None:
    """Refuse a call that is unsafe or cannot work.

    Raises:
        ValueError: a path lies in no mount, results lie in one that is read only, a word carries a
            secret or breaks the air gap, a blank would split a word, or the user would be root.
    """
    secrets.check_image(image.uri)
    secrets.refuse([request.category, *request.argv])
    user_of(settings, launcher)
    if launcher.offline:
        airgap.check_command([request.category, *request.argv], settings.environment)
    paths = _paths(request)
    for name, path in paths.items():
        _check_covered(name, path, settings.mounts)
    for folder in [*request.results, request.log_file.parent]:
        if _mount_of(folder, settings.mounts).endswith(":ro"):
            raise ValueError(f"results go to {folder}, and its mount is read only; take :ro from the mount")
    if image.habits.splits_words:
        words = {**{f"word {n}": word for n, word in enumerate(request.argv)}, **paths}
        for name, word in words.items():
            if any(letter.isspace() for letter in str(word)):
                raise ValueError(f"{name}: {str(word)!r} has a blank, at which {image.key} splits; rename it")


def _paths(request: ActionRequest) -> dict[str, Path]:
    """Everything that the container must see, by what it is to a person."""
    paths = {**request.paths, "log folder": request.log_file.parent}
    spec = spec_file(request.argv)
    if spec:
        paths["spec file"] = spec
    return paths | {f"results folder {folder.name}": folder for folder in request.results}


def spec_file(argv: Sequence[str]) -> Path | None:
    """The file after `-e`, if there is one."""
    words = list(argv)
    return Path(words[words.index("-e") + 1]) if "-e" in words[:-1] else None


def _check_covered(name: str, path: Path, mounts: Sequence[str]) -> None:
    shown = ", ".join(mounts)
    if not _mount_of(path, mounts):
        raise ValueError(
            f"{name}: {path} lies in no mount of the runtime ({shown}); add its folder to mounts"
        )
    for link in (path, *_links_in(path)):
        real = link.resolve()
        if not any(real.is_relative_to(Path(mount.removesuffix(":ro")).resolve()) for mount in mounts):
            raise ValueError(
                f"{name}: {link} leads to {real}, which lies in no mount ({shown}); add its folder"
            )


def _links_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [Path(entry) for entry in entries if entry.is_symlink()]


def _mount_of(path: Path, mounts: Sequence[str]) -> str:
    """The innermost mount that holds a path; empty when none does."""
    plain = Path(os.path.normpath(path.absolute()))
    holding = [mount for mount in mounts if plain.is_relative_to(mount.removesuffix(":ro"))]
    return max(holding, key=lambda mount: len(mount.removesuffix(":ro")), default="")


def binds(settings: ContainerSettings) -> list[Bind]:
    """The mounts; a folder that is a link is seen by both of its names."""
    made = {}
    for mount in settings.mounts:
        folder = Path(mount.removesuffix(":ro"))
        for path in (folder, folder.resolve()):
            made[path] = Bind(str(path), outside(path, settings), "bind", read_only=mount.endswith(":ro"))
    return list(made.values())


def outside(path: Path, settings: ContainerSettings) -> str:
    """What the Docker host calls a path of ours."""
    known = [Path(inside) for inside in settings.host_paths if path.is_relative_to(inside)]
    if not known:
        return str(path)
    inside = max(known, key=lambda one: len(one.parts))
    return str(Path(settings.host_paths[str(inside)]) / path.relative_to(inside))


def environment_of(
    settings: ContainerSettings, image: Image, launcher: Launcher, credentials: Mapping[str, str]
) -> dict[str, str]:
    """The variables of a container; behind an air gap there are no credentials in it."""
    cache = f"{SCRATCH}/.cache"
    return {
        "USER": "deft",
        "LOGNAME": "deft",
        "HOME": SCRATCH,
        "XDG_CACHE_HOME": cache,
        "HF_HOME": f"{cache}/huggingface",
        "TORCH_HOME": f"{cache}/torch",
        "TRITON_CACHE_DIR": f"{cache}/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
        "MPLCONFIGDIR": f"{cache}/matplotlib",
        "TELEMETRY_OPT_OUT": "yes",
        "TELEMETRY_TIMEOUT": "5",
        **image.habits.environment,
        **({} if launcher.offline else credentials),
        **settings.environment,
        **(airgap.offline_environment() if launcher.offline else {}),
    }


def container_of(
    request: ActionRequest,
    settings: ContainerSettings,
    image: Image,
    launcher: Launcher,
    variant: Variant,
    credentials: Mapping[str, str],
) -> dict[str, Any]:
    """The arguments for `containers.create` of the Docker SDK, but for name and labels."""
    user = "0:0" if variant.identity == "root_chown" else user_of(settings, launcher)
    root = user.startswith("0:")
    mounts = binds(settings)
    if variant.identity == "passwd":
        mounts += [Bind(file, file, "bind", read_only=True) for file in ("/etc/passwd", "/etc/group")]
    return {
        "image": image.id,
        "command": [request.category, *variant.argv],
        "mounts": mounts,
        "environment": environment_of(settings, image, launcher, credentials),
        "working_dir": _working_dir(request, settings, image, launcher),
        "user": user,
        # Root is held to the folders of others like anybody, once its capabilities are gone.
        "cap_add": ["DAC_OVERRIDE"] if root else [],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "group_add": [] if root or settings.user else [str(gid) for gid in launcher.groups if gid],
        "init": True,
        "read_only": image.is_native,
        "tmpfs": TMPFS if image.is_native else {},
        "network_mode": "none" if launcher.offline else settings.network,
        "ipc_mode": "host" if variant.ipc_host else "private",
        "shm_size": None if variant.ipc_host else variant.shm_size,
        "mem_limit": settings.memory,
        "nano_cpus": int(settings.cpus * 1e9) if settings.cpus else None,
        "device_requests": _gpus(request, settings, image),
        "log_config": LogConfig(type="json-file", config={}),  # a later process reads the log from its start
    }


def _working_dir(
    request: ActionRequest, settings: ContainerSettings, image: Image, launcher: Launcher
) -> str | None:
    """Our own folder, so that relative paths of a spec mean the same, if the container can see it."""
    if image.habits.own_folder:
        return None
    if _mount_of(launcher.folder, settings.mounts):
        return str(launcher.folder)
    return str(request.results[0] if request.results else request.log_file.parent)


def _gpus(request: ActionRequest, settings: ContainerSettings, image: Image) -> list[DeviceRequest]:
    # NVIDIA's launcher asks nvidia-smi also before actions that need no GPU.
    if not settings.gpus or not (request.gpu or not image.is_native):
        return []
    if settings.gpus == "all":
        return [DeviceRequest(count=-1, capabilities=[["gpu"]])]
    return [DeviceRequest(device_ids=settings.gpus.split(","), capabilities=[["gpu"]])]
