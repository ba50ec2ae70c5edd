"""Checks of the machine itself: packages, folders, room, GPU and its programs, environment."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from pathlib import Path

from blocks.network import offline_variable
from tasks.preflight.doctor_host import Found, Host, program_version
from tasks.preflight.hardware import GIB, memory_bytes
from tasks.preflight.host import LEAST_DISK_GB, LEAST_DRIVER, OUR_PACKAGE, package_problems

LEAST_CUDA = (13, 0)
LEAST_TOOLKIT = (1, 19)
SUGGESTED_MEMORY_GB = 32
LEAST_SHM = 8 * GIB
SHM = Path("/dev/shm")  # noqa: S108 - the place itself is looked at
CREDENTIALS = ("NGC_KEY", "HF_TOKEN", "AWS_ACCESS_KEY_ID", "WANDB_API_KEY")

TOOLKIT_SETUP = (
    "install the NVIDIA Container Toolkit >= 1.19, then: sudo nvidia-ctk runtime configure --runtime=docker "
    "&& sudo systemctl restart docker"
)


def system(host: Host) -> Found:
    """The operating system, CPU and Python."""
    cores = os.cpu_count() or 1
    return Found(
        "ok",
        f"{platform.system()} {platform.machine()}, {cores} cores, Python {platform.python_version()}",
    )


def packages(host: Host) -> Found:
    """The Python packages of the native engine."""
    problems = list(package_problems())
    if problems:
        return Found("error", "; ".join(problems), f"pip install '{OUR_PACKAGE}[engine]'")
    return Found("ok", "all packages of the engine are installed")


def writable(host: Host) -> Found:
    """Whether this user can make and remove a file where runs write."""
    folder = host.results
    if not folder.is_dir():
        return Found("error", f"no folder {folder}", "name the folder of the task's data with --workspace")
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".deft-doctor-") as file:
            file.write(b"written by deft doctor")
    except OSError as error:
        return Found(
            "error",
            f"{folder}: {error.strerror}",
            f"sudo chown {os.getuid()}:{os.getgid()} {folder}",
        )
    return Found("ok", f"a file was made in {folder} and removed")


def owner(host: Host) -> Found:
    """Whether what lies in the results root belongs to this user; containers leave files of root."""
    folder, me = host.workspace.absolute() / "results", os.getuid()
    if not folder.is_dir():
        return Found("ok", f"no {folder} yet")
    foreign = [path.name for path in (folder, *folder.iterdir()) if path.lstat().st_uid != me]
    if not foreign:
        return Found("ok", f"all of {folder} belongs to user {me}")
    return Found(
        "warn",
        f"{len(foreign)} entries of {folder} belong to another user than {me}, such as {foreign[0]}",
        f"sudo chown -R {me}:{os.getgid()} {folder}",
    )


def disk(host: Host) -> Found:
    """Free room on the disk of the results."""
    return room(host, host.results, "results")


def room(host: Host, place: Path, what: str) -> Found:
    """Whether a place has as much room as `MIN_DISK_GB` asks for."""
    least = float(host.environment.get("MIN_DISK_GB") or LEAST_DISK_GB)
    free = shutil.disk_usage(place).free / 1e9
    text = f"{free:.0f} GB free for {what} at {place}"
    if free < least:
        return Found(
            "warn", f"{text}, fewer than {least:g}", "make room, or set MIN_DISK_GB to what you need"
        )
    return Found("ok", text)


def shared_memory(host: Host) -> Found:
    """The size of /dev/shm, which containers with the host's IPC share."""
    size = shutil.disk_usage(SHM).total
    if size < LEAST_SHM:
        return Found(
            "warn", f"{SHM} has {size / GIB:.1f} GiB, fewer than 8", f"sudo mount -o remount,size=8G {SHM}"
        )
    return Found("ok", f"{SHM} has {size / GIB:.1f} GiB")


def memory(host: Host) -> Found:
    """Physical memory."""
    total = memory_bytes() / 1e9
    if total < SUGGESTED_MEMORY_GB:
        return Found(
            "warn",
            f"{total:.0f} GB memory, {SUGGESTED_MEMORY_GB} are suggested",
            "lower batch_size and workers in the base spec if a training runs out of memory",
        )
    return Found("ok", f"{total:.0f} GB memory")


def network_mode(host: Host) -> Found:
    """Whether the network may be used; nothing is probed."""
    said = offline_variable(host.environment)
    return Found("ok", f"airgap, by {said}" if said else "network-enabled, by default")


def credentials(host: Host) -> Found:
    """Which credentials are set; their values are never read."""
    if host.look.network.offline:
        return Found("ok", "not needed offline")
    found = ", ".join(f"{name} {'set' if host.environment.get(name) else 'unset'}" for name in CREDENTIALS)
    needs_key = any(image.registry and not image.image_id for image in host.look.images)
    if needs_key and not host.environment.get("NGC_KEY"):
        return Found("warn", f"{found}; images have to be pulled", "export NGC_KEY=... of your NGC account")
    return Found("ok", found)


def gpu(host: Host) -> Found:
    """The GPUs that nvidia-smi names."""
    found = host.gpus
    if not found:
        return Found("error", "no GPU: nvidia-smi is not there or names none", "install the NVIDIA driver")
    return Found("ok", "; ".join(f"{one.model}, {one.memory_mib} MiB" for one in found))


def driver(host: Host) -> Found:
    """The version of the GPU driver."""
    found = host.gpus
    remedy = f"install driver {LEAST_DRIVER} or newer and restart"
    if not found:
        return Found("error", "no driver: nvidia-smi is not there or names no GPU", remedy)
    version = found[0].driver
    if int(version.split(".")[0]) < LEAST_DRIVER:
        return Found("error", f"driver {version} is older than {LEAST_DRIVER}", remedy)
    return Found("ok", f"driver {version}")


def cuda_toolkit(host: Host) -> Found:
    """The CUDA toolkit of the host; containers bring their own."""
    remedy = "only for work without containers: install CUDA 13.0 or newer"
    found = program_version(host, "nvcc", ("--version",), LEAST_CUDA, remedy, after="release")
    return found._replace(status="warn") if found.status == "error" else found


def container_toolkit(host: Host) -> Found:
    """The NVIDIA Container Toolkit."""
    return program_version(host, "nvidia-ctk", ("--version",), LEAST_TOOLKIT, TOOLKIT_SETUP)
