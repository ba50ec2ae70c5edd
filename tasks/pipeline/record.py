"""The record of a pipeline run: what was approved, and which phases are done.

`pipeline.json` is written once, after approval; each phase leaves `<phase>.done.json` with what it hands
on. The same command goes on at the first phase that has none; other parameters than the approved ones are
refused.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tasks.artifacts import read_json, write_json
from tasks.errors import DeftError, InputError
from tasks.keys import flat
from tasks.spec import explained, plain

logger = logging.getLogger("deft.flow")

RECORD = "pipeline.json"
RESULT = "pipeline"

Facts = TypeVar("Facts", bound=BaseModel)


class PipelineRecord(BaseModel):
    """What was approved.

    Attributes:
        asked: the parameters that the run was started with; the same command is known by them.
        parameters: those that were approved: with what a person corrected at the gate.
        data_sha256: content of the data sets, by name.
        token: hash of the summary that was approved.
        approved_by: a person, the word yes, or the token.
        note: what that person wrote.
    """

    asked: dict[str, Any]
    parameters: dict[str, Any]
    data_sha256: dict[str, str]
    token: str
    approved_by: str
    note: str = ""


class PipelineRun:
    """The folder of a pipeline run."""

    def __init__(self, folder: Path, record: PipelineRecord) -> None:
        self.folder, self.record = folder, record

    def done(self, phase: str, kind: type[Facts]) -> Facts | None:
        """What a phase that is done handed on.

        Raises:
            InputError: its file is there and is not valid.
        """
        file = self.folder / f"{phase}.done.json"
        if not file.is_file():
            return None
        try:
            return kind.model_validate(read_json(file))
        except ValidationError as error:
            raise InputError(f"{file}: {explained(error)}; remove it to repeat the phase") from error

    def finish(self, phase: str, facts: BaseModel) -> None:
        """Write what a phase hands on."""
        write_json(self.folder / f"{phase}.done.json", facts.model_dump(mode="json"))


def unfinished(
    results: Path, parameters: Mapping[str, Any], data_sha256: Mapping[str, str], token: str | None = None
) -> Path | None:
    """The latest pipeline run of these parameters and data, and of a given token, that has not ended."""
    for file in sorted(results.glob(f"run_*/{RECORD}"), reverse=True):
        if (file.parent / f"{RESULT}.done.json").exists():
            continue
        try:
            record = _read(file)
        except InputError as error:
            logger.warning("%s is left alone: %s", file.parent, error)
            continue
        if _difference(record, parameters, data_sha256) == "" and token in (None, record.token):
            return file.parent
    return None


def taken_up(
    folder: Path, parameters: Mapping[str, Any], data_sha256: Mapping[str, str], token: str | None = None
) -> PipelineRun | None:
    """The approved run in `folder`, or none where nothing was approved there yet.

    Raises:
        DeftError: it was approved with other parameters or data, or with another token than the given one.
    """
    file = folder / RECORD
    if not file.is_file():
        return None
    record = _read(file)
    difference = _difference(record, parameters, data_sha256)
    if difference:
        raise DeftError(
            f"{folder}: changed since it was approved: {difference}; start a new run or take it back"
        )
    if token not in (None, record.token):
        raise DeftError(f"{folder} was approved as {record.token}, not as {token}; start a new run")
    return PipelineRun(folder, record)


def begun(folder: Path, record: PipelineRecord) -> PipelineRun:
    """Write the record of a run that has just been approved."""
    write_json(folder / RECORD, record.model_dump(mode="json"))
    return PipelineRun(folder, record)


def _read(file: Path) -> PipelineRecord:
    try:
        return PipelineRecord.model_validate(read_json(file))
    except ValidationError as error:
        raise InputError(f"{file}: {explained(error)}; restore it or start a new run") from error


def _difference(record: PipelineRecord, parameters: Mapping[str, Any], data_sha256: Mapping[str, str]) -> str:
    """The first thing that is other than approved, in words; empty when nothing is."""
    before, now = flat(record.asked), flat(plain(parameters))
    for name in dict.fromkeys([*before, *now]):
        if before.get(name) != now.get(name):
            return f"{name} {before.get(name)} -> {now.get(name)}"
    for name in dict.fromkeys([*record.data_sha256, *data_sha256]):
        if record.data_sha256.get(name) != data_sha256.get(name):
            return f"the content of {name}"
    return ""
