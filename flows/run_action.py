"""One action by itself: what a work pool runs for a flow elsewhere, and what a person runs alone."""

import logging
from pathlib import Path
from typing import Annotated, Any

from omegaconf import OmegaConf
from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from blocks.pool_run import LeftOutcome, outcome_file
from blocks.reaping import reap
from blocks.runtime import ActionOutcome, ActionRequest
from tasks.action import Action
from tasks.artifacts import write_json
from tasks.errors import EXIT_STATUS_OF, DeftError, StageFailed, UsageError
from tasks.registry import ACTIONS, find_action
from tasks.spec import merged_spec
from tasks.stage import StageResult, load_runtime, run_stage

logger = logging.getLogger("deft.flow")

NO_VALUES: dict[str, Any] = {}
NO_ARGUMENTS: list[str] = []
NO_PATHS: dict[str, Path] = {}
NO_RESULTS: list[Path] = []


@flow(name="run-action", on_cancellation=[reap])
def run_action(
    action: Annotated[str, Field(json_schema_extra={"enum": [action.title for action in ACTIONS]})],
    spec_file: Path | None = None,
    values: dict[str, Any] = NO_VALUES,
    arguments: list[str] = NO_ARGUMENTS,
    runtime: str = "inline",
    refresh: bool = False,
    log_file: Path | None = None,
    image: str | None = None,
    key: str = "",
    paths: dict[str, Path] = NO_PATHS,
    results: list[Path] = NO_RESULTS,
    gpu: bool = False,
) -> ActionOutcome:
    """Run a single action, from a spec file, from values, or from words as on the command line.

    Without a log file it is a stage like those of the other flows: its spec is checked first, and an
    equal earlier run answers from the cache. The parameters from the log file on are filled in by a
    work pool runtime, whose flow has done that already: then the action runs as it is, and beside the
    log lies its outcome, for that flow to read, whether it went well or not.

    Args:
        action: category and name, for instance gap_analysis vcn_aoi.
        spec_file: YAML file with the action's spec.
        values: keys of the spec, in place of a file.
        arguments: words that win over the spec, each key=value, for instance min_recall=0.98.
        runtime: where the action runs: inline, or the type/name of a saved runtime block.
        refresh: compute even when an equal run is cached.
        log_file: where everything goes that the action says; none: beside its results.
        image: key, in the versions file, of the image that answers; none: the action's own.
        key: digest of the work; two calls with one digest are the same work.
        paths: every file and folder that the action reads or writes, by the name of the spec's key.
        results: of those the folders that it writes into.
        gpu: whether the action computes on a GPU where there is one.
    """
    category, _, name = action.partition(" ")
    known = find_action(category, name)
    if values and (spec_file or log_file):
        raise UsageError(f"{action}: values stand in place of a spec file, and go without a log file")
    if log_file is None:
        done = _as_stage(known, spec_file or values, arguments, runtime, refresh)
        return ActionOutcome(exit_status=0, error="", seconds=done.seconds, adopted=done.adopted)
    request = ActionRequest(
        category=category,
        argv=[name, *(["-e", str(spec_file)] if spec_file else []), *arguments],
        image=image or known.image,
        log_file=log_file,
        key=key,
        paths=paths,
        results=results,
        gpu=gpu,
    )
    outcome = _outcome_of(request, runtime)
    left = LeftOutcome(**outcome.model_dump(), run=str(flow_run.get_id()))
    write_json(outcome_file(log_file), left.model_dump(mode="json"))
    if outcome.exit_status:
        failure = EXIT_STATUS_OF.get(outcome.exit_status, StageFailed)
        raise failure(outcome.error or f"{action} ended with exit status {outcome.exit_status}")
    return outcome


def _as_stage(
    action: Action, spec: Path | dict[str, Any], words: list[str], runtime: str, refresh: bool
) -> StageResult:
    """Run the action as a stage; raises `DeftError` as that does."""
    tree = merged_spec(action.code.spec, spec, words)
    values: Any = OmegaConf.to_container(tree, resolve=False)
    done = run_stage(action.category, action.name, values, load_runtime(runtime), refresh=refresh)
    logger.info("%s: %s", action.title, done.folder)
    return done


def _outcome_of(request: ActionRequest, runtime: str) -> ActionOutcome:
    """How the action ended; a runtime that is missing or cannot start it ends it too."""
    try:
        return load_runtime(runtime).run(request)
    except (DeftError, ValueError) as error:
        return ActionOutcome(exit_status=1, error=str(error), seconds=0)
