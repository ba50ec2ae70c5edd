"""`status.json`: one JSON object a line, appended while an action runs (spec changenet 5.3)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.errors import StageFailed

STATUS_FILE = "status.json"
STOP_FILE = "stop"


class Status:
    """Appends lines to the status file of a results folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / STATUS_FILE

    def write(
        self,
        message: str,
        status: str = "RUNNING",
        kpi: Mapping[str, float] | None = None,
        **facts: Any,
    ) -> None:
        """Append a line; metrics that are not finite become null."""
        now = datetime.now()
        line: dict[str, Any] = {
            "date": f"{now.month}/{now.day}/{now.year}",
            "time": f"{now.hour}:{now.minute}:{now.second}",
            "status": status,
            "verbosity": "ERROR" if status == "FAILURE" else "INFO",
            "message": message,
            **facts,
        }
        if kpi is not None:
            line["kpi"] = {name: value if math.isfinite(value) else None for name, value in kpi.items()}
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


@contextmanager
def reported(folder: Path, action: str, model: str = "Visual ChangeNet") -> Iterator[Status]:
    """Say that the action starts and, whatever stops it, that it failed and why."""
    status = Status(folder)
    status.write(f"Starting {model} {action}.", "STARTED")
    try:
        yield status
    except BaseException as error:
        status.write(f"{type(error).__name__}: {error}", "FAILURE")
        raise


def check_not_stopped(folder: Path, epoch: int) -> None:
    """End a training after a zero-based epoch when somebody has put the file `stop` into its folder.

    Raises:
        StageFailed: they have.
    """
    if (folder / STOP_FILE).exists():
        raise StageFailed(f"stopped on request after epoch {epoch + 1}: {folder / STOP_FILE}")


def status_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a status file since its last start."""
    return lines_after(file, 0)


def lines_after(file: Path, offset: int) -> list[dict[str, Any]]:
    """The lines of a status file from a byte on, since the last start among them.

    Lines that are not JSON objects count only as failures.
    """
    lines: list[dict[str, Any]] = []
    for text in file.read_bytes()[offset:].decode("utf-8", "replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict):
            lines.append(line)
        elif '"FAILURE"' in text:
            lines.append({"status": "FAILURE", "message": text})
    starts = [number for number, line in enumerate(lines) if line.get("status") == "STARTED"]
    return lines[starts[-1] :] if starts else lines


def failures(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """What went wrong, by the lines that say FAILURE."""
    return [str(line.get("message", "no reason given")) for line in lines if line.get("status") == "FAILURE"]


def validation_losses(lines: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """The validation loss by zero-based epoch."""
    losses = {}
    for line in lines:
        metrics = line.get("kpi") or {}
        epoch = metrics.get("epoch", line.get("epoch"))
        if epoch is not None and metrics.get("val_loss") is not None:
            losses[int(epoch)] = float(metrics["val_loss"])
    return losses


def epochs_of(lines: Sequence[Mapping[str, Any]]) -> tuple[int, int | None]:
    """How many epochs have ended, and of how many; None while no line says so.

    Epochs count from zero in the lines, `max_epoch` is the last one.
    """
    done, total = 0, None
    for line in lines:
        epoch = (line.get("kpi") or {}).get("epoch", line.get("epoch"))
        if isinstance(epoch, int | float):
            done = max(done, int(epoch) + 1)
        if isinstance(line.get("max_epoch"), int | float):
            total = int(line["max_epoch"]) + 1
    return done, total
