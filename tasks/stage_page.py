"""The page of a finished stage, in Markdown: its headline, where it was computed, its files in and out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tasks.action import Action, Headline
from tasks.artifacts import Artifact, sha256_of
from tasks.headlines import MOST_PICTURES
from tasks.publishing import as_table, file_link
from tasks.reports.markdown import NONE, Raw, code, escaped
from tasks.reports.pictures import contact_sheet, embedded, jpeg_uri
from tasks.spec import READS, SpecModel, paths_of

MOST_ROWS = 20
MOST_FILES = 12
SIDE, COLUMNS = 160, 6
"""Pixels of a picture on the contact sheet, and pictures in a row of it."""

PICTURE_BYTES = 300_000
RUN_FOLDER = re.compile(r"run_\d")
CHECKPOINTS = ("best_val", "latest")


def stage_page(
    told: Headline, origin: str, inputs: Mapping[str, Path], folder: Path, outputs: Iterable[Artifact]
) -> str:
    """The page, without the headline's sentence: that is the description above it, and on its card.

    Args:
        told: what the stage is about.
        origin: where it was computed, as Markdown.
        inputs: the files that it read, by the key of its spec.
        folder: where it left its files.
        outputs: those files.
    """
    read = [(code(key), fingerprint(sha256_of(path)), file_link(path)) for key, path in inputs.items()]
    left = [
        (fingerprint(one.sha256), file_link(one.path, os.path.relpath(one.path, folder))) for one in outputs
    ]
    parts = [
        as_table(told.header, told.rows, MOST_ROWS) if told.rows else "",
        _picture(told.pictures, told.caption),
        f"#### Where it comes from\n\n{origin}",
        as_table(("What it read", "SHA-256 begins", "File"), read, MOST_FILES) if read else "",
        f"It left, in {code(folder)}:",
        as_table(("SHA-256 begins", "File"), left, MOST_FILES),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def computed_here(seconds: float, runtime: str) -> str:
    """That a stage was computed, how long it took, and where."""
    return f"Computed in {seconds:.1f} s on {code(runtime)}."


def taken_from_cache(run: str, folder: Path, finished: str | None, seconds: float) -> str:
    """That nothing was computed, and who had computed it."""
    when = f" on {escaped(finished).replace('T', ' ').replace('+00:00', ' UTC')}" if finished else ""
    return (
        f"Taken from the cache: nothing that decides the result has changed. Computed by the run {code(run)}"
        f"{when} in {seconds:.1f} s, in the folder {code(folder)}."
    )


def stage_key(action: Action, folder: Path, label: str | None = None) -> str:
    """The words of the artifact's key: the action, and what tells it from others of its kind in a run.

    That is the phase (iter1, or a trial of a sweep), the checkpoint, and the label of one of several stages.
    """
    parts = folder.parts
    starts = [number for number, part in enumerate(parts) if RUN_FOLDER.match(part)]
    below = parts[starts[-1] + 1 :] if starts else ()
    phase = below[:3] if below[1:2] == ("recs",) else below[:1]
    kind = below[-1:] if below[-1:] and below[-1] in CHECKPOINTS else ()
    own = (label,) if label and label != action.name else ()
    return " ".join([action.category, action.name, *phase, *kind, *own])


def files_read(spec: SpecModel) -> dict[str, Path]:
    """The files that a spec names as read, by key."""
    return {key: path for key, (path, role) in paths_of(spec).items() if role is READS and path.is_file()}


def fingerprint(sha256: str) -> Raw:
    """The first letters of a hash, enough to compare by eye."""
    return code(sha256[:12])


def _picture(paths: Sequence[Path], caption: str) -> str:
    there = [path for path in paths if path.is_file()][:MOST_PICTURES]
    if len(there) == 1:
        address = embedded(there[0], PICTURE_BYTES)
    else:
        sheet = contact_sheet(there, SIDE, COLUMNS)
        address = None if sheet is None else jpeg_uri(sheet)
    if address is None:
        return ""
    return f"{escaped(caption) or NONE}\n\n![{escaped(caption)}]({address})"
