"""From the first sweep to the loop: the tuned spec takes the place of the base spec (spec pipeline 5).

Four steps, each idempotent and written into `handoff12.json` when it is done: spec, checkpoint, state, start.
The first is here; the profile does the two that know what a checkpoint is, and the pipeline starts the loop.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.artifacts import existing_file, read_json, write_json, write_text, write_yaml
from tasks.automl.best_rec import BestRec, merged_baseline
from tasks.errors import InputError
from tasks.spec import read_mapping

JOURNAL = "handoff12.json"
STEPS = ("spec", "checkpoint", "state", "start")
TUNED = "baseline_spec_automl.yaml"
ORIGINAL = "baseline_spec.original.yaml"
APPROVED = "approved_spec.yaml"


class Journal:
    """Which steps of the hand-over are done, with their facts."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / JOURNAL
        self.steps: dict[str, Any] = read_json(self._file) if self._file.is_file() else {}

    def done(self, step: str, **facts: Any) -> None:
        """Write that a step is done."""
        assert step in STEPS
        self.steps[step] = facts
        write_json(self._file, self.steps)


def keep_base_spec(folder: Path, base_file: Path) -> Path:
    """Copy the base spec into the run when it is approved: later the workspace's is the tuned one."""
    kept = folder / APPROVED
    if not kept.is_file():
        write_text(kept, existing_file(base_file, "base spec").read_text(encoding="utf-8"))
    return kept


def place_spec(folder: Path, base_file: Path, best: BestRec) -> dict[str, Any]:
    """Step 1: write the tuned spec beside the base spec, keep the original, and put it in its place.

    Gives the facts of the step: the changed keys with their values before and after.

    Raises:
        InputError: the workspace's spec is neither the approved nor the tuned one: somebody changed it.
    """
    approved = folder / APPROVED
    merged, changes = merged_baseline(read_mapping(approved, "approved spec"), best)
    tuned = base_file.with_name(TUNED)
    original = base_file.with_name(ORIGINAL)
    if read_mapping(base_file, "base spec") not in (read_mapping(approved, "approved spec"), merged):
        raise InputError(
            f"{base_file} was changed since the approval; restore it from {approved} or start a new run"
        )
    if not original.is_file():
        write_text(original, approved.read_text(encoding="utf-8"))
    write_yaml(tuned, merged)
    write_yaml(base_file, merged)
    return {"tuned": str(tuned), "original": str(original), "changes": changes}
