"""The DEFT loop for AOI: find what the model is weakest on, mine look-alikes, retrain, measure, repeat."""

import logging
import os
import time
from pathlib import Path
from typing import Annotated, Literal

from prefect import flow
from pydantic import Field

from blocks.runtime import Runtime
from flows.deft_steps import STEPS
from tasks.deft.run import LoopSettings, Run, opened_run
from tasks.deft.state import DeftState, Step, commit, commit_error
from tasks.deft.trajectory import status_line, trajectory_table
from tasks.errors import DeftError
from tasks.stage import load_runtime

logger = logging.getLogger("deft.flow")


@flow(name="deft-aoi")
def deft_aoi(
    workspace: Path,
    max_iterations: Annotated[int, Field(ge=1)],
    metric: str = "FAR < 10% at Recall=100%",
    min_recall: Annotated[float, Field(ge=0, le=1)] = 1.0,
    top_k_per_label: Annotated[int, Field(ge=1)] = 50,
    topn: Annotated[int, Field(ge=1)] = 5,
    knn_metric: Literal["cosine", "euclidean", "manhattan"] = "cosine",
    min_similarity: Annotated[float, Field(ge=-1, le=1)] = 0.9,
    filter_by_label: bool = False,
    max_new_rows: Annotated[int, Field(ge=1)] | None = None,
    selection: Literal["nearest", "random"] = "nearest",
    encoder: Literal["ChangeNet", "SigLIP", "CLIP"] = "ChangeNet",
    encoder_path: str | None = None,
    num_epochs: Annotated[int, Field(ge=1)] | None = None,
    seed: Annotated[int, Field(ge=0)] = 1234,
    results_dir: Path | None = None,
    runtime: str = "inline",
) -> DeftState:
    """Train a baseline, then mine for its weakest samples and retrain until the metric is met.

    The baseline is trained, run over the KPI set, measured, and its weakest samples are found. Each
    iteration routes the weak samples, mines look-alikes from the pool, adds them to the training set,
    trains from the best model so far and measures again. The loop stops when the metric contract
    passes or after `max_iterations`. The same command goes on where a stopped run ended.

    Args:
        workspace: folder with images, specs, train, kpi and mining pool.
        max_iterations: rounds of improvement at most, 1 or more.
        metric: what must hold for the loop to stop, for instance "FAR < 10% at Recall=100%".
        min_recall: share of defects that gap analysis must find, 0 to 1.
        top_k_per_label: weakest samples kept of each label.
        topn: nearest pool images looked up for each weak sample.
        knn_metric: distance between embeddings.
        min_similarity: lowest cosine similarity of a mined image to its weak sample.
        filter_by_label: keep only neighbours that have the label of their weak sample.
        max_new_rows: at most so many mined samples per iteration; none means all.
        selection: nearest, or random as a control that draws equally many pool samples by chance.
        encoder: ChangeNet uses the best model so far; SigLIP and CLIP need a snapshot or the hub.
        encoder_path: local snapshot or hub id of a SigLIP or CLIP encoder.
        num_epochs: epochs of each training; none takes the number in the workspace's spec.
        seed: seed of training and of random choices.
        results_dir: folder of the run; by default the unfinished run of equal settings, else a new one.
        runtime: where actions run: inline, or the type/name of a saved runtime block.
    """
    settings = LoopSettings(
        metric=metric,
        max_iterations=max_iterations,
        min_recall=min_recall,
        top_k_per_label=top_k_per_label,
        topn=topn,
        knn_metric=knn_metric,
        min_similarity=min_similarity,
        filter_by_label=filter_by_label,
        max_new_rows=max_new_rows,
        selection=selection,
        encoder=encoder,
        encoder_path=encoder_path,
        num_epochs=num_epochs,
        seed=seed,
    )
    place = load_runtime(runtime)
    with opened_run(workspace, settings, results_dir, offline=_offline()) as run:
        logger.info("run folder: %s", run.folder)
        state = run.state
        while step := state.next_step():
            state = take(run, step, place)
            logger.info(status_line(state))
        logger.info("%s", trajectory_table(state, run.contract))
        return state


def take(run: Run, step: Step, runtime: Runtime) -> DeftState:
    """Do one step and commit it; a failed one is committed as failed, so that it is tried again."""
    started = time.monotonic()
    try:
        done = STEPS[step.stage](run, step, runtime)
    except DeftError as error:
        commit_error(run.folder, step, str(error), time.monotonic() - started)
        raise
    return commit(
        run.folder,
        step,
        done.summary,
        time.monotonic() - started,
        skip_reason=done.skip_reason,
        final_artifacts=done.final_artifacts,
        **done.fields,
    )


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0") or os.environ.get("AIR_GAPPED") == "1"
