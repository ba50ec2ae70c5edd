"""What `deft doctor` finds on a host: read-only checks that report and never stop (spec container-run 7).

Every check answers, on a host with nothing as on one with everything: what cannot be found out is unknown.
Only a probe, when asked for, starts a container. Nothing is installed: a remedy is for the person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from blocks.versions import ANOMALYGEN
from tasks.artifacts import write_json
from tasks.errors import DeftError
from tasks.preflight import doctor_docker, doctor_machine, doctor_server
from tasks.preflight.doctor_host import IMAGES, Engine, Found, Host, Status

Level = Literal["info", "warn", "error"]
Check = Callable[[Host], Found]

PROBES: dict[str, Check] = {
    "gpu.container": doctor_docker.gpu_in_container,
    "gpu.arch": doctor_docker.gpu_arithmetic,
}
"""Checks that start a container."""

CHECKS: dict[str, tuple[Check, Level, Level]] = {
    "system": (doctor_machine.system, "info", "info"),
    "packages": (doctor_machine.packages, "error", "warn"),
    "results.writable": (doctor_machine.writable, "error", "error"),
    "results.owner": (doctor_machine.owner, "warn", "warn"),
    "results.disk": (doctor_machine.disk, "info", "warn"),
    "memory": (doctor_machine.memory, "info", "warn"),
    "shm": (doctor_machine.shared_memory, "info", "warn"),
    "network.mode": (doctor_machine.network_mode, "info", "info"),
    "credentials": (doctor_machine.credentials, "info", "warn"),
    "gpu.host": (doctor_machine.gpu, "info", "error"),
    "gpu.driver": (doctor_machine.driver, "info", "error"),
    "cuda.toolkit": (doctor_machine.cuda_toolkit, "info", "warn"),
    "nvidia.toolkit": (doctor_machine.container_toolkit, "info", "error"),
    "docker.cli": (doctor_docker.cli, "info", "warn"),
    "docker.socket": (doctor_docker.socket, "info", "error"),
    "docker.daemon": (doctor_docker.daemon, "info", "error"),
    "docker.disk": (doctor_docker.disk, "info", "warn"),
    "docker.nvidia_runtime": (doctor_docker.nvidia_runtime, "info", "error"),
    "images.architecture": (doctor_docker.architecture, "info", "error"),
    **{name: (check, "info", "error") for name, check in PROBES.items()},
    "prefect.server": (doctor_server.server, "warn", "warn"),
    "prefect.schedules": (doctor_server.schedules, "warn", "warn"),
}
"""Every check by its id, with how grave it is for the native engine and for NVIDIA's images."""


class HostFinding(BaseModel):
    """A row of the report.

    Attributes:
        id: of the check.
        level: how grave it would be for the chosen engine if it did not hold.
        status: whether it holds.
        detail: what was found.
        remedy: what a person can do; empty where nothing has to be done.
    """

    id: str
    level: Level
    status: Status
    detail: str
    remedy: str = ""

    @property
    def stops(self) -> bool:
        """Whether the engine cannot run because of it."""
        return self.level == "error" and self.status in ("error", "unknown")


class Report(BaseModel):
    """All that was found for an engine."""

    engine: Engine
    checks: list[HostFinding]

    @property
    def stopped_by(self) -> list[str]:
        """The checks because of which the engine cannot run here."""
        return [one.id for one in self.checks if one.stops]


def examine(host: Host) -> Report:
    """Execute every check; each one reports, whatever goes wrong in it."""
    return Report(engine=host.engine, checks=list(_findings(host)))


def _findings(host: Host) -> Iterator[HostFinding]:
    for name, (check, native, nvidia) in CHECKS.items():
        level = native if host.engine == "native" else nvidia
        if name in PROBES and not host.probe:
            level = "info"
        yield _finding(host, name, check, level)
    for key in IMAGES[host.engine]:
        level = "info" if host.engine == "native" else "warn" if key == ANOMALYGEN else "error"
        yield _finding(host, f"image.{key.removeprefix('images.')}", doctor_docker.image_present(key), level)


def _finding(host: Host, name: str, check: Check, level: Level) -> HostFinding:
    try:
        found = check(host)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong, the other checks have to report
        said = " ".join(str(error).split())
        plain = isinstance(error, DeftError | TimeoutError | ValueError) and said
        found = Found("unknown", said if plain else f"{type(error).__name__}: {said}")
    return HostFinding(id=name, level=level, **found._asdict())


def for_native(report: Report) -> Report:
    """What was found, as it counts for the native engine."""
    checks = [
        one.model_copy(update={"level": CHECKS[one.id][1]}) for one in report.checks if one.id in CHECKS
    ]
    return Report(engine="native", checks=checks)


def verdict(report: Report) -> str:
    """Whether the engine can run here, in a line."""
    if report.engine == "native":
        engine, place = "the native engine", "in this process (InlineRuntime), without Docker or GPU"
    else:
        engine, place = "NVIDIA's images", "in containers with GPUs (DockerRuntime)"
    if report.stopped_by:
        return f"{engine}: cannot run here, because of {', '.join(report.stopped_by)}"
    return f"{engine}: can run here, {place}"


def write_report(file: Path, report: Report) -> Path:
    """Write `host_preflight.json`."""
    value = {
        "engine": report.engine,
        "can_run": not report.stopped_by,
        "verdict": verdict(report),
        "checks": [one.model_dump() for one in report.checks],
    }
    return write_json(file, value)
