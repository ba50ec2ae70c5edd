"""How a container ended: never by its exit code alone (spec container-run 6 and 8). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from blocks.containers import drift
from blocks.containers.habits import Image

Kind = Literal[
    "OK",
    "CLI_DRIFT",
    "IDENTITY",
    "OOM",
    "SHM",
    "RUNTIME",
    "REGISTRY",
    "DISK",
    "PERMISSION",
    "KILLED",
    "STAGE_FAIL",
    "TIMEOUT",
    "CANCELED",
    "UNKNOWN",
]

# The first that a failed log matches; what only goes along with another comes after it.
TROUBLES: dict[Kind, str] = {
    "IDENTITY": r"getpwuid",
    "OOM": r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|CUDA error: out of memory",
    "SHM": r"Bus error|DataLoader worker .*(killed|exited)|unable to (open|write to) .*shm",
    "RUNTIME": r"no kernel image is available|could not select device driver|nvidia-container-cli"
    r"|no CUDA-capable device|Found no NVIDIA driver|driver version is insufficient",
    "REGISTRY": r"unauthorized: |manifest unknown|manifest for .* not found|pull access denied|no basic auth",
    "DISK": r"no space left on device",
    "PERMISSION": r"permission denied|read-only file system",
}
PATTERNS = {kind: re.compile(pattern, re.IGNORECASE) for kind, pattern in TROUBLES.items()}

ACTIONS: dict[Kind, str] = {
    "CLI_DRIFT": "the image knows other keys or flags; compare the spec with what --cfg=job prints in it",
    "IDENTITY": "the image does not know its user; set identity to passwd or root_chown in the runtime block",
    "OOM": "lower the batch size or give more memory; neither is done by itself, as results would differ",
    "SHM": "raise shm_size in the runtime block; ChangeNet never uses the shared memory of the host",
    "RUNTIME": "check the GPU driver and the NVIDIA Container Toolkit (nvidia-ctk runtime configure, then "
    "restart docker), or set gpus to empty and engine to native",
    "REGISTRY": "log in to the registry with docker login, or bring the image with docker load",
    "DISK": "make room for the results or for docker; nothing is deleted by itself",
    "PERMISSION": "let the container's user write there, or set user in the runtime block",
    "KILLED": "look for docker kill, a restart of Docker, or a host short of memory",
    "TIMEOUT": "raise time_limit_minutes in the runtime block",
}

STATUS = re.compile(r"Execution status:\s*(\w+)")
ERROR_LINE = re.compile(r"^ERROR: (.+)$", re.MULTILINE)
SHOWN_LINES = 3
OWN_STATUSES = (2, 3)  # of our actions: usage, target unreachable
SIGNALLED = 128
BUS_ERROR = SIGNALLED + 7
FROM_OUTSIDE = (SIGNALLED + 9, SIGNALLED + 15)


@dataclass(frozen=True)
class Ended:
    """The end of a container.

    Attributes:
        exit_code: of its main process.
        out_of_memory: whether the kernel ended it for want of memory.
        stopped: why we stopped it, if we did.
        seconds: how long it ran.
    """

    exit_code: int
    out_of_memory: bool = False
    stopped: Literal["", "TIMEOUT", "CANCELED"] = ""
    seconds: float = 0.0

    @property
    def killed(self) -> bool:
        """Whether a signal from outside ended it: no failure of the work itself."""
        return self.exit_code > SIGNALLED and not self.out_of_memory and not self.stopped


@dataclass(frozen=True)
class Verdict:
    """What an end means.

    Attributes:
        kind: the class of the outcome.
        exit_status: of the action; never 0 unless all is well.
        error: one line for a person; empty when all is well.
    """

    kind: Kind
    exit_status: int
    error: str


def judged(ended: Ended, log: str, image: Image) -> Verdict:
    """Decide whether the action has done its work, by its exit code and its whole log."""
    said = STATUS.findall(log)
    fails = "FAIL" in said
    passes = bool(said) and said[-1] == "PASS"
    if ended.stopped:
        return Verdict(ended.stopped, 1, _line(ended.stopped, _stop_text(ended)))
    if not ended.exit_code and not fails and (passes or not image.habits.says_status):
        return Verdict("OK", 0, "")
    kind = _kind(ended, log)
    ours = image.is_native and ended.exit_code in OWN_STATUSES
    return Verdict(kind, ended.exit_code if ours else 1, _line(kind, _reason(ended, log, image)))


def trouble(message: str) -> Verdict:
    """The verdict on a call that Docker itself refused, by its message."""
    found = _first_match(message)
    action = ACTIONS[found] if found else "look at the Docker daemon of this host"
    kind: Kind = found or "RUNTIME"
    return Verdict(kind, 1, _one_line(f"docker: {message}; {action} [{kind}]"))


def _kind(ended: Ended, log: str) -> Kind:
    if ended.out_of_memory:
        return "OOM"
    if ended.exit_code == BUS_ERROR:
        return "SHM"
    if ended.exit_code in FROM_OUTSIDE:
        return "KILLED"
    error = ERROR_LINE.search(log)
    if error:  # the action has understood its command line, and the rest of the log is beside the point
        return _first_match(error[1]) or "STAGE_FAIL"
    return _first_match(log) or ("CLI_DRIFT" if drift.is_drift(log) else "STAGE_FAIL")


def _first_match(text: str) -> Kind | None:
    return next((kind for kind, pattern in PATTERNS.items() if pattern.search(text)), None)


def _reason(ended: Ended, log: str, image: Image) -> str:
    error = ERROR_LINE.search(log)
    if error:
        return error[1].strip()
    lines = [line.strip() for line in re.split(r"[\r\n]", log) if line.strip()]
    last = " | ".join(line for line in lines[-SHOWN_LINES:]) or "it said nothing"
    if ended.out_of_memory:
        return f"{image.uri} was ended for want of memory; it said last: {last}"
    if ended.exit_code or "FAIL" in STATUS.findall(log):
        return f"{image.uri} ended with exit status {ended.exit_code}; it said last: {last}"
    return (
        f"{image.uri} ended with exit status 0 but did not say 'Execution status: PASS'; it said last: {last}"
    )


def _stop_text(ended: Ended) -> str:
    if ended.stopped == "TIMEOUT":
        return f"ran for {ended.seconds / 60:.3g} minutes, longer than it may, and was stopped"
    return "stopped on request"


def _line(kind: Kind, reason: str) -> str:
    """The reason, then what to do about it where the class says more than the reason."""
    action = ACTIONS.get(kind, "")
    return _one_line(f"{reason}; {action} [{kind}]" if action else reason)


def _one_line(text: str) -> str:
    return " ".join(text.split())
