"""The record of a container: written before it is started, so that none is ever unknown."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from blocks.containers import secrets
from blocks.containers.files import write_whole
from blocks.containers.habits import Image
from blocks.containers.outcome import Kind

State = Literal["PENDING", "RUNNING", "COMPLETE", "ERROR", "CANCELED", "UNKNOWN"]


class Job(BaseModel):
    """What is known of a call; `environment` holds names only, and `argv` no secret.

    Attributes:
        id: the container's name.
        attempt: counted from 1; the class of each that came before stands in `earlier`.
        kind: class of the outcome; empty until it ended.
    """

    id: str
    image: str
    digest: str
    argv: list[str]
    mounts: list[str]
    environment: list[str]
    log: Path
    attempt: int = 1
    earlier: list[Kind] = []
    state: State = "PENDING"
    container: str = ""
    exit_code: int | None = None
    kind: Kind | None = None
    error: str = ""
    created: str
    started: str = ""
    ended: str = ""

    @classmethod
    def of(cls, name: str, image: Image, container: Mapping[str, Any], log: Path) -> Job:
        """The record of a container that is about to be made."""
        return cls(
            id=name,
            image=image.uri,
            digest=image.id,
            argv=[secrets.mask(word) for word in container["command"]],
            mounts=[
                f"{bind['Source']}:{bind['Target']}" + ":ro" * bind["ReadOnly"]
                for bind in container["mounts"]
            ],
            environment=sorted(container["environment"]),
            log=log,
            created=now(),
        )

    def begun(self, container: str) -> None:
        """Write down that its container runs."""
        self.state, self.container, self.started = "RUNNING", container, now()
        self.write()

    def over(self, kind: Kind, exit_code: int | None, error: str) -> None:
        """Write down how it ended."""
        ends: dict[Kind, State] = {"OK": "COMPLETE", "CANCELED": "CANCELED", "UNKNOWN": "UNKNOWN"}
        self.state, self.kind, self.exit_code = ends.get(kind, "ERROR"), kind, exit_code
        self.error, self.ended = secrets.mask(error), now()
        self.write()

    def write(self) -> None:
        """Write it to `jobs/` beside the log; a reader sees the old record or the new one."""
        write_whole(record_file(self.log), self.model_dump_json(indent=2) + "\n")


def record_file(log: Path) -> Path:
    """Where the record of the call with that log lies."""
    return log.parent / "jobs" / f"{log.stem}.json"


def say_canceled(log: Path) -> None:
    """Write into the record of the call with that log, if it is here, that its container was stopped."""
    with suppress(OSError, ValidationError):
        job = Job.model_validate_json(record_file(log).read_text(encoding="utf-8"))
        job.over("CANCELED", None, "stopped with its flow run")


def attempt_log(log: Path, attempt: int) -> Path:
    """Where the log of an attempt goes that is not the last."""
    return log.with_name(f"{log.stem}.attempt{attempt}{log.suffix}")


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
