"""What is laid beside a finished report: the settings it came from, and one log."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from tasks.artifacts import write_text

RUN_LOG = "run.log"


def package(folder: Path, config: str, settings: Iterable[Path], logs: Iterable[Path]) -> None:
    """Copy the settings into `folder/config` and join the logs as `run.log`; absent files are left out.

    It comes last: who finds `run.log` knows that the report is finished.
    """
    (folder / config).mkdir(exist_ok=True)
    for file in settings:
        if file.is_file():
            shutil.copyfile(file, folder / config / file.name)
    parts = [
        f"==> {log.name} <==\n{log.read_text(encoding='utf-8', errors='replace').rstrip()}\n"
        for log in logs
        if log.is_file()
    ]
    write_text(folder / RUN_LOG, "\n".join(parts))
