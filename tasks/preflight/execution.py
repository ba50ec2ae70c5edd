"""Execution: every check of the mode and the profile, once, summed up."""

from __future__ import annotations

from pathlib import Path

from tasks.artifacts import sha256_of_all
from tasks.errors import DeftError
from tasks.preflight import closing, containers, credentials, data, host, loop, phases
from tasks.preflight.look import Look
from tasks.preflight.registry import Answer, Check, Finding, checks_for
from tasks.preflight.sets import content_digest
from tasks.preflight.steps import required
from tasks.preflight.subject import Phase, Subject
from tasks.preflight.summary import CoveredFile, Covers, Summary

CHECK_MODULES = (host, credentials, containers, data, phases, loop, closing)
"""Imported so that their checks are registered."""

COVERS = "covers"
"""Stands among the missing checks when what an approval would cover cannot be read whole."""


def summarise(subject: Subject) -> Summary:
    """Execute every check of the mode and the profile, once, and sum up.

    Reads every image; writes nothing below the workspace.
    """
    look = Look(subject)
    covers, reason = _covers(look)
    findings = execute(look)
    if reason:
        findings.append(Finding(id=COVERS, section=9, outcome="failed", text=reason))
    looked = {one.id for one in findings if one.outcome != "failed"}
    registered = (one.id for one in checks_for(subject.mode, subject.profile))
    expected = dict.fromkeys([*required(subject.mode), *registered, *([COVERS] if reason else [])])
    return Summary(
        workspace=subject.workspace,
        mode=subject.mode,
        profile=subject.profile,
        phases=subject.phases,
        findings=tuple(findings),
        missing_checks=tuple(one for one in expected if one not in looked),
        covers=covers,
    )


def execute(look: Look) -> list[Finding]:
    """The findings of all checks for the subject, in the order of the sections."""
    return [_executed(one, look) for one in checks_for(look.subject.mode, look.subject.profile)]


def _executed(one: Check, look: Look) -> Finding:
    is_off = one.phase is not None and getattr(look.subject, one.phase) is None
    try:
        found = _off(one.phase, look.subject) if one.phase and is_off else one.run(look)
    except Exception as error:  # noqa: BLE001 - whatever went wrong, the check has not looked
        found = Answer(outcome="failed", text=_one_line(error))
    return Finding(id=one.id, section=one.section, **found.model_dump())


def _off(phase: Phase, subject: Subject) -> Answer:
    reason = subject.skipped.get(phase)
    if not reason:
        return Answer(
            outcome="block", text=f"{phase} is off and nobody says why; give it, or a reason in skipped"
        )
    return Answer(outcome="not_applicable", text=f"off: {reason}")


def _one_line(error: Exception) -> str:
    said = " ".join(str(error).split())
    return said if isinstance(error, DeftError) and said else f"{type(error).__name__}: {said}"


def _covers(look: Look) -> tuple[Covers, str]:
    """What an approval covers, and why that cannot be said, in which case nothing can be approved."""
    parameters, sets = look.subject.parameters, look.sets
    try:
        files = {name: _covered(path) for name, path in sets.files.items()}
        images = {name: sha256_of_all(sets.images(name)) for name in sets.names}
    except (DeftError, OSError) as error:
        return Covers(parameters=parameters, files={}, images={}), _one_line(error)
    return Covers(parameters=parameters, files=files, images=images), ""


def _covered(path: Path) -> CoveredFile:
    size = path.stat().st_size if path.is_file() else None
    return CoveredFile(path=path.absolute(), sha256=content_digest(path), size=size)
