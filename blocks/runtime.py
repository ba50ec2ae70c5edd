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

from blocks.versions import image_uri


class ActionRequest(BaseModel):
    """One call of an action.

    Attributes:
        category: with `argv` the command line, `<category> <argv>`.
        image: key, in the versions file, of the image that answers to it.
        log_file: where everything it says goes.
        key: digest of the work; two calls with one key, image and command line are the same work.
        paths: every file and folder that it reads or writes, by the name of the spec's key.
        results: of those the folders that it writes into.
        gpu: whether it computes on a GPU where there is one.
    """

    category: str
    argv: list[str]
    image: str
    log_file: Path
    key: str = ""
    paths: dict[str, Path] = {}
    results: list[Path] = []
    gpu: bool = False


class ActionOutcome(BaseModel):
    """How a call ended.

    Attributes:
        exit_status: 0 done, 1 error, 2 usage, 3 target unreachable.
        error: the first error line; empty after a success.
        seconds: from the start of the work to its end.
        adopted: whether the work was begun by an earlier, interrupted process of the same flow.
    """

    exit_status: int
    error: str
    seconds: float
    adopted: bool = False


class Runtime(Block):
    """A place that runs actions."""

    _block_schema_capabilities: ClassVar[list[str]] = ["run-action"]

    starts_images: ClassVar[bool] = False
    """Whether actions run in containers of images, which must be on the Docker host."""

    @property
    def runs_nvidia(self) -> bool:
        """Whether actions that NVIDIA has an image for are answered by NVIDIA's code."""
        return False

    def image_for(self, key: str) -> str:
        """The key of the image that answers where an action names `key`."""
        return key

    def image_uri(self, key: str) -> str:
        """The image behind a key; raises `ValueError` when the versions file has none."""
        return image_uri(key)

    @abstractmethod
    def run(self, request: ActionRequest) -> ActionOutcome:
        """Run the action to its end; its messages go to the log file and to the flow run's log."""

    def image_digest(self, image: str) -> str:
        """What identifies the code behind an image key in the cache key; empty where no image is used."""
        return ""

    def stop(self) -> None:
        """End what runs at the moment, in whichever thread; called when the flow itself is being ended."""


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
