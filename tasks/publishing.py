"""What the pages of the Prefect server show of a run: its log, artifacts of Markdown, tables and progress.

Nothing here raises: a stage that has its result never fails because a page about it could not be stored.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run

from tasks.reports.markdown import Raw, code, escaped, table
from tasks.reports.pictures import embedded
from tasks.status import epochs_of, lines_after, validation_losses

logger = logging.getLogger("deft.flow")

FILES_URL = "DEFT_FILES_URL"
"""The variable that says where a web server shows the data folder; then files become links."""

MOST_BYTES = 3_000_000
"""Of the pictures of one artifact: their letters go into the server's database."""

SECONDS = 2.0
"""Between two looks at the status file of a stage."""

PICTURE = re.compile(r"!\[(?P<text>(?:\\.|[^\]\\])*)\]\(<?(?P<path>[^)>]+)>?\)")


def publish_markdown(key: str, text: str, description: str | None = None) -> bool:
    """Show a Markdown text on the page of the flow run; gives whether it was stored.

    Args:
        key: any words; equal keys of several runs are the history of one thing.
        text: Markdown; what others wrote into it must be escaped already.
        description: a line above it.
    """
    return _store("markdown", key, text, description) is not None


def publish_table(key: str, rows: Sequence[Mapping[str, object]], description: str | None = None) -> bool:
    """Show rows of plain values as a table; gives whether it was stored."""
    return _store("table", key, json.dumps([dict(row) for row in rows], default=str), description) is not None


def publish_file(key: str, markdown_file: Path, description: str | None = None) -> bool:
    """Show a Markdown report with its pictures inside it; gives whether it was stored."""
    try:
        text = markdown_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        logger.warning("%s is not shown in the server: %s", markdown_file, error)
        return False
    link = f"The file: {file_link(markdown_file)}"
    return publish_markdown(key, f"{with_pictures(text, markdown_file.parent)}\n\n{link}\n", description)


def with_pictures(text: str, folder: Path, most_bytes: int = MOST_BYTES) -> str:
    """The Markdown with the pictures beside it put inside, while there is room; the rest become links."""
    room = most_bytes

    def inside(found: re.Match[str]) -> str:
        nonlocal room
        if ":" in found["path"].split("/")[0]:
            return found[0]
        picture = folder / found["path"]
        address = embedded(picture, room)
        if address is None:
            return file_link(picture)
        room -= len(address)
        return f"![{found['text']}]({address})"

    return PICTURE.sub(inside, text)


def file_link(path: Path, name: str | None = None) -> Raw:
    """A file as a link where a web server shows it, else its path to be copied; or `name` in its stead."""
    server = os.environ.get(FILES_URL, "").rstrip("/")
    if not server:
        return code(name or path)
    # The server's page shows the text of a link letter by letter, with the backslash of an underscore.
    text = escaped(name or path.name).replace("\\_", "_")
    return Raw(f"[{text}]({server}{quote(str(path))})")


def key_of(*words: str) -> str:
    """The words as a key: lower case, every other letter than a-z and 0-9 a dash."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


def as_table(header: Sequence[str], rows: Sequence[Sequence[object]], most: int) -> str:
    """A table of at most so many rows, with a line that tells how many were left out."""
    shown = table(header, rows[:most])
    return shown if len(rows) <= most else f"{shown}\n\n… and {len(rows) - most:,} more."


class _Progress:
    """The epochs of one stage, as a progress artifact that appears with the first of them."""

    def __init__(self, key: str, title: str, status_file: Path, offset: int) -> None:
        self._key, self._title = key, title
        self._file, self._offset = status_file, offset
        self._artifact: UUID | None = None
        self._shown: tuple[float, str] | None = None
        self._size = -1
        self._ended = threading.Event()

    def watch(self) -> None:
        """Look until told to end, and once more then."""
        while not self._ended.wait(SECONDS):
            self._look()
        self._look()

    def end(self) -> None:
        """Look a last time."""
        self._ended.set()

    def _look(self) -> None:
        try:
            size = self._file.stat().st_size
            if size != self._size:
                self._size = size
                self._show(lines_after(self._file, self._offset))
        except OSError:
            return  # not there yet, or away for a moment: the next look comes

    def _show(self, lines: Sequence[Mapping[str, Any]]) -> None:
        done, total = epochs_of(lines)
        if not done or not total:
            return
        losses = validation_losses(lines).values()
        best = f", lowest validation loss {min(losses):.4g}" if losses else ""
        now = 100.0 * min(done / total, 1.0), f"{self._title}: {done} of {total} epochs{best}"
        if now == self._shown:
            return
        self._shown = now
        if self._artifact is None:
            self._artifact = _store("progress", self._key, *now)
        else:
            _update(self._artifact, *now)


@contextmanager
def progress(key: str, title: str, status_file: Path, offset: int) -> Iterator[None]:
    """While entered, show how many epochs the status file tells of, wherever they are computed.

    Args:
        key: of the artifact; there is none before the first epoch has ended.
        title: what is under way.
        status_file: JSON lines; it lies on the shared disk also when a container writes it.
        offset: where this run's lines begin.
    """
    if flow_run.get_id() is None:
        yield
        return
    shown = _Progress(key, title, status_file, offset)
    # The settings of Prefect are context variables: a bare thread would speak to another server.
    thread = threading.Thread(target=copy_context().run, args=(shown.watch,), name=key, daemon=True)
    thread.start()
    try:
        yield
    finally:
        shown.end()
        thread.join(timeout=10)


def _store(kind: str, key: str, data: str | float, description: str | None) -> UUID | None:
    """Store an artifact of the flow run; None where there is no run, or no server answers."""
    run = flow_run.get_id()
    if run is None:
        return None
    try:
        wanted = ArtifactCreate(
            type=kind, key=key_of(key), data=data, description=description, flow_run_id=UUID(run)
        )
        with get_client(sync_client=True) as client:
            return client.create_artifact(wanted).id
    except Exception as error:  # noqa: BLE001 - whatever the server lacks, the stage has its result
        logger.warning("%s is not shown in the server: %s: %s", key, type(error).__name__, error)
        return None


def _update(artifact: UUID, data: float, description: str) -> None:
    try:
        with get_client(sync_client=True) as client:
            client.update_artifact(artifact, ArtifactUpdate(data=data, description=description))
    except Exception as error:  # noqa: BLE001 - as above
        logger.warning("progress is not shown in the server: %s: %s", type(error).__name__, error)


class _RunLog(APILogHandler):
    """Sends what is said to the log of the Prefect run that it belongs to."""

    def emit(self, record: logging.LogRecord) -> None:
        if FlowRunContext.get() or TaskRunContext.get():
            super().emit(record)


def _send_messages_to_the_run() -> None:
    everything = logging.getLogger("deft")
    if not any(isinstance(handler, _RunLog) for handler in everything.handlers):
        everything.addHandler(_RunLog(logging.INFO))
        everything.setLevel(logging.INFO)


_send_messages_to_the_run()
