"""AutoML, DEFT, AutoML: tune on the base data, improve the data, tune again on the enlarged data."""

from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from pydantic import Field, ValidationError

from blocks.reaping import reap
from flows.gate import LOCK, approved_run, look
from flows.named import workspace_root
from flows.pipeline_phases import Pipeline
from flows.profiles import open_profile
from tasks.automl.settings import SweepSettings
from tasks.errors import InputError
from tasks.pipeline.settings import PipelineSettings
from tasks.pipeline.trajectory import PipelineResult
from tasks.run_folder import held
from tasks.spec import explained
from tasks.stage import load_runtime

PHASE1 = SweepSettings()
PHASE3 = SweepSettings(trials=6)
LOOP: dict[str, Any] = {"max_iterations": 3}


@flow(name="deft-pipeline", on_cancellation=[reap])
def deft_pipeline(
    workspace: Path,
    runtime: str,
    profile: Literal["aoi_changenet", "image_classifier"] = "aoi_changenet",
    mode: Literal["full", "loop_only", "automl_only"] = "full",
    phase1: SweepSettings = PHASE1,
    loop: dict[str, Any] = LOOP,
    phase3: SweepSettings = PHASE3,
    metric: str | None = None,
    skip_phase1: bool = False,
    skip_phase3: bool = False,
    phase3_when: Literal["always", "if_not_met"] = "always",
    baseline_checkpoint: Path | None = None,
    no_gain: Literal["pause", "warn", "stop"] = "pause",
    per_job_minutes: Annotated[float, Field(gt=0)] | None = None,
    yes: bool = False,
    approval_token: str | None = None,
    approval_timeout_hours: Annotated[float, Field(gt=0)] = 24.0,
    results_dir: Path | None = None,
    look_only: bool = False,
) -> PipelineResult | None:
    """Tune the training, improve the data in a loop, tune again, deliver the best: after one approval.

    First everything is looked at and summed up, and a person approves the summary; until then nothing is
    written and nothing runs. Phase 1 sweeps hyper-parameters on the base data; its winner becomes the
    baseline of phase 2, the data loop; phase 3 sweeps again on the enlarged data, every trial from the
    loop's best model. What is better on the KPI set is delivered. The same command goes on where a
    stopped run ended.

    Args:
        workspace: folder with images, specs and data sets, or workspace/NAME of a saved one.
        runtime: where actions run: inline, or the type/name of a saved runtime block. Has to be said.
        profile: the kind of model.
        mode: all three phases, the loop alone, or the first sweep alone.
        phase1: settings of the sweep on the base data.
        loop: parameters of the profile's loop by name, such as max_iterations, metric or num_sdg.
        phase3: settings of the sweep on the enlarged data.
        metric: what the sweeps optimise on the validation set; none takes the profile's own.
        skip_phase1: begin with the loop.
        skip_phase3: end with the loop.
        phase3_when: always, or only when the loop has not met its metric.
        baseline_checkpoint: a model that the loop takes as its trained baseline, with skip_phase1.
        no_gain: what happens when phase 1 is no better than a model without training: ask a person, go on
            with a warning, or stop. Where nobody was asked to approve, nobody is asked here: it goes on.
        per_job_minutes: minutes of one training, for the estimate of the preflight.
        yes: approve what the preflight shows without asking.
        approval_token: the hash of a summary that a person has seen and approved before.
        approval_timeout_hours: how long the run waits for a person.
        results_dir: folder of the run; by default the unfinished run of equal parameters, else a new one.
        look_only: show the summary with its hash, the approval_token, and end; nothing is written.
    """
    workspace = workspace_root(workspace)
    asked = _settings(
        workspace=workspace.expanduser().absolute(), runtime=runtime, profile=profile, mode=mode,
        metric=metric, phase1=phase1, loop={**LOOP, **loop}, phase3=phase3, skip_phase1=skip_phase1,
        skip_phase3=skip_phase3, phase3_when=phase3_when, no_gain=no_gain, per_job_minutes=per_job_minutes,
        baseline_checkpoint=baseline_checkpoint and baseline_checkpoint.absolute(),
    )  # fmt: skip
    kind, place = open_profile(profile, workspace), load_runtime(runtime)
    if look_only:
        look(asked, kind, place)
        return None
    run = approved_run(
        asked, kind, place,
        yes=yes, token=approval_token, folder=results_dir and results_dir.absolute(),
        timeout_seconds=round(approval_timeout_hours * 3600),
    )  # fmt: skip
    with held(run.folder, LOCK):
        return Pipeline(run, kind, place).run_phases()


def _settings(**values: Any) -> PipelineSettings:
    try:
        return PipelineSettings.model_validate(values)
    except ValidationError as error:
        raise InputError(f"deft-pipeline: {explained(error)}") from error
