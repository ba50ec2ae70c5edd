"""Where actions run. A runtime takes an action's command line and gives its exit status and log."""

from __future__ import annotations

import logging
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import BaseModel, Field


class ActionRequest(BaseModel):
    """One call of an action: `<category> <argv>`, the image that answers to it, and where its log goes."""

    category: str
    argv: list[str]
    image: str
    log_file: Path


class ActionOutcome(BaseModel):
    """How a call ended: exit status (0 done, 1 error, 2 usage, 3 unreachable), first error line, seconds."""

    exit_status: int
    error: str
    seconds: float


class Runtime(Block):
    """A place that runs actions."""

    _block_schema_capabilities: ClassVar[list[str]] = ["run-action"]

    starts_images: ClassVar[bool] = False
    """Whether actions run in the image that they name, and so by NVIDIA's code where it is NVIDIA's."""

    @abstractmethod
    def run(self, request: ActionRequest) -> ActionOutcome:
        """Run the action to its end; its messages go to the log file and to the flow run's log."""

    def image_digest(self, image: str) -> str:
        """What identifies the code behind an image key in the cache key; empty where no image is used."""
        return ""


class InlineRuntime(Runtime):
    """Runs the native engine inside this process.

    Attributes:
        engine: The entry point, of the group `deft.engine`, that answers to the actions.

    Example:
        Load a saved runtime:
        ```python
        from blocks.runtime import InlineRuntime

        runtime = InlineRuntime.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Inline Runtime"
    _block_type_slug = "inline-runtime"
    _description = "Runs actions with the native engine, inside the process of the flow."

    engine: str = Field(
        default="native",
        title="Engine",
        description="Entry point of the group deft.engine that answers to the actions.",
        examples=["native"],
    )

    def run(self, request: ActionRequest) -> ActionOutcome:
        """Run the action in this process; raises `ValueError` when no such engine is installed."""
        started = time.monotonic()
        with _LoggedTo(request.log_file) as log:
            status = self._engine()(request.category, request.argv)
        return ActionOutcome(exit_status=status, error=log.error, seconds=time.monotonic() - started)

    def _engine(self) -> Callable[[str, Sequence[str]], int]:
        found = entry_points(group="deft.engine", name=self.engine)
        if not found:
            raise ValueError(f"no engine {self.engine!r} is installed; install deft-flows with pip")
        engine: Callable[[str, Sequence[str]], int] = next(iter(found)).load()
        return engine


class _LoggedTo(logging.Handler):
    """While entered, writes what this thread logs to a file and keeps the first error line."""

    def __init__(self, file: Path) -> None:
        super().__init__(logging.INFO)
        self.file = file
        self.error = ""
        self.thread = threading.get_ident()

    def __enter__(self) -> _LoggedTo:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.stream = self.file.open("w", encoding="utf-8")
        logging.getLogger("deft").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("deft").removeHandler(self)
        self.stream.close()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread != self.thread:
            return
        line = self.format(record)
        self.stream.write(line + "\n")
        self.stream.flush()
        if record.levelno >= logging.ERROR and not self.error:
            self.error = record.getMessage().removeprefix("ERROR: ")
