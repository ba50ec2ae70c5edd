"""The one summary of a preflight, its hash, and what an approval of it covers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.artifacts import only_grown, read_json
from tasks.errors import DeftError, InputError, listed
from tasks.preflight.registry import Finding
from tasks.preflight.sets import BASE_SPEC, PAIRS, POOL, content_digest
from tasks.preflight.subject import Mode, Phase, Profile
from tasks.spec import digest, explained, plain

ABSENT = "(absent)"
NOT_HELD: dict[Phase, tuple[str, ...]] = {
    "phase1": (POOL, PAIRS),
    "loop": (BASE_SPEC,),
    "phase3": (BASE_SPEC, POOL, PAIRS),
}
"""What may change before a phase begins: the hand-over after phase 1 puts the tuned spec in the place of the
base spec, and sweeps do not read the pool. Production adds rows to the pool while a loop runs; that it only
grew is no change either."""


class CoveredFile(BaseModel):
    """A data file (or folder) and what it held; `size` in bytes, None for a folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    sha256: str
    size: int | None = None

    @property
    def unchanged(self) -> bool:
        """Whether it holds what it held."""
        return content_digest(self.path) == self.sha256

    @property
    def only_grown(self) -> bool:
        """Whether something was added at its end, and nothing else is other than it was."""
        return self.size is not None and only_grown(self.path, self.sha256, self.size)


class Covers(BaseModel):
    """What an approval of the summary is an approval of.

    Attributes:
        parameters: all that the person chose; those of a phase below its name.
        files: CSVs or folders of the sets, and the base spec, by content.
        images: by set one digest over the contents of all its images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    parameters: dict[str, Any]
    files: dict[str, CoveredFile]
    images: dict[str, str]


class Summary(BaseModel):
    """What a preflight found; without clock or free space, so that nothing changed means the same token."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workspace: Path
    mode: Mode
    profile: Profile
    phases: tuple[Phase, ...]
    findings: tuple[Finding, ...]
    missing_checks: tuple[str, ...]
    covers: Covers

    @property
    def gate_valid(self) -> bool:
        """Whether every check of the register was executed and could look."""
        return not self.missing_checks

    @property
    def blockers(self) -> tuple[str, ...]:
        """What a person must mend first, a line each."""
        return tuple(f"{one.id}: {one.text}" for one in self.findings if one.outcome == "block")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know, a line each."""
        return tuple(f"{one.id}: {one.text}" for one in self.findings if one.outcome == "warn")

    @property
    def token(self) -> str:
        """The SHA-256 of the whole summary; giving it back approves exactly this one."""
        return digest(self.model_dump(mode="json"))


def ready(summary: Summary) -> None:
    """Check that the summary may be put before a person.

    Raises:
        DeftError: a check is missing or could not look, or something blocks; the first ones are named.
    """
    if not summary.gate_valid:
        reasons = {one.id: one.text for one in summary.findings if one.outcome == "failed"}
        named = [f"{one} ({reasons.get(one, 'not executed')})" for one in summary.missing_checks]
        raise DeftError(f"the preflight is not valid, checks are missing: {listed(named, 5)}")
    if summary.blockers:
        raise DeftError(f"the preflight found what must be mended first: {listed(summary.blockers, 3)}")


def read(file: Path, token: str | None = None) -> Summary:
    """The summary of a JSON file.

    Raises:
        InputError: it is no summary, or was changed after it was written.
        DeftError: `token` is given and is not this summary's.
    """
    content = read_json(file)
    try:
        summary = Summary.model_validate(content["summary"])
    except (ValidationError, KeyError, TypeError) as error:
        reason = explained(error) if isinstance(error, ValidationError) else "it has no summary"
        raise InputError(f"{file} is not a preflight summary: {reason}; run the preflight again") from error
    if summary.token != content.get("token"):
        raise InputError(f"{file} was changed after it was written; run the preflight again")
    if token is not None and token != summary.token:
        raise DeftError(f"the approval is of another summary than {file}; look at it and approve it again")
    return summary


def covers_phase(summary: Summary, phase: Phase, parameters: dict[str, Any]) -> None:
    """Check that an approval of this summary is an approval of the phase with these parameters and data.

    Raises:
        DeftError: the summary was not fit for approval, the phase was not in it, or a parameter or a data
            file is another one now.
    """
    ready(summary)
    if phase not in summary.phases:
        raise DeftError(f"refused: the approval does not cover {phase}, only {', '.join(summary.phases)}")
    approved, given = flat(summary.covers.parameters.get(phase, {})), flat(plain(parameters))
    changed = [
        f"{key} {_shown(approved, key)} -> {_shown(given, key)}"
        for key in sorted(approved | given)
        if approved.get(key, ABSENT) != given.get(key, ABSENT)
    ]
    if changed:
        raise DeftError(
            f"refused: parameters of {phase} changed after approval: {listed(changed)}; approve again"
        )
    altered = [
        f"{name} {one.path}"
        for name, one in summary.covers.files.items()
        if name not in NOT_HELD[phase] and not one.unchanged and not (name == POOL and one.only_grown)
    ]
    if altered:
        raise DeftError(f"refused: data changed after approval: {listed(altered)}; approve again")


def _shown(values: dict[str, Any], key: str) -> str:
    return json.dumps(values.get(key, ABSENT), default=str)


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one of dotted keys; an empty mapping stays a value."""
    if not isinstance(value, dict) or (prefix and not value):
        return {prefix.rstrip("."): value}
    return {
        key: item for name, child in value.items() for key, item in flat(child, f"{prefix}{name}.").items()
    }
