"""Checks of Docker: the program, its daemon, who may use it, images; and a container, when asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.errors import DeftError
from tasks.preflight.containers import AMD64_ONLY
from tasks.preflight.doctor_host import IMAGES, Found, Host, dotted, program_version, version_in
from tasks.preflight.doctor_machine import TOOLKIT_SETUP, room
from tasks.preflight.host import LEAST_DOCKER

SETUP = "install Docker Engine >= 20.10 and start it: sudo systemctl enable --now docker"
SOCKET = "unix:///var/run/docker.sock"
CONTAINER_TIMEOUT = 180
"""Seconds that a probe has; the first import in a large image takes its time."""
SAID = 300
PROBE = "probe"
"""Value of the label `deft.doctor` of such a container."""
ARITHMETIC = (
    "import torch; x = torch.ones(8, device='cuda'); "
    "print(torch.cuda.get_device_name(0), torch.version.cuda, float((x @ x).item()))"
)


def cli(host: Host) -> Found:
    """The program `docker`, for people: our code speaks to the daemon itself."""
    return program_version(host, "docker", ("--version",), LEAST_DOCKER, SETUP)


def daemon(host: Host) -> Found:
    """The Docker daemon that the environment names."""
    found = host.look.docker
    if found.error:
        return Found("error", f"no Docker daemon answers: {found.error}", SETUP)
    version = version_in(found.version)
    if version is None:
        return Found("unknown", f"the daemon calls its version {found.version!r}", SETUP)
    if version < LEAST_DOCKER:
        return Found("error", f"Docker {found.version} is older than {dotted(LEAST_DOCKER)}", SETUP)
    return Found("ok", f"Docker {found.version} ({found.architecture})")


def socket(host: Host) -> Found:
    """Who may use the daemon's socket, which is as good as being root."""
    address = host.environment.get("DOCKER_HOST") or SOCKET
    if not address.startswith("unix://"):
        return Found("ok", f"the daemon is reached at {address.split('@')[-1]}, without a socket here")
    file = Path(address.removeprefix("unix://"))
    if not file.exists():
        return Found("error", f"no socket {file}", SETUP)
    status = file.stat()
    text = f"{file}: user {status.st_uid}, group {status.st_gid}, mode {status.st_mode & 0o777:o}"
    if not os.access(file, os.R_OK | os.W_OK):
        return Found(
            "error", f"{text}; this user may not use it", "sudo usermod -aG docker $USER; log in again"
        )
    if status.st_mode & 0o002:
        return Found("warn", f"{text}; everybody here can become root by it", f"sudo chmod o-rw {file}")
    return Found("ok", text)


def nvidia_runtime(host: Host) -> Found:
    """Whether the daemon can hand GPUs to containers."""
    found = host.look.docker
    if found.error:
        return Found("error", "no Docker daemon answers", SETUP)
    if "nvidia" not in found.runtimes:
        return Found("error", f"runtimes of Docker: {', '.join(found.runtimes) or 'none'}", TOOLKIT_SETUP)
    return Found("ok", f"runtimes of Docker: {', '.join(found.runtimes)}")


def disk(host: Host) -> Found:
    """Free room where Docker keeps its images, if that is on this host."""
    root = Path(host.look.docker.root or "/var/lib/docker")
    if not root.is_dir():
        return Found("unknown", f"Docker's folder {root} cannot be seen from here")
    return room(host, root, "images")


def image_present(key: str) -> Callable[[Host], Found]:
    """The check whether the image behind a key is on the Docker host."""

    def check(host: Host) -> Found:
        one = host.image(key)
        if host.look.docker.error:
            return Found("unknown", f"{one.uri}: no Docker daemon answers", SETUP)
        if one.image_id:
            return Found("ok", f"PRESENT {one.uri}, {one.size / 1e9:.2f} GB, {one.image_id[:19]}")
        if not one.registry:
            return Found("error", f"MISSING {one.uri}, which is built here", "deft image")
        if host.look.network.offline:
            return Found(
                "error", f"MISSING {one.uri}, and offline", "docker load -i FILE, from a host with it"
            )
        return Found("warn", f"MISSING {one.uri}; it is pulled when first needed", f"docker pull {one.uri}")

    return check


def architecture(host: Host) -> Found:
    """The CPU that the images are made for."""
    wanted, images = host.look.architecture, host.look.images
    known = {image.key: image.architecture for image in images if image.architecture}
    known |= {image.key: "amd64" for image in images if image.key in AMD64_ONLY}
    other = [f"{key} ({made})" for key, made in known.items() if made != wanted]
    if other:
        return Found(
            "error",
            f"made for another CPU than {wanted}: {', '.join(other)}",
            "use images of that CPU, or the native engine",
        )
    return Found("ok", f"nothing that is known differs from {wanted}")


def gpu_in_container(host: Host) -> Found:
    """Whether a container of the image sees a GPU."""
    return _probed(host, ["nvidia-smi", "-L"])


def gpu_arithmetic(host: Host) -> Found:
    """Whether the image can compute on this GPU: it has kernels for its architecture."""
    return _probed(host, ["python3", "-c", ARITHMETIC])


def _probed(host: Host, command: list[str]) -> Found:
    if not host.probe:
        return Found("unknown", "not tried, as it starts a container", "deft doctor --probe")
    image, client = host.image(IMAGES[host.engine][0]), host.look.docker_client
    if client is None or not image.image_id:
        return Found("unknown", f"cannot be tried without {'a daemon' if client is None else image.uri}")
    status, said = _container(client, image.uri, command)
    return judged(status, " ".join(said.split())[-SAID:])


def said_in_container(host: Host, command: list[str]) -> str:
    """What a command prints in a container with GPUs, for a process that is in one without them itself.

    Raises:
        DeftError: it ends with an error, or the image is not on the Docker host.
    """
    image, client = host.image(IMAGES[host.engine][0]), host.look.docker_client
    if client is None or not image.image_id:
        raise DeftError(f"no {command[0]} here, and no image {image.uri} to ask one in: deft image")
    status, said = _container(client, image.uri, command)
    if status:
        raise DeftError(f"{command[0]} in a container: {' '.join(said.split())[-SAID:]}")
    return said


def judged(status: int, said: str) -> Found:
    """What the end of a probe says about GPU and image."""
    if status == 0:
        return Found("ok", said)
    if "no kernel image is available" in said:
        return Found("error", said, "another image, or the native engine, or run this stage without the GPU")
    return Found("error", said or f"exit status {status}", TOOLKIT_SETUP)


def _container(client: Any, uri: str, command: list[str]) -> tuple[int, str]:
    """The exit status of a short container with GPUs and without network, and what it said."""
    from docker.errors import APIError  # type: ignore[import-untyped]
    from docker.types import DeviceRequest  # type: ignore[import-untyped]

    client.api.timeout = CONTAINER_TIMEOUT
    container = client.containers.create(
        uri,
        entrypoint=command[:1],
        command=command[1:],
        device_requests=[DeviceRequest(count=-1, capabilities=[["gpu"]])],
        network_mode="none",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        labels={"deft.doctor": PROBE},
    )
    try:
        container.start()
        status = int(container.wait(timeout=CONTAINER_TIMEOUT)["StatusCode"])
        said = container.logs().decode(errors="replace")
    except APIError as error:
        return 1, str(error.explanation or error)
    finally:
        container.remove(force=True)
    return status, said
