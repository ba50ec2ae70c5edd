"""A night: when production has brought something new, make the model better, and deliver it only if it is."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from prefect import State, flow
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed
from pydantic_core import to_jsonable_python

from blocks.reaping import reap
from flows.approved import own_parameters
from flows.named import workspace_root
from flows.pipeline import LOOP, PHASE1, PHASE3, deft_pipeline
from flows.profiles import Profile, open_profile
from tasks.artifacts import existing_file, now, read_json, sha256_of
from tasks.automl.settings import SweepSettings
from tasks.deft.nights import (
    LATEST_BEST,
    LOCK,
    Best,
    Content,
    Figure,
    Night,
    choose,
    content_of,
    measured_by,
    nothing_new,
    point_at,
    read_best,
    read_history,
    remember,
    starting_model,
    what_is_new,
)
from tasks.deft.stages import FINAL
from tasks.evaluation.contract import MetricContract, MetricResult
from tasks.pipeline.trajectory import SUMMARY, PipelineResult, markdown_table
from tasks.preflight.look import sets_of
from tasks.preflight.sets import BASE_SPEC
from tasks.run_folder import held

logger = logging.getLogger("deft.flow")

HANDED_OVER = ("best_model.json", "best_model_inference_spec.yaml", SUMMARY)
ARTIFACT = "nightly"


@flow(name="nightly", on_cancellation=[reap])
def nightly(
    workspace: Path,
    runtime: str,
    profile: Literal["aoi_changenet", "image_classifier"] = "aoi_changenet",
    mode: Literal["loop_only", "full"] = "loop_only",
    loop: dict[str, Any] = LOOP,
    phase1: SweepSettings = PHASE1,
    phase3: SweepSettings = PHASE3,
    metric: str | None = None,
    phase3_when: Literal["always", "if_not_met"] = "always",
    only_when_new: bool = True,
    continue_from_best: bool = True,
) -> State[Night | None]:
    """Run the pipeline unattended when there is something new, and deliver its model if it is the best yet.

    A night without new pool rows, other data sets or other parameters since the last one that completed
    ends at once and says so. Otherwise the pipeline runs, approved beforehand, from the best model so far.
    `results/latest_best.json` of the workspace names the model to use, and goes over to tonight's unless
    that is no better on the same KPI set. `results/nights.jsonl` keeps a line of each night. A night that
    failed is tried again the next night, from where its run stopped.

    Args:
        workspace: folder with images, specs and data sets, or workspace/NAME of a saved one.
        runtime: where actions run: inline, or the type/name of a saved runtime block. Has to be said.
        profile: the kind of model.
        mode: the data loop alone, or with sweeps before and after it; the sweep before is left out while
            a night goes on from a model and neither base set nor base spec changed.
        loop: parameters of the profile's loop by name, such as max_iterations, metric or num_sdg.
        phase1: settings of the sweep on the base data, for mode full.
        phase3: settings of the sweep on the enlarged data, for mode full.
        metric: what the sweeps optimise on the validation set; none takes the profile's own.
        phase3_when: always, or only when the loop has not met its metric.
        only_when_new: end at once when nothing is new.
        continue_from_best: start from the best model of the earlier nights; else each night begins anew.
    """
    workspace = workspace_root(workspace)
    kind = open_profile(profile, workspace)
    parameters = {
        "runtime": runtime, "profile": profile, "mode": mode, "metric": metric, "phase3_when": phase3_when,
        "loop": {**LOOP, **loop}, "phase1": phase1, "phase3": phase3,
    }  # fmt: skip
    results = kind.root / "results"
    with held(results, LOCK):
        try:
            return _night(kind, parameters, only_when_new, continue_from_best)
        except Exception as error:
            _tell_failure(error, results / LATEST_BEST)
            raise


def _night(
    kind: Profile, parameters: dict[str, Any], only_when_new: bool, continue_from_best: bool
) -> State[Night | None]:
    results, begun = kind.root / "results", now()
    last = next(reversed(read_history(results)), None)
    whole = kind.loop_parameters(kind.root, parameters["loop"])
    tonight = _content(kind, parameters, whole)
    why = what_is_new(tonight, last)
    if last and not why and only_when_new:
        return _ended_early(last)
    why = why or ["it was asked to, although nothing is new"]
    start, said = None, "anew, as asked"
    if continue_from_best:
        sweeps = parameters["mode"] == "full"
        start, said = starting_model(read_best(results), tonight, last, sweeps=sweeps)
    logger.info("tonight runs because %s; start: %s", "; ".join(why), said)
    skip_phase1 = start is not None and parameters["mode"] == "full"
    result = deft_pipeline(
        kind.root, **parameters, no_gain="warn", yes=True, baseline_checkpoint=start, skip_phase1=skip_phase1
    )
    assert result is not None
    contract = MetricContract.of(whole["metric"])
    return _concluded(kind, contract, tonight, result, date=begun, why=why, start=said)


def _content(kind: Profile, parameters: Mapping[str, Any], whole: Mapping[str, Any]) -> Content:
    """What tonight would be about; `whole` are the loop's parameters as its flow will know them."""
    sets = sets_of(kind.name, kind.root, whole)
    spaces = {
        f"{phase}.search_space": parameters[phase].search_space
        for phase in ("phase1", "phase3")
        if parameters[phase].search_space
    }
    files = {name: existing_file(path, name) for name, path in spaces.items()}
    return content_of(sets, to_jsonable_python({**parameters, "loop": own_parameters(whole)}), files)


def _ended_early(last: Night) -> State[Night | None]:
    text = nothing_new(last)
    logger.info("%s", text)
    create_markdown_artifact(
        f"# Nothing new\n\n{text[0].upper()}{text[1:]}. Nothing ran.\n\nThen {last.decided}.\n",
        key=ARTIFACT,
        description=text,
    )
    return Completed(name="Nothing new", message=text, data=None)


def _tell_failure(error: Exception, pointer: Path) -> None:
    stays = f"the model of {pointer} stays the one to use" if pointer.is_file() else "no model is there yet"
    lines = [
        f"tonight failed: {' '.join(str(error).split()) or type(error).__name__}",
        f"{stays}; the next night tries again, and goes on where this run stopped if the data are the same",
    ]
    for line in lines:
        logger.error("%s", line)
    create_markdown_artifact("# Failed\n\n" + "\n\n".join(lines) + "\n", key=ARTIFACT, description=lines[0])


def _concluded(
    kind: Profile,
    contract: MetricContract,
    tonight: Content,
    result: PipelineResult,
    **facts: Any,
) -> State[Night | None]:
    """Deliver the better model, keep the night, and say what happened."""
    results = kind.root / "results"
    before = read_best(results)
    # The first sweep may have put its tuned spec in the place of the base spec.
    tonight = tonight.with_spec(kind.base_file)
    candidate = Best(
        checkpoint=result.checkpoint,
        sha256=sha256_of(result.checkpoint),
        threshold=result.threshold,
        figure=_figure(result, contract),
        measured_by=measured_by(tonight, contract),
        base_spec=tonight.sets[BASE_SPEC],
        date=facts["date"],
        run_folder=result.folder,
        links={name: result.folder / name for name in HANDED_OVER if (result.folder / name).is_file()},
    )
    best, decided = choose(candidate, before)
    night = Night(
        **facts,
        content=tonight,
        run_folder=result.folder,
        delivered=result.delivered,
        figure=candidate.figure,
        replaced=best is candidate,
        decided=decided,
    )
    if night.replaced:
        point_at(results, best)
    remember(results, night)
    create_markdown_artifact(_report(night, best, result), key=ARTIFACT, description=decided)
    logger.info("%s", decided)
    logger.info("model to use: %s", best.checkpoint)
    return Completed(message=decided, data=night)


def _figure(result: PipelineResult, contract: MetricContract) -> Figure:
    """The figure of the delivered model, and whether the constraints of the loop's metric hold for it."""
    label = "phase 3 best" if result.delivered == FINAL else result.delivered
    stage = next(one for one in result.stages if one.stage == label and one.set == "KPI")
    facts = result.folder / "best_model.json"
    feasible = True
    if facts.is_file():
        feasible = contract.feasible(MetricResult.model_validate(read_json(facts)["metric_result"]))
    return Figure(
        metric=stage.metric,
        value=stage.value,
        unit=stage.unit,
        smaller_is_better=stage.smaller_is_better,
        feasible=feasible,
    )


def _report(night: Night, best: Best, result: PipelineResult) -> str:
    """What happened tonight, for a person with the morning coffee."""
    files = [*(f"- {name}: `{path}`" for name, path in best.links.items()), f"- run `{night.run_folder}`"]
    return "\n".join(
        [
            f"# Night of {night.day}: {'a new model is delivered' if night.replaced else 'no better model'}",
            "",
            f"**{night.decided[0].upper()}{night.decided[1:]}.**",
            "",
            f"It ran because {'; '.join(night.why)}. Start: {night.start}.",
            "",
            f"Model to use: `{best.checkpoint}`, from the night of {best.date[:10]}.",
            "",
            *markdown_table(result.stages),
            "",
            f"{result.reason}",
            "",
            *[f"- warning: {text}" for text in result.warnings],
            *files,
            "",
        ]
    )
