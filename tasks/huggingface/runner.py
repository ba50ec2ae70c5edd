"""What runs the commands of a project, and the place that runs them as processes of this machine."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from tasks.artifacts import log_text, read_json, write_json
from tasks.errors import DeftError, InputError, listed
from tasks.huggingface.commands import (
    FOLDERS,
    Command,
)

logger = logging.getLogger("deft")

Watch = Callable[[str], str | None]
"""Looks at the log so far; gives the reason when the command should end now."""

LOOK_SECONDS = 2.0
GRACE_SECONDS = 10
KEPT = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_HOME", "OMP_NUM_THREADS", "MKL_NUM_THREADS"),
    *(
        "HF_HOME",
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "HF_DATASETS_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_HUB_CACHE",
    ),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
)
"""Of our environment, what a command in a process gets; whatever else it needs, it names."""
RUNNING = Path("meta") / "running.json"
PACKAGES = """
import sys
from importlib.metadata import PackageNotFoundError, version
for name in sys.argv[1:]:
    try:
        version(name)
    except PackageNotFoundError:
        print(name)
"""


class Outcome(BaseModel):
    """How a command ended.

    Attributes:
        status: its exit status; negative when a signal ended it.
        seconds: how long it took.
        log: its output.
        stopped: why it was ended before its time, else nothing.
    """

    model_config = ConfigDict(frozen=True)

    status: int
    seconds: float
    log: Path
    stopped: str | None = None

    def text(self) -> str:
        """The output as text."""
        return log_text(self.log)


class Runner(Protocol):
    """A place that runs commands of a project."""

    name: str
    gpus: bool
    """Whether commands are to have the GPUs of this host."""

    def prepare(self, project: Path, config: Mapping[str, Any]) -> None:
        """Make what the commands need, such as the image of the project."""

    def run(
        self,
        command: Command,
        project: Path,
        config: Mapping[str, Any],
        *,
        limit_seconds: float,
        watch: Watch | None = None,
    ) -> Outcome:
        """Run a command to its end, or until its limit, or until `watch` or `stop` end it."""

    def stop(self) -> None:
        """End what runs; nothing is started any more."""


class ProcessRunner:
    """Runs commands with a Python of this machine, in the folder of the project."""

    name = "process"

    def __init__(self, python: Path | None = None, *, gpus: bool = True) -> None:
        """Take this Python; by default the one that runs this program."""
        self.gpus = gpus
        self._python = Path(python or sys.executable)
        self._running: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()

    def prepare(self, project: Path, config: Mapping[str, Any]) -> None:
        """Make the folders that commands write into, and look which packages there are.

        Only what follows the training and what runs its unit tests are needed for sure and missed by no
        earlier command.

        Raises:
            InputError: there is no such Python, or it lacks that package.
        """
        if not self._python.is_file():
            raise InputError(f"no Python {self._python}; make a virtual environment with requirements.txt")
        make_folders(project)
        missing = missing_packages(self._python, project / "requirements.txt")
        if missing:
            logger.warning("%s lacks of requirements.txt: %s", self._python, ", ".join(missing))
        needed = {config.get("report_to"), "pytest" if config.get("emit_unit_tests") else None}
        if lacking := needed & set(missing):
            raise InputError(f"{self._python} lacks {listed(sorted(map(str, lacking)))}; pip install it")

    def run(
        self,
        command: Command,
        project: Path,
        config: Mapping[str, Any],
        *,
        limit_seconds: float,
        watch: Watch | None = None,
    ) -> Outcome:
        """Run the command in a process group of its own; its output goes into its log."""
        end_left_over(project)
        log = fresh_log(project / command.log)
        began = time.monotonic()
        command = on_visible(command)
        if self._ended.is_set():
            raise DeftError("the run is being ended: nothing is started any more")
        with log.open("wb") as output:
            process = subprocess.Popen(
                command.argv(str(self._python)),
                cwd=project,
                env={
                    **environment_of(command, project),
                    "PYTHONUNBUFFERED": "1",
                    **({} if self.gpus else {"CUDA_VISIBLE_DEVICES": ""}),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running = process
            write_json(project / RUNNING, {"pid": process.pid, "began": _began(process.pid)})
            try:
                stopped = follow(process.poll, log, began + limit_seconds, watch, self._ended)
            finally:
                _end_group(process)
                self._running = None
                (project / RUNNING).unlink(missing_ok=True)
        return Outcome(status=process.returncode, seconds=time.monotonic() - began, log=log, stopped=stopped)

    def stop(self) -> None:
        """End the process group that runs."""
        self._ended.set()
        if self._running:
            _end_group(self._running)


def missing_packages(python: Path, requirements: Path) -> list[str]:
    """Which packages of a requirements file this Python does not have, in whatever version."""
    lines = requirements.read_text(encoding="utf-8").splitlines() if requirements.is_file() else []
    names = [found[0] for line in lines if (found := re.match(r"[\w.-]+", line))]
    done = subprocess.run([python, "-c", PACKAGES, *names], capture_output=True, text=True, check=False)
    return done.stdout.split()


def on_visible(command: Command) -> Command:
    """The command with no more processes than there are GPUs that CUDA_VISIBLE_DEVICES lets them see."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    seen = command.processes if named is None else max(len([one for one in named.split(",") if one]), 1)
    return command.model_copy(update={"processes": min(command.processes, seen)})


def make_folders(project: Path) -> None:
    """The folders that commands write into."""
    for name in FOLDERS:
        (project / name).mkdir(parents=True, exist_ok=True)


def environment_of(command: Command, project: Path) -> dict[str, str]:
    """The environment of a command in a process: the basics, its own settings, and what it names."""
    own = {"HF_HOME": str(project / ".cache" / "huggingface"), "TOKENIZERS_PARALLELISM": "false"}
    return {
        **own,
        **present(KEPT),
        **command.environment,
        **present(command.passed, but=command.environment),
    }


def end_left_over(project: Path) -> None:
    """End the command of a run that was killed itself: it would write into the project beside the new one."""
    file = project / RUNNING
    if not file.is_file():
        return
    known = read_json(file)
    if known["began"] is not None and _began(known["pid"]) == known["began"]:
        logger.warning("ending process %d, left over", known["pid"])
        with suppress(ProcessLookupError):
            os.killpg(known["pid"], signal.SIGKILL)
        while _began(known["pid"]) == known["began"]:
            time.sleep(0.05)
    file.unlink()


def _began(process: int) -> str | None:
    """When a process was started, in ticks of this machine's clock; none where it has ended or is unknown."""
    try:
        words = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in {"Z", "X"} else words[19]


def fresh_log(file: Path) -> Path:
    """`file`, absent: one that is there becomes `NAME.1.log`, `NAME.2.log`, ..."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists():
        number = 1 + sum(1 for _ in file.parent.glob(f"{file.stem}.*{file.suffix}"))
        file.rename(file.with_name(f"{file.stem}.{number}{file.suffix}"))
    return file


def follow(
    state: Callable[[], int | None],
    log: Path,
    until: float,
    watch: Watch | None,
    ended: threading.Event,
) -> str | None:
    """Wait until `state` gives an exit status; gives why the command has to be ended before that.

    Args:
        state: the exit status, None while it runs.
        log: what it has printed so far; looked at when it has grown.
        until: end of its time, on the monotonic clock.
        watch: looks at the log.
        ended: set when the whole run is ended.
    """
    seen, pause = -1, 0.05
    while state() is None:
        if ended.is_set():
            return "the run was ended"
        if time.monotonic() > until:
            return "its time was over"
        size = log.stat().st_size if log.is_file() else 0
        if watch and size != seen:
            seen = size
            reason = watch(log.read_text(encoding="utf-8", errors="replace") if size else "")
            if reason:
                return reason
        ended.wait(pause)
        pause = min(pause * 2, LOOK_SECONDS)
    return None


def present(names: tuple[str, ...], but: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of this process that have a value, less those of `but`."""
    return {name: os.environ[name] for name in names if os.environ.get(name) and name not in (but or {})}


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started, at first politely."""
    for number, patience in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, 60)):
        if process.poll() is not None:
            break
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    with suppress(ProcessLookupError):  # workers of a data loader that outlive it
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
