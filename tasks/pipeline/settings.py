"""What a person chooses for a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.automl.settings import SweepSettings

Mode = Literal["full", "loop_only", "automl_only"]
NoGain = Literal["pause", "warn", "stop"]


class PipelineSettings(BaseModel):
    """Everything that an approval covers; `flows.pipeline.deft_pipeline` says what each means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workspace: Path
    runtime: str
    profile: Literal["aoi_changenet", "image_classifier"]
    mode: Mode
    metric: str | None
    phase1: SweepSettings
    phase3: SweepSettings
    loop: dict[str, Any]
    skip_phase1: bool
    skip_phase3: bool
    phase3_when: Literal["always", "if_not_met"]
    baseline_checkpoint: Path | None
    no_gain: NoGain
    per_job_minutes: Annotated[float, Field(gt=0)] | None

    @model_validator(mode="after")
    def _checkpoint_is_used(self) -> PipelineSettings:
        if self.baseline_checkpoint is not None and self.sweeps_first:
            raise ValueError("baseline_checkpoint takes the place of phase 1; give skip_phase1 with it")
        return self

    @model_validator(mode="after")
    def _something_runs(self) -> PipelineSettings:
        if self.mode == "automl_only" and self.skip_phase1:
            raise ValueError("mode automl_only with skip_phase1 leaves nothing to run; drop one of them")
        return self

    @property
    def sweeps_first(self) -> bool:
        """Whether phase 1 runs."""
        return self.mode != "loop_only" and not self.skip_phase1

    @property
    def skipped(self) -> dict[str, str]:
        """Why a phase of the mode does not run, by its name."""
        reasons = {}
        if self.mode != "loop_only" and self.skip_phase1:
            reasons["phase1"] = "skip_phase1"
        if self.mode == "full" and self.skip_phase3:
            reasons["phase3"] = "skip_phase3"
        return reasons

    def corrected(self, corrections: dict[str, Any]) -> PipelineSettings:
        """The same with what a person corrected at the gate."""
        values = self.model_dump()
        for name, value in corrections.items():
            if name == "max_iterations":
                values["loop"]["max_iterations"] = value
            elif name in ("phase1_trials", "phase3_trials"):
                values[name.removesuffix("_trials")]["trials"] = value
            else:
                values[name] = value
        return PipelineSettings.model_validate(values)
