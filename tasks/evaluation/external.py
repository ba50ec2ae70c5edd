"""Evaluators outside this package: a program that is called, a file that is awaited, and their answer."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from tasks.errors import InputError, StageFailed, listed
from tasks.evaluation.contract import MetricContract, MetricResult
from tasks.evaluation.evaluator import AwaitedArtifact, Command
from tasks.spec import explained

logger = logging.getLogger("deft")

POLL_S = 0.5
GRACE_S = 5.0
LAST_LINES = 5
TAIL_BYTES = 4096
FIGURES = ("far_pct_at_recall_99_5", "auc")
"""Diagnostics that stand in the tables of a loop, so they must be numbers."""


def answer_of_command(
    command: Command, contract: MetricContract, inference_csv: Path, log_file: Path
) -> MetricResult:
    """Call the program on an inference CSV and give its answer; what it prints goes to `log_file`.

    The program writes into a folder that did not exist before, so no earlier run can have left the answer.

    Raises:
        InputError: the executable does not exist or may not be executed; nothing is written.
        StageFailed: it ends with a status other than 0, takes too long, or its answer is not one.
    """
    program = command.executable
    if not (program.is_file() and os.access(program, os.X_OK)):
        raise InputError(f"evaluator {program} is not an executable file; check executable of the contract")
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".evaluator_", dir=log_file.parent, ignore_cleanup_errors=True) as folder:
        output = Path(folder) / "output.json"
        words = [*command.args, "--inference-csv", str(inference_csv), "--output-json", str(output)]
        _call([str(program), *words], command.timeout_s, log_file)
        origin = f"output JSON of evaluator {program}"
        try:
            values = _read_json(output)
        except FileNotFoundError as error:
            raise StageFailed(f"evaluator {program} wrote no output JSON; {_see(log_file)}") from error
        except (OSError, ValueError) as error:
            raise StageFailed(f"{origin} cannot be read: {error}; {_see(log_file)}") from error
    return checked_answer(values, contract, origin)


def answer_of_artifact(
    artifact: AwaitedArtifact, contract: MetricContract, inference_csv: Path, path: Path
) -> MetricResult:
    """Wait for the result file `path` of an inference CSV and give what it says.

    A file that is not yet whole JSON is read again until the time is over. One that is older than the CSV
    is taken, with a warning: clocks of two machines differ, and copies keep their time.

    Raises:
        StageFailed: no whole file is there in time, or its content is no answer to the contract.
    """
    if path.is_file() and path.stat().st_mtime < inference_csv.stat().st_mtime:
        logger.warning("artifact %s is older than %s, which it should measure", path, inference_csv)
    logger.info("waiting up to %g s for %s of %s", artifact.timeout_s, path, artifact.producer)
    deadline = time.monotonic() + artifact.timeout_s
    while True:
        try:
            return checked_answer(_read_json(path), contract, f"artifact {path} of {artifact.producer}")
        except (OSError, ValueError) as error:
            problem = error.strerror if isinstance(error, OSError) else f"not valid JSON: {error}"
        left = deadline - time.monotonic()
        if left <= 0:
            raise StageFailed(
                f"artifact {path} of {artifact.producer} is not there after {artifact.timeout_s:g} s: "
                f"{problem}; see that the producer ran and writes to this path"
            )
        time.sleep(min(POLL_S, left))


def checked_answer(values: Any, contract: MetricContract, origin: str) -> MetricResult:
    """The metric result that a parsed JSON file holds; keys that a result does not have are not read.

    Raises:
        StageFailed: it lacks a key or has a wrong one (numbers must be finite and not text), or it does not
            answer the contract: name, unit, every constraint. The message names `origin` and the key.
    """
    if not isinstance(values, dict):
        raise StageFailed(f"{origin} holds a {type(values).__name__}, not an object")
    extra = sorted(set(values) - set(MetricResult.model_fields))
    if extra:
        logger.info("%s: not read: %s; whether it passes is computed anew", origin, listed(extra))
    try:
        result = MetricResult.model_validate(values, strict=True)
        contract.feasible(result)
    except ValidationError as error:
        raise StageFailed(f"{origin}: {explained(error)}") from error
    except InputError as error:
        raise StageFailed(f"{origin}: {error}") from error
    for name in FIGURES:
        if type(result.diagnostics.get(name, 0.0)) not in (int, float):
            raise StageFailed(f"{origin}: diagnostics.{name}: {result.diagnostics[name]!r} is not a number")
    return result


def _call(argv: Sequence[str], timeout_s: float, log_file: Path) -> None:
    """Run a program in a process group of its own, which ends with it when it is stopped or too slow."""
    with log_file.open("wb") as log:
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        except (OSError, ValueError) as error:
            raise StageFailed(f"evaluator {argv[0]} cannot be started: {error}") from error
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            _end_group(process)
            raise StageFailed(
                f"evaluator {argv[0]} was ended after {timeout_s:g} s; {_see(log_file)}"
            ) from error
        except BaseException:
            _end_group(process)
            raise
    if status:
        raise StageFailed(f"evaluator {argv[0]} ended with exit status {status}; {_see(log_file)}")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)


def _see(log_file: Path) -> str:
    """Where the log lies and its last lines, on one line."""
    with log_file.open("rb") as stream:
        stream.seek(max(0, log_file.stat().st_size - TAIL_BYTES))
        lines = stream.read().decode("utf-8", errors="replace").splitlines()
    last = [line.strip() for line in lines if line.strip()][-LAST_LINES:]
    return f"its log {log_file} ends: {' | '.join(last)}" if last else f"its log {log_file} is empty"


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
