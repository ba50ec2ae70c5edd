"""The DEFT loop for AOI: find what the model is weakest on, mine look-alikes, retrain, measure, repeat."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from pydantic import Field

from blocks.reaping import reap
from blocks.runtime import Runtime
from flows.approved import hold_to
from flows.deft_steps import STEPS
from flows.named import encoder_named, metric_named, workspace_root
from flows.reports import report_loop
from tasks.deft.audit import audit
from tasks.deft.commits import commit, commit_error
from tasks.deft.report import LOOP_REPORT
from tasks.deft.run import LoopSettings, RegressionGate, Run, opened_run
from tasks.deft.stages import Step
from tasks.deft.state import DeftState
from tasks.deft.trajectory import status_line, trajectory_table
from tasks.errors import DeftError, InputError, StageFailed
from tasks.gap_analysis.spot_check import SpotCheck
from tasks.stage import load_runtime

logger = logging.getLogger("deft.flow")

WARN_WHEN_WORSE = RegressionGate()
BY_RULES = SpotCheck()


@flow(name="deft-aoi", on_cancellation=[reap])
def deft_aoi(
    workspace: Path,
    max_iterations: Annotated[int, Field(ge=1)],
    metric: str | dict[str, Any] = "FAR < 10% at Recall=100%",
    min_recall: Annotated[float, Field(ge=0, le=1)] = 1.0,
    top_k_per_label: Annotated[int, Field(ge=1)] = 50,
    topn: Annotated[int, Field(ge=1)] = 5,
    knn_metric: Literal["cosine", "euclidean", "manhattan"] = "cosine",
    min_similarity: Annotated[float, Field(ge=-1, le=1)] = 0.9,
    filter_by_label: bool = True,
    max_new_rows: Annotated[int, Field(ge=0)] | None = None,
    selection: Literal["nearest", "nearest_defects", "random"] = "nearest_defects",
    sdg_source: Literal["open", "pregenerated", "anomalygen", "none"] = "open",
    num_sdg: Annotated[int, Field(ge=1)] = 20,
    pregenerated_dir: Path | None = None,
    project: str = "board",
    paint_on: Literal["golden", "pass_sample"] = "pass_sample",
    min_allocation_ratio: Annotated[float, Field(ge=0, le=1)] = 0.5,
    encoder: Literal["ChangeNet", "SigLIP", "CLIP"] = "ChangeNet",
    encoder_path: str | None = None,
    num_epochs: Annotated[int, Field(ge=1)] | None = None,
    regression_gate: RegressionGate = WARN_WHEN_WORSE,
    spot_check: SpotCheck = BY_RULES,
    seed: Annotated[int, Field(ge=0)] = 1234,
    results_dir: Path | None = None,
    runtime: str = "inline",
    approved: Path | None = None,
    approval_token: str | None = None,
) -> DeftState:
    """Train a baseline, then work on its weakest samples and retrain until the metric is met.

    The baseline is trained, run over the KPI set, measured, and its weakest samples are found. Each
    iteration routes the weak samples, makes synthetic pairs of their defects, mines look-alikes from
    the pool, adds both to the training set, trains from the best model so far and measures again. The
    loop stops when the metric contract passes or after `max_iterations`, and hands over its best model.
    The same command goes on where a stopped run ended.

    Args:
        workspace: folder with images, specs, train, kpi and mining pool, or workspace/NAME.
        max_iterations: rounds of improvement at most, 1 or more.
        metric: what must hold for the loop to stop, for instance "FAR < 10% at Recall=100%", the fields
            of a metric contract whose evaluator is a command or an awaited file, or metric-contract/NAME.
        min_recall: share of defects that gap analysis must find, 0 to 1.
        top_k_per_label: weakest samples kept of each label.
        topn: nearest pool images looked up for each weak sample.
        knn_metric: distance between embeddings.
        min_similarity: lowest cosine similarity of a mined image to its weak sample.
        filter_by_label: look for the neighbours of a weak sample among the pool images of its label.
        max_new_rows: at most so many mined samples per iteration; none means all, 0 switches mining off.
        selection: nearest pool samples; or nearest defects, and as many PASS samples as would be nearest
            drawn by chance; or all at random, as a control.
        sdg_source: who makes synthetic pairs: our own generator (open), NVIDIA's container
            (anomalygen), a folder of finished pairs (pregenerated), or nobody (none).
        num_sdg: synthetic pairs asked for in each iteration.
        pregenerated_dir: the folder that holds sdg/, for sdg_source=pregenerated.
        project: name of the texture, the part before + in the names of synthetic defects.
        paint_on: our generator paints on the test crops of PASS rows, whose golden crop is then the OK
            picture, so that pairs differ as real ones do; or on golden crops.
        min_allocation_ratio: least share of the pairs asked for that must find a place.
        encoder: ChangeNet uses the best model so far; SigLIP and CLIP need a snapshot or the hub.
        encoder_path: local snapshot or hub id of a SigLIP or CLIP encoder, or encoder/NAME.
        num_epochs: epochs of each training; none takes the number in the workspace's spec.
        regression_gate: what happens when an iteration is worse than the best before it.
        spot_check: who says why the weakest samples are weak, for the report; no answer is waited for.
        seed: seed of training and of random choices.
        results_dir: folder of the run; by default the unfinished run of equal settings, else a new one.
        runtime: where actions run: inline, or the type/name of a saved runtime block.
        approved: summary of the pipeline's preflight that this loop is part of.
        approval_token: the hash with which it was approved.
    """
    workspace, metric = workspace_root(workspace), metric_named(metric)
    encoder, encoder_path = encoder_named(encoder, encoder_path)
    chosen = dict(locals())
    hold_to(approved, approval_token, "loop", chosen)
    settings = settings_of(chosen)
    place = load_runtime(runtime)
    _check_generator(settings, place)
    with opened_run(workspace, settings, results_dir, spot_check=spot_check) as run:
        logger.info("run folder: %s", run.folder)
        state = run.state
        while step := state.next_step():
            state = take(run, step, place)
            logger.info(status_line(state))
        _verify(state)
        report_loop(run, require_terminal=True)
        logger.info("%s", trajectory_table(state, run.contract))
        logger.info("handed over: %s", (state.final_artifacts or {})["best_model_inference_spec"])
        logger.info("report: %s", run.folder / LOOP_REPORT)
        return state


def settings_of(parameters: Mapping[str, Any]) -> LoopSettings:
    """The settings of a loop from the parameters of its flow."""
    settings = {name: parameters[name] for name in LoopSettings.model_fields}
    folder = settings["pregenerated_dir"]
    return LoopSettings.model_validate({**settings, "pregenerated_dir": folder and Path(folder).absolute()})


def take(run: Run, step: Step, runtime: Runtime) -> DeftState:
    """Do one step and commit it; a failed one is committed as failed, so that it is tried again."""
    started = time.monotonic()
    try:
        done = STEPS[step.stage](run, step, runtime)
        return commit(
            run.folder,
            step,
            done.summary,
            time.monotonic() - started,
            skip_reason=done.skip_reason,
            final_artifacts=done.final_artifacts,
            **done.fields,
        )
    except DeftError as error:
        commit_error(run.folder, step, str(error), time.monotonic() - started)
        raise
    finally:
        report_loop(run)


def _check_generator(settings: LoopSettings, runtime: Runtime) -> None:
    if settings.sdg_source == "anomalygen" and not runtime.runs_nvidia:
        raise InputError(
            "sdg_source=anomalygen needs a runtime that starts NVIDIA's image, and "
            f"{runtime.get_block_type_slug()} runs our own code: use sdg_source=open or another runtime"
        )
    if (settings.sdg_source == "pregenerated") != (settings.pregenerated_dir is not None):
        raise InputError("pregenerated_dir, the folder that holds sdg/, goes with sdg_source=pregenerated")


def _verify(state: DeftState) -> None:
    """Do not claim that a run is complete unless its files say so."""
    findings = audit(state)
    if findings:
        raise StageFailed(f"the finished run does not hold: {'; '.join(one.text for one in findings)}")
