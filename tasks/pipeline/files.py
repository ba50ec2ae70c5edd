"""A pipeline run as it lies on disk, at whatever point it stands: what its report needs to know."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tasks.artifacts import read_json
from tasks.automl.files import KNOWN_BY as SWEEP_FILES
from tasks.automl.files import SweepFiles, read_sweep
from tasks.deft.state import STATE_FILE
from tasks.errors import InputError
from tasks.pipeline.facts import LoopOutcome, Stage, SweepResult
from tasks.pipeline.handover import JOURNAL
from tasks.pipeline.record import RECORD, RESULT, PipelineRecord
from tasks.pipeline.trajectory import SUMMARY, PipelineResult
from tasks.spec import explained

PREFLIGHT = "preflight_summary.json"
SWEEPS = {"phase 1": "automl_phase1", "phase 3": "final_automl"}
KNOWN_BY = (RECORD, f"{RESULT}.done.json")
"""A folder that holds one of these is a pipeline run."""
FAILED = re.compile(r"^\*\*(failed_\w+)\*\*: nothing is delivered\. (.+)$", re.MULTILINE)

Facts = TypeVar("Facts", bound=BaseModel)


@dataclass(frozen=True)
class PipelineFiles:
    """What lies in the folder of a pipeline run.

    Attributes:
        folder: of the run.
        record: what was approved; none where nothing was.
        result: how it ended; none before.
        first: what phase 1 handed on.
        loop: what phase 2 handed on.
        final: what phase 3 handed on.
        sweeps: the sweeps that have begun, by phase.
        state: content of `deft_state.json`; empty where there is none.
        handover: content of `handoff12.json`.
        preflight: the summary that was put before a person.
        stopped_with: kind and text of the error with which it stopped last; empty after it has ended.
        unreadable: what stood in the way of reading a file that a report can do without.
    """

    folder: Path
    record: PipelineRecord | None = None
    result: PipelineResult | None = None
    first: SweepResult | None = None
    loop: LoopOutcome | None = None
    final: SweepResult | None = None
    sweeps: dict[str, SweepFiles] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    handover: dict[str, Any] = field(default_factory=dict)
    preflight: dict[str, Any] = field(default_factory=dict)
    stopped_with: tuple[str, str] = ("", "")
    unreadable: list[str] = field(default_factory=list)

    @property
    def parameters(self) -> dict[str, Any]:
        """What was chosen and approved."""
        return self.record.parameters if self.record else {}

    @property
    def stages(self) -> list[Stage]:
        """The trajectory: as the run wrote it down, or as far as it has come."""
        if self.result:
            return self.result.stages
        sweeps = [
            [*([one.untrained] if one.untrained else []), one.stage] if one else []
            for one in (self.first, self.final)
        ]
        return [*sweeps[0], *(self.loop.stages if self.loop else _measured(self.state)), *sweeps[1]]

    @property
    def warnings(self) -> list[str]:
        """What a person should know."""
        if self.result:
            return self.result.warnings
        return [text for one in (self.first, self.final) if one for text in one.warnings]


def read_pipeline(folder: Path) -> PipelineFiles:
    """Read what there is of a pipeline run.

    Raises:
        InputError: the folder is no pipeline run, or what was approved cannot be read; it is named.
    """
    if not any((folder / name).is_file() for name in (*KNOWN_BY, PREFLIGHT)):
        raise InputError(f"{folder} is no pipeline run: it has neither {' nor '.join(KNOWN_BY)}")
    unreadable: list[str] = []
    result = _facts(folder, RESULT, PipelineResult, unreadable)
    record_file = folder / RECORD
    return PipelineFiles(
        folder=folder,
        record=_read(record_file, PipelineRecord.model_validate, unreadable),
        result=result,
        first=_facts(folder, "phase1", SweepResult, unreadable),
        loop=_facts(folder, "phase2", LoopOutcome, unreadable),
        final=_facts(folder, "phase3", SweepResult, unreadable),
        sweeps=_sweeps(folder, unreadable),
        state=_mapping(folder / STATE_FILE, unreadable),
        handover=_mapping(folder / JOURNAL, unreadable),
        preflight=_mapping(folder / PREFLIGHT, unreadable),
        stopped_with=("", "") if result else _stopped_with(folder / SUMMARY),
        unreadable=unreadable,
    )


def _facts(folder: Path, phase: str, kind: type[Facts], unreadable: list[str]) -> Facts | None:
    return _read(folder / f"{phase}.done.json", kind.model_validate, unreadable)


def _mapping(file: Path, unreadable: list[str]) -> dict[str, Any]:
    found = _read(file, lambda content: content, unreadable)
    return found if isinstance(found, dict) else {}


Read = TypeVar("Read")


def _read(file: Path, parse: Callable[[Any], Read], unreadable: list[str]) -> Read | None:
    """The content of a file; a file that is spoilt is told and is as one that is not there."""
    if not file.is_file():
        return None
    try:
        return parse(read_json(file))
    except ValidationError as error:
        unreadable.append(f"{file}: {explained(error)}")
    except InputError as error:
        unreadable.append(str(error))
    return None


def _sweeps(folder: Path, unreadable: list[str]) -> dict[str, SweepFiles]:
    found = {}
    for phase, name in SWEEPS.items():
        if not any((folder / name / file).is_file() for file in SWEEP_FILES):
            continue
        try:
            found[phase] = read_sweep(folder / name)
        except InputError as error:
            unreadable.append(str(error))
    return found


def _stopped_with(summary: Path) -> tuple[str, str]:
    """The error that the summary of a stopped run tells."""
    found = FAILED.search(summary.read_text(encoding="utf-8")) if summary.is_file() else None
    return (found[1], found[2]) if found else ("", "")


def _measured(state: dict[str, Any]) -> list[Stage]:
    """The phases of an unfinished loop that were measured."""
    contract = state.get("metric_contract", {})
    stages = []
    for label, phase in state.get("iterations", {}).items():
        result = phase.get("metric_result")
        if not result or label == "final_automl":
            continue
        stages.append(
            Stage(
                stage=label,
                set="KPI",
                metric=contract.get("display_name", result.get("name", "metric")),
                value=result["value"],
                unit=result.get("unit", ""),
                smaller_is_better=contract.get("operator", "<") in ("<", "<="),
                threshold=phase.get("threshold"),
                rows=phase.get("training_rows"),
                checkpoint=phase.get("best_ckpt_path"),
            )
        )
    return stages
