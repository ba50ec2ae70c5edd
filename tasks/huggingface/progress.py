"""PROGRESS.md: what happened in a run, line by line. A step without a line did not happen."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from tasks.artifacts import now, read_json, write_json, write_text
from tasks.reports.markdown import NONE, escaped, table

Sign = Literal["✅", "⚠️", "❌"]
RECORD = Path("meta") / "progress.json"
PAGE = "PROGRESS.md"
MILESTONES = ("start", "discover", "data", "script", "train", "deliver")


class Bug(BaseModel):
    """An error that was met, and what helped."""

    model_config = ConfigDict(frozen=True)

    symptom: str
    root_cause: str
    fix: str
    test_added: str = "none"


class Line(BaseModel):
    """One thing that happened."""

    model_config = ConfigDict(frozen=True)

    at: str
    milestone: str
    sign: Sign
    text: str
    bug: Bug | None = None


class Progress:
    """The diary of a project, kept in `meta/progress.json` and shown in `PROGRESS.md`."""

    def __init__(self, project: Path, config: Mapping[str, Any], *, enabled: bool) -> None:
        """Open the diary; one that is not enabled writes nothing."""
        self._project, self._config, self._enabled = project, config, enabled

    def say(self, milestone: str, text: str, sign: Sign = "✅", bug: Bug | None = None) -> None:
        """Add a line, with the bug that it tells of below it."""
        if self._enabled:
            self._keep([*self.lines(), Line(at=now(), milestone=milestone, sign=sign, text=text, bug=bug)])

    def lines(self) -> list[Line]:
        """Every line so far."""
        file = self._project / RECORD
        return [Line.model_validate(one) for one in read_json(file)] if file.is_file() else []

    def finish(self, status: str, metric: str, assets: Mapping[str, object]) -> None:
        """Write the page once more with its summary."""
        if self._enabled:
            rows = [("Status", status), ("Primary metric", metric), *assets.items()]
            self._write(self.lines(), f"## Summary\n\n{table(['What', 'Value'], rows)}\n")

    def _keep(self, lines: list[Line]) -> None:
        write_json(self._project / RECORD, [line.model_dump() for line in lines])
        self._write(lines, "")

    def _write(self, lines: list[Line], summary: str) -> None:
        begun = lines[0].at if lines else now()
        data = self._config.get("dataset_id") or self._config.get("local_dataset_path")
        head = table(
            ["Project", "Model", "Dataset", "Start"],
            [(self._project.name, self._config.get("model_id"), data, begun)],
        )
        told = "\n".join(_told(line, begun) for line in lines)
        text = f"# Progress\n\n{head}\n\n{milestones(lines)}\n\n## What happened\n\n{told}\n"
        write_text(self._project / PAGE, f"{text}\n{summary}" if summary else text)


def milestones(lines: list[Line]) -> str:
    """When each milestone was reached, and how long after the start."""
    last = {line.milestone: line.at for line in lines if line.sign == "✅"}
    begun = lines[0].at if lines else None
    rows = [(name, last.get(name), _elapsed(begun, last.get(name))) for name in MILESTONES]
    rows.append(("total", lines[-1].at if lines else None, _elapsed(begun, lines[-1].at if lines else None)))
    return table(["Milestone", "Reached", "Elapsed"], rows)


def _told(line: Line, begun: str) -> str:
    text = f"- {line.at} [{_elapsed(begun, line.at)}] {line.sign} {escaped(line.text)}"
    if line.bug is None:
        return text
    parts = ("symptom", "root_cause", "fix", "test_added")
    return "\n".join(
        [text, *(f"    - {part.replace('_', ' ')}: {escaped(getattr(line.bug, part))}" for part in parts)]
    )


def _elapsed(begun: str | None, at: str | None) -> str:
    if begun is None or at is None:
        return NONE
    seconds = int((_time(at) - _time(begun)).total_seconds())
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
