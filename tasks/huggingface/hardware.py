"""Step 2a and 2d: what this host has, whether it is enough, and whether the model fits."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from tasks.errors import DeftError
from tasks.preflight import doctor_docker, doctor_machine
from tasks.preflight.doctor_host import Found, Host, dotted, program_version, version_in
from tasks.preflight.host import LEAST_DISK_GB, LEAST_DRIVER

Place = Literal["docker", "process"]
"""Where the project's commands run: containers of its image, or processes of this host."""

QUERY = "--query-gpu=index,name,driver_version,memory.total,memory.free,compute_cap"
MIB_PER_GB = 1000**3 / 1024**2
LEFT_OUT = Found(
    "warn", "left out, as was asked: all is computed on the CPU", "with gpus: all they are taken"
)
FIT_SHARE = 0.6
"""Share of a GPU's memory that weights may take before LoRA is recommended (spec hf-finetune 7)."""
BYTES_PER_PARAMETER = 2
OPTIMIZER_SHARE = 3
"""Optimizer and gradients, in multiples of the weights, when all of them are trained."""


@dataclass(frozen=True)
class Minimum:
    """What the host has to have; see `minimum_of` for what the person can set."""

    driver: int = LEAST_DRIVER
    cuda: tuple[int, ...] = doctor_machine.LEAST_CUDA
    container_toolkit: tuple[int, ...] = (*doctor_machine.LEAST_TOOLKIT, 0)
    disk_gb: float = LEAST_DISK_GB


def minimum_of(driver: int, disk_gb: float) -> Minimum:
    """With the driver that a person states; one that is older than the house's knows CUDA 12 at best."""
    cuda = Minimum.cuda if driver >= LEAST_DRIVER else (12, 0)
    return Minimum(driver=driver, cuda=cuda, disk_gb=disk_gb)


@dataclass(frozen=True)
class GpuFacts:
    """A GPU as `nvidia-smi` describes it; memory in MiB."""

    index: int
    name: str
    driver: str
    memory_mib: int
    free_mib: int
    compute_capability: str


@dataclass(frozen=True)
class Audit:
    """What was found; `missing` stops step 2 until a person has mended it, `warnings` do not."""

    gpus: tuple[GpuFacts, ...]
    cuda_version: str | None
    checks: dict[str, str]
    missing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def driver_major(self) -> int | None:
        """Branch of the driver; none without a GPU."""
        return int(self.gpus[0].driver.split(".")[0]) if self.gpus else None

    @property
    def record(self) -> dict[str, object]:
        """The facts for `config.yaml` and `meta/hardware.json`; memory in GB of the smallest GPU.

        Without a GPU the counts and sizes are 0 and the name is `CPU`.
        """
        smallest = min((gpu.memory_mib for gpu in self.gpus), default=0)
        count = len(self.gpus)
        return {
            "gpu_count": count,
            "gpu_name": self.gpus[0].name if self.gpus else "CPU",
            "driver_version": self.gpus[0].driver if self.gpus else None,
            "driver_major": self.driver_major or 0,
            "cuda_version": self.cuda_version,
            "vram_gb_per_gpu": round(smallest / MIB_PER_GB, 1),
            "total_vram_gb": round(sum(gpu.memory_mib for gpu in self.gpus) / MIB_PER_GB, 1),
            "multi_gpu": count > 1,
            "gpus": [asdict(gpu) for gpu in self.gpus],
            "checks": self.checks,
            "warnings": list(self.warnings),
        }


def gpus_in(text: str) -> tuple[GpuFacts, ...]:
    """The GPUs in the answer to `QUERY`, as CSV without header and units.

    Raises:
        DeftError: a line is not of that form, such as a message of the driver.
    """
    found = []
    for line in filter(str.strip, text.splitlines()):
        try:
            index, name, driver, total, free, capability = (part.strip() for part in line.split(","))
            found.append(GpuFacts(int(index), name, driver, int(total), _number(free), capability))
            int(driver.split(".")[0])
        except ValueError as error:
            raise DeftError(
                f"nvidia-smi does not say which GPUs there are but: {line.strip()[:200]}; mend the driver"
            ) from error
    return tuple(found)


def _number(text: str) -> int:
    """Free memory, which some drivers do not say (`[N/A]`)."""
    return int(text) if text.isdigit() else 0


def cuda_of_driver(text: str) -> str | None:
    """The CUDA version in the head of `nvidia-smi`: the newest that the driver takes."""
    found = re.search(r"CUDA(?: UMD)? Version\s*:\s*(\d+\.\d+)", text)
    return found[1] if found else None


def audit(
    folder: Path,
    place: Place,
    minimum: Minimum | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    probe: bool = False,
    gpus: bool = True,
) -> Audit:
    """Look at this host: driver, CUDA, container toolkit, daemon, GPU in a container, disk.

    For containers each of the first five is needed, without GPUs the daemon alone. A process on this host
    needs none of them, because a project also trains, slowly, on a CPU; what is missing is then a warning.

    Args:
        folder: of the project, whose disk is looked at.
        place: where the project's commands run.
        minimum: of the versions; the defaults of the house, if not given.
        environment: `PATH`, `DOCKER_HOST`, `MIN_DISK_GB`; this process's, if not given.
        probe: start a container to see whether it gets the GPU.
        gpus: whether the project's commands are to have the GPUs of this host.
    """
    least = minimum or Minimum()
    variables = dict(os.environ if environment is None else environment)
    nearest = next(one for one in (folder, *folder.absolute().parents) if one.is_dir())
    host = Host(workspace=nearest, environment=variables, probe=probe)
    checks = {"docker": doctor_docker.daemon(host)} if place == "docker" else {}
    found, cuda, seen = _gpu_checks(host, place, least) if gpus else ((), None, {"gpus": LEFT_OUT})
    checks |= seen
    host_disk = Host(workspace=nearest, environment={"MIN_DISK_GB": str(least.disk_gb)} | variables)
    checks["disk"] = doctor_machine.room(host_disk, nearest, "the project")
    hard = [f"{name}: {one.detail}; {one.remedy}" for name, one in checks.items() if one.status == "error"]
    soft = [
        f"{name}: {one.detail}; {one.remedy}"
        for name, one in checks.items()
        if one.status in ("warn", "unknown")
    ]
    needed = place == "docker"
    return Audit(
        gpus=found,
        cuda_version=cuda,
        checks={name: f"{one.status}: {one.detail}" for name, one in checks.items()},
        missing=tuple(hard) if needed else (),
        warnings=tuple(soft if needed else [*hard, *soft]),
    )


def _gpu_checks(
    host: Host, place: Place, least: Minimum
) -> tuple[tuple[GpuFacts, ...], str | None, dict[str, Found]]:
    """The GPUs, the CUDA version, and everything that computing on them needs."""
    found, cuda, seen = _gpus(host, least)
    checks = {"driver": seen, "cuda": _cuda(cuda, least)}
    if place == "docker":
        checks["container_toolkit"] = _container_toolkit(host, least)
        checks["nvidia_runtime"] = doctor_docker.nvidia_runtime(host)
        if host.probe:
            checks["gpu_in_container"] = doctor_docker.gpu_in_container(host)
    return found, cuda, checks


def _gpus(host: Host, least: Minimum) -> tuple[tuple[GpuFacts, ...], str | None, Found]:
    """GPUs, CUDA version of toolkit or driver, and what to say of the driver."""
    remedy = f"install NVIDIA driver {least.driver} or newer and restart, or state a lower min_driver"
    ask = _smi(host)
    cuda = _toolkit(host)
    if ask is None:
        return (), cuda, Found("error", "no driver: there is no nvidia-smi", remedy)
    try:
        found = gpus_in(ask(QUERY, "--format=csv,noheader,nounits"))
        cuda = cuda or cuda_of_driver(ask())
    except (DeftError, OSError, ValueError) as error:
        return (), cuda, Found("error", str(error), remedy)
    if not found:
        return (), cuda, Found("error", "nvidia-smi names no GPU", remedy)
    version = found[0].driver
    if int(version.split(".")[0]) < least.driver:
        return found, cuda, Found("error", f"driver {version} is older than {least.driver}", remedy)
    return found, cuda, Found("ok", f"driver {version}, {len(found)} x {found[0].name}")


def _smi(host: Host) -> Callable[..., str] | None:
    """What asks nvidia-smi: here, or in a container where this process is in one without GPUs itself."""
    program = host.program("nvidia-smi")
    if program is not None:
        return lambda *words: host.said_by(program, *words)
    if host.probe and "nvidia" in host.look.docker.runtimes:
        return lambda *words: doctor_docker.said_in_container(host, ["nvidia-smi", *words])
    return None


def _container_toolkit(host: Host, least: Minimum) -> Found:
    """Its version; where only its runtime is seen, as from within a container, that stays open."""
    setup = doctor_machine.TOOLKIT_SETUP
    if host.program("nvidia-ctk") is None and "nvidia" in host.look.docker.runtimes:
        return Found("unknown", "no program nvidia-ctk here, but Docker has its runtime", setup)
    return _asked(host, "nvidia-ctk", least.container_toolkit, setup)


def _toolkit(host: Host) -> str | None:
    """The CUDA Toolkit's version as `nvcc` says it."""
    program = host.program("nvcc")
    if program is None:
        return None
    try:
        found = version_in(host.said_by(program, "--version"), after="release")
    except (OSError, ValueError):
        return None
    return dotted(found) if found else None


def _cuda(cuda: str | None, least: Minimum) -> Found:
    remedy = f"install CUDA {dotted(least.cuda)} or newer"
    found = version_in(cuda or "")
    if found is None:
        return Found("error", "no CUDA: neither nvcc nor nvidia-smi names a version", remedy)
    if found < least.cuda:
        return Found("error", f"CUDA {cuda} is older than {dotted(least.cuda)}", remedy)
    return Found("ok", f"CUDA {cuda}")


def _asked(host: Host, name: str, least: tuple[int, ...], remedy: str) -> Found:
    try:
        return program_version(host, name, ("--version",), least, remedy)
    except (OSError, ValueError) as error:
        return Found("error", str(error), remedy)


@dataclass(frozen=True)
class Fit:
    """Whether a model fits a GPU.

    Attributes:
        lora_recommended: the weights alone take more than their share; a person decides on it.
        weights_gb: of all parameters in bf16.
        training_gb: least memory for all weights with gradients and optimizer; for LoRA, for the weights.
        advice: lines for the person.
    """

    lora_recommended: bool
    weights_gb: float | None
    training_gb: float | None
    advice: tuple[str, ...] = field(default=())


def fit(parameters: int | None, vram_gb: float, gpu_count: int, *, use_lora: bool) -> Fit:
    """The rule of the house: LoRA is recommended where `2 * parameters > 0.6 * vram_gb * 1e9`.

    Args:
        parameters: of the model; none where they are not known.
        vram_gb: of one GPU, each of which holds everything; 0 without one.
        gpu_count: of this host.
        use_lora: whether LoRA is planned.
    """
    if parameters is None:
        return Fit(
            False, None, None, ("the number of parameters is unknown: whether the model fits is open",)
        )
    weights = BYTES_PER_PARAMETER * parameters
    training = weights if use_lora else weights * (1 + OPTIMIZER_SHARE)
    if not gpu_count:
        advice = (f"no GPU: {parameters / 1e6:.1f} million parameters are trained on the CPU",)
        return Fit(False, weights / 1e9, training / 1e9, advice)
    recommended = weights > FIT_SHARE * vram_gb * 1e9
    lines = [_class_advice(parameters)]
    if recommended and not use_lora:
        lines.append(
            f"weights of {weights / 1e9:.1f} GB exceed {FIT_SHARE:.0%} of {vram_gb:g} GB: LoRA is recommended"
        )
    if training > vram_gb * 1e9:
        lines.append(
            f"at least {training / 1e9:.0f} GB are needed on each GPU, {vram_gb:g} GB are there: "
            "take larger GPUs" + ("" if use_lora else ", or LoRA")
        )
    return Fit(recommended, weights / 1e9, training / 1e9, tuple(lines))


def _class_advice(parameters: int) -> str:
    billions = parameters / 1e9
    for most, gpu in (
        (3, "one GPU of 24 GB"),
        (13, "one GPU of 80 GB"),
        (70, "2 to 4 GPUs of 80 GB, or LoRA on one"),
    ):
        if billions <= most:
            return f"{billions:.2g} billion parameters in bf16: {gpu}"
    return f"{billions:.2g} billion parameters in bf16: 8 GPUs of 80 GB, or LoRA"
