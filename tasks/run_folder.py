"""The folder of a run: where a new one lies, and holding it against other processes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.artifacts import now, timestamp_folder, write_text
from tasks.errors import DeftError


def new_run_folder(results: Path) -> Path:
    """The folder of a new run, `<results>/run_<clock>`, not made yet."""
    return timestamp_folder(results, prefix="run_", form="%Y%m%d_%H%M%S")


@contextmanager
def held(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Hold a folder against other processes; it is made when it is not there.

    The kernel gives the lock back when its holder dies, however that happens.

    Raises:
        DeftError: another process has it; the message says which, on which host, since when.
    """
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder / f"{name}.owner"
    lock = FileLock(folder / name)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        who = owner.read_text(encoding="utf-8") if owner.is_file() else "another process"
        raise DeftError(f"{who} works on {folder}; wait for it or stop it") from error
    try:
        write_text(owner, f"process {os.getpid()} on {socket.gethostname()} (since {now()})")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()
