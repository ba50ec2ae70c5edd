"""What this host has; totals only, because what is free changes from minute to minute."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.errors import DeftError

MIB, GIB = 2**20, 2**30
SMI_TIMEOUT = 20


@dataclass(frozen=True)
class Gpu:
    """A GPU: its exact model name, its memory in MiB and the driver's version."""

    model: str
    memory_mib: int
    driver: str


def gpus(environment: Mapping[str, str]) -> list[Gpu]:
    """The GPUs that `nvidia-smi` names; none where there is no such program.

    Raises:
        DeftError: the program is there and does not answer as it should.
    """
    program = shutil.which("nvidia-smi", path=environment.get("PATH", os.defpath))
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=SMI_TIMEOUT, check=True)
        return [_gpu(line) for line in done.stdout.splitlines() if line.strip()]
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        raise DeftError(f"{program} does not say which GPUs there are: {error}; mend the driver") from error


def _gpu(line: str) -> Gpu:
    model, memory, driver = (part.strip() for part in line.rsplit(",", 2))
    return Gpu(model, int(memory), driver)


def memory_bytes() -> int:
    """Physical memory of this host."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
