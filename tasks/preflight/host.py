"""Section 1: workspace, host, platform, network."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from packaging.requirements import Requirement

from tasks.preflight.hardware import GIB, memory_bytes
from tasks.preflight.look import Look
from tasks.preflight.registry import Answer, answer, check
from tasks.preflight.subject import NETWORK

OUR_PACKAGE = "deft-flows"
LEAST_DRIVER = 580
LEAST_DOCKER = (20, 10)
LEAST_DISK_GB = 100.0
"""What the images of the phases and the generator's models may take (spec container-run 7)."""


@check("host.workspace", 1)
def workspace(look: Look) -> Answer:
    """The folder of the task's data."""
    root = look.subject.workspace
    rows = [("workspace", root), ("network_arch", NETWORK[look.subject.profile])]
    if not root.is_dir():
        return answer("block", f"workspace {root}: no such folder", rows)
    return answer("ok", "the workspace is there", rows)


@check("host.platform", 1)
def runtime(look: Look) -> Answer:
    """Where actions run; it has no default, the caller names it."""
    place = "in container images" if look.subject.starts_images else "native engine, in this process"
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    rows = [("platform (runtime)", f"{look.subject.runtime_name}: {place}"), ("system", system)]
    return answer("ok", "the platform is named", rows)


@check("host.machine", 1)
def machine(look: Look) -> Answer:
    """CPU cores and memory in total."""
    rows = [("CPU cores", os.cpu_count() or 1), ("memory", f"{memory_bytes() / GIB:.1f} GiB in total")]
    return answer("ok", "cores and memory are counted", rows)


@check("host.gpu", 1)
def gpu(look: Look) -> Answer:
    """GPU model and memory; NVIDIA's images need one, our engine does not."""
    if _is_remote(look):
        return answer("warn", "the Docker host is another machine; its GPU is looked at after the pull")
    found = look.gpus
    rows = [
        (f"GPU {n}", f"{one.model}, {one.memory_mib} MiB, driver {one.driver}") for n, one in enumerate(found)
    ]
    needs_one = look.in_nvidia_image
    if not found:
        text = "no GPU: nvidia-smi is not there or names none"
        return answer("block" if needs_one else "ok", text, [("GPU", "none: stages run on the CPU")])
    old = [one.driver for one in found if int(one.driver.split(".")[0]) < LEAST_DRIVER]
    if needs_one and old:
        return answer("block", f"driver {old[0]} is older than {LEAST_DRIVER}; update it", rows)
    return answer("ok", f"{len(found)} GPUs", rows)


def _is_remote(look: Look) -> bool:
    host = look.subject.environment.get("DOCKER_HOST", "")
    return look.subject.starts_images and bool(host) and not host.startswith("unix://")


@check("host.packages", 1)
def packages(look: Look) -> Answer:
    """The packages that the native engine needs, by this package's own metadata."""
    if look.subject.starts_images:
        return answer("not_applicable", "the engine's packages are in its image")
    problems = list(package_problems())
    rows = [("Python packages of the engine", "all there" if not problems else "; ".join(problems))]
    if not problems:
        return answer("ok", "all packages of the engine are installed", rows)
    # Nothing installs packages for the person: the run would fail.
    text = f"install them first: pip install '{OUR_PACKAGE}[engine]' ({'; '.join(problems)})"
    return answer("block", text, rows)


def package_problems() -> Iterator[str]:
    """Packages of the native engine that are missing or of another version than needed."""
    try:
        required = distribution(OUR_PACKAGE).requires or []
    except PackageNotFoundError:
        yield f"{OUR_PACKAGE} itself is not installed"
        return
    for line in required:
        need = Requirement(line)
        if need.marker and not need.marker.evaluate({"extra": "engine"}):
            continue
        try:
            found = version(need.name)
        except PackageNotFoundError:
            yield f"{need.name} is missing"
            continue
        if not need.specifier.contains(found, prereleases=True):
            yield f"{need.name} is {found}, needed is {need.specifier}"


@check("host.docker", 1)
def docker(look: Look) -> Answer:
    """The Docker daemon, where the runtime starts images."""
    if not look.subject.starts_images:
        return answer("not_applicable", "the runtime starts no image")
    found = look.docker
    if found.error:
        return answer("block", f"no Docker daemon answers: {found.error}; start it or set DOCKER_HOST")
    rows = [
        ("Docker", f"{found.version} ({found.architecture}), runtimes {', '.join(found.runtimes) or 'none'}")
    ]
    if tuple(int(part) for part in found.version.split(".")[:2] if part.isdigit()) < LEAST_DOCKER:
        return answer("block", f"Docker {found.version} is older than 20.10; update it", rows)
    if "nvidia" not in found.runtimes and look.in_nvidia_image:
        return answer("warn", "Docker lists no nvidia runtime; install the NVIDIA Container Toolkit", rows)
    return answer("ok", "the Docker daemon answers", rows)


@check("host.disk", 1)
def disk(look: Look) -> Answer:
    """Whether images and results have room; the free space itself changes and is not shown."""
    if not look.subject.starts_images:
        return answer("not_applicable", "the runtime starts no image")
    least = float(look.subject.environment.get("MIN_DISK_GB") or LEAST_DISK_GB)
    place = next(path for path in (look.subject.workspace, *look.subject.workspace.parents) if path.is_dir())
    enough = shutil.disk_usage(place).free >= least * 1e9
    rows = [("disk of the workspace", f"{'at least' if enough else 'less than'} {least:g} GB free")]
    text = (
        "there is room" if enough else f"less than {least:g} GB free at {place} (MIN_DISK_GB sets the limit)"
    )
    return answer("ok" if enough else "warn", text, rows)


@check("host.network", 1)
def network(look: Look) -> Answer:
    """The network mode and who said so."""
    found = look.network
    rows = [("network mode", f"{'airgap' if found.offline else 'network-enabled'}, by {found.source}")]
    return answer("ok", "decided without probing", rows)


def writable(path: Path) -> bool:
    """Whether the nearest folder of `path` that exists can be written by this user; nothing is tried."""
    nearest = next(folder for folder in (path, *path.parents) if folder.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
