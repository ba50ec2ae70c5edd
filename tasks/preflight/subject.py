"""What is to be approved: the subject of a preflight, as the caller describes it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, PositiveFloat, PositiveInt

from tasks.spec import plain

Mode = Literal["full", "loop_only", "automl_only"]
Profile = Literal["aoi_changenet", "image_classifier"]
Phase = Literal["phase1", "loop", "phase3"]
Outcome = Literal["ok", "warn", "block", "not_applicable", "failed"]
"""Of a check."""

PHASES_OF: dict[Mode, tuple[Phase, ...]] = {
    "full": ("phase1", "loop", "phase3"),
    "loop_only": ("loop",),
    "automl_only": ("phase1",),
}
PHASE_NAMES: dict[Phase, str] = {
    "phase1": "phase 1 (sweep)",
    "loop": "phase 2 (DEFT loop)",
    "phase3": "phase 3 (sweep)",
}
NETWORK: dict[Profile, str] = {
    "aoi_changenet": "visual_changenet",
    "image_classifier": "image_classifier",
}
"""The action category that trains the model of each profile."""

JsonMapping = Annotated[dict[str, JsonValue], BeforeValidator(plain)]
PlainMapping = Annotated[dict[str, Any], BeforeValidator(plain)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SpaceRow(_Part):
    """A hyper-parameter of a sweep: searched, pinned, inert (without effect), or left out as it is."""

    parameter: str
    role: Literal["searched", "pinned", "inert", "left out"]
    range: str = ""
    scale: str = ""
    reason: str = ""


class SweepPhase(_Part):
    """What a person chose for a sweep.

    Attributes:
        trials: how many configurations are trained.
        metric: what the sweep ranks by; `direction` says which way is better.
        selection: how the winner is chosen among the best.
        training_set: the rows that are trained on, in words or as a path.
        validation_set: the rows that rank the trials; never the KPI set.
        results_dir: where the sweep writes, without a name that the clock gives.
        spec_source: the spec that trial 0 runs as it is.
        concurrency: trials at the same time.
        warm_start: what every trial starts from; None is a cold start.
        space: every hyper-parameter that the search knows.
        more: other rows for the table.
    """

    algorithm: str
    trials: PositiveInt
    metric: str
    direction: Literal["minimise", "maximise"]
    selection: str = ""
    training_set: str
    validation_set: Path
    results_dir: Path
    spec_source: str
    seed: int | None = None
    concurrency: PositiveInt = 1
    warm_start: str | None = None
    space: tuple[SpaceRow, ...] = ()
    more: JsonMapping = {}


class LoopPhase(_Part):
    """What a person chose for the data loop.

    Attributes:
        settings: the loop's own settings as plain values; for AOI the fields of `LoopSettings`.
        baseline: where the baseline comes from: trained by the loop, or the winner of phase 1, or a file.
        results_dir: the folder of run folders, without a name that the clock gives.
    """

    settings: PlainMapping
    baseline: str
    results_dir: Path


class Subject(_Part):
    """All that the summary is about.

    Attributes:
        workspace: the folder of the task's data.
        runtime_name: where actions run, as the person wrote it; required, there is no default platform.
        starts_images: whether that runtime starts the images that actions name.
        images: the images that the phases need, by their keys in the versions file.
        parameters: every parameter that the person chose; this is what an approval covers. Those of a
            phase lie below its name, `phase1`, `loop` or `phase3`.
        phase1: the first sweep; None when it is off, and so for the others.
        skipped: why a phase of the mode is off, by its name.
        per_job_minutes: of one training on the base set; None when nobody knows.
        resuming: whether an unfinished run is taken up again.
        network_mode: when the person says so; None leaves it to the environment.
        environment: variables, of which only presence counts for secrets.
    """

    workspace: Path
    mode: Mode
    profile: Profile
    runtime_name: str
    starts_images: bool
    images: dict[str, str] = {}
    parameters: JsonMapping
    phase1: SweepPhase | None = None
    loop: LoopPhase | None = None
    phase3: SweepPhase | None = None
    skipped: dict[Phase, str] = {}
    per_job_minutes: PositiveFloat | None = None
    resuming: bool = False
    network_mode: Literal["airgap", "network-enabled"] | None = None
    environment: Mapping[str, str] = Field(default_factory=lambda: dict(os.environ), repr=False, exclude=True)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of the mode that are on."""
        return tuple(phase for phase in PHASES_OF[self.mode] if getattr(self, phase) is not None)
