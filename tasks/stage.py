"""A stage: one action, run as a Prefect task and cached by content.

The only module below `flows/` that knows Prefect, beside `publishing`. Tasks exchange file references with
hashes, never tables; a cached stage whose files are gone or changed is computed again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from prefect import task
from prefect.blocks.core import Block
from prefect.context import FlowRunContext, TaskRunContext
from prefect.runtime import flow_run
from pydantic import BaseModel

from blocks.runtime import ActionRequest, InlineRuntime, Runtime
from blocks.versions import NATIVE
from tasks.action import Action
from tasks.artifacts import Artifact, now, write_text, write_yaml
from tasks.errors import EXIT_STATUS_OF, InputError, StageFailed
from tasks.publishing import progress, publish_markdown
from tasks.registry import find_action
from tasks.reports.markdown import escaped
from tasks.spec import WRITES, SpecModel, paths_of, plain
from tasks.stage_page import computed_here, files_read, stage_key, stage_page, taken_from_cache
from tasks.status import STATUS_FILE, failures, lines_after
from tasks.taken_from import TakenFrom

logger = logging.getLogger("deft.flow")

RUNTIMES = ("blocks.docker_runtime", "blocks.work_pool_runtime")
"""A saved block is loaded as a class that has been imported."""


class StageResult(BaseModel):
    """What a stage left: its folder, its files with their hashes, and where they were computed.

    `adopted` says that an earlier, interrupted process of the flow had begun the work; `finished` is UTC.
    """

    stage: str
    digest: str
    folder: Path
    artifacts: dict[str, Artifact]
    seconds: float
    computed_by: str
    computed_on: str = ""
    finished: str | None = None
    cached: bool = False
    adopted: bool = False

    def path(self, name: str) -> Path:
        """The file of that name; raises `StageFailed` when the stage left none."""
        if name not in self.artifacts:
            raise StageFailed(f"{self.stage} left no {name}; it left {', '.join(sorted(self.artifacts))}")
        return self.artifacts[name].path

    def intact(self) -> bool:
        """Whether every file is still what it was."""
        return all(artifact.intact() for artifact in self.artifacts.values())

    def placed_in(self, folder: Path) -> StageResult:
        """The same files in `folder`, copied there unless they are there already."""
        if folder == self.folder:
            return self
        copied = {
            name: artifact.copied_to(folder / artifact.path.relative_to(self.folder))
            for name, artifact in self.artifacts.items()
        }
        return self.model_copy(update={"folder": folder, "artifacts": copied})


def load_runtime(name: str) -> Runtime:
    """The runtime block of that name, written `type/name`; `inline` needs no block.

    Raises:
        InputError: there is no such block, or it is no runtime.
    """
    if name == "inline":
        return InlineRuntime()
    for module in RUNTIMES:
        import_module(module)
    try:
        block: Any = Block.load(name)
    except ValueError as error:
        raise InputError(
            f"runtime {name!r}: {error}; use inline, or the type/name of a saved block"
        ) from error
    if not isinstance(block, Runtime):
        raise InputError(f"runtime {name!r} is no runtime block; use inline, or the type/name of one")
    return block


def run_stage(
    category: str,
    name: str,
    values: Mapping[str, Any],
    runtime: Runtime,
    *,
    label: str | None = None,
    refresh: bool = False,
    native: bool = False,
) -> StageResult:
    """Run an action with these spec values, or give what an equal earlier run left.

    Args:
        category: for instance `gap_analysis`.
        name: for instance `vcn_aoi`.
        values: keys of the action's spec; keys that are absent take the schema's defaults.
        runtime: where to run it.
        label: what its spec and log file are called where one folder holds several stages of one action.
        refresh: compute even when an equal run is cached.
        native: use our own image also where the action has another one.

    Raises:
        DeftError: of the class that the action's exit status stands for, with its error line; or
            `InputError` where the runtime refuses the call.
    """
    action = find_action(category, name)
    spec = action.spec(values)
    image = runtime.image_for(NATIVE if native else action.image)
    with _refusals_of(action.title):
        digest = action.digest(spec, runtime.image_digest(image))
    folder = action.code.folder(spec)
    run = _run_action.with_options(name=action.title, task_run_name=action.title, refresh_cache=refresh)
    state = run(digest, category, name, dict(values), label or name, image, runtime, return_state=True)
    result: StageResult = state.result()
    if state.name != "Cached":
        _publish(action, spec, label, result, computed_here(result.seconds, result.computed_on))
        return result
    if not result.intact():
        logger.info("%s: a cached file is gone or altered, computing again", action.title)
        return run_stage(category, name, values, runtime, label=label, refresh=True, native=native)
    logger.info("%s: unchanged inputs, taken from cache (%s)", action.title, digest[:12])
    if folder != result.folder:
        line = TakenFrom(result.folder, result.computed_by)
        write_text(folder / f"{label or name}.log", f"{line}\n")
    placed = result.placed_in(folder).model_copy(update={"cached": True})
    origin = taken_from_cache(result.computed_by, result.folder, result.finished, result.seconds)
    _publish(action, spec, label, placed, origin)
    return placed


def _publish(action: Action, spec: SpecModel, label: str | None, result: StageResult, origin: str) -> None:
    """Show the stage on the page of the flow run; whatever goes wrong with that is a warning."""
    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        return
    try:
        told = action.code.headline(spec)
        text = stage_page(told, origin, files_read(spec), result.folder, result.artifacts.values())
    except Exception as error:  # noqa: BLE001 - the stage has its result
        logger.warning("%s: its page cannot be made: %s: %s", action.title, type(error).__name__, error)
        return
    publish_markdown(stage_key(action, result.folder, label), text, escaped(told.sentence))


def _key(_: object, parameters: dict[str, Any]) -> str:
    return f"{parameters['category']}-{parameters['name']}-{parameters['digest']}"


@task(cache_key_fn=_key, persist_result=True, result_serializer="json")
def _run_action(
    digest: str,
    category: str,
    name: str,
    values: dict[str, Any],
    label: str,
    image: str,
    runtime: Runtime,
) -> StageResult:
    """Write the spec into the stage's folder, run the action, and hash what it left."""
    action = find_action(category, name)
    spec = action.spec(values)
    folder = action.code.folder(spec)
    spec_file = write_yaml(folder / f"{label}_spec.yaml", plain(values))
    before = _time_stamps(folder)
    status_file = folder / STATUS_FILE
    said_before = status_file.stat().st_size if status_file.is_file() else 0
    request = _request(action, spec, spec_file, folder / f"{label}.log", image, digest)
    shown = progress(stage_key(action, folder, label) + " progress", action.title, status_file, said_before)
    with _refusals_of(action.title), shown:
        outcome = runtime.run(request)
    if outcome.exit_status:
        failure = EXIT_STATUS_OF.get(outcome.exit_status, StageFailed)
        raise failure(outcome.error or f"{action.title} ended with exit status {outcome.exit_status}")
    outputs = action.outputs(spec)
    if not outcome.adopted:
        _check_success(action.title, status_file, said_before, outputs.values(), before)
    return StageResult(
        stage=action.title,
        digest=digest,
        folder=folder,
        artifacts={key: Artifact.of(path) for key, path in outputs.items()},
        seconds=outcome.seconds,
        adopted=outcome.adopted,
        computed_by=str(flow_run.get_name() or "outside a flow"),
        computed_on=_name_of(runtime),
        finished=now(),
    )


def _name_of(runtime: Runtime) -> str:
    """The block as `load_runtime` is given it, or its type where it was never saved."""
    if runtime._block_document_name is None:
        return "inline" if isinstance(runtime, InlineRuntime) else runtime.get_block_type_slug()
    return f"{runtime.get_block_type_slug()}/{runtime._block_document_name}"


@contextmanager
def _refusals_of(title: str) -> Iterator[None]:
    """A runtime says why it cannot take a call by a `ValueError`; to a person it is an error of ours."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"{title}: {error}") from error


def _request(
    action: Action, spec: SpecModel, spec_file: Path, log_file: Path, image: str, digest: str
) -> ActionRequest:
    """The call of an action, with all that a container must be shown."""
    paths = paths_of(spec)
    folders = {path.parent for path in action.code.reads(spec)}
    return ActionRequest(
        category=action.category,
        argv=[action.name, "-e", str(spec_file)],
        image=image,
        log_file=log_file,
        key=digest,
        paths={
            **{key: path for key, (path, _) in paths.items()},
            **{f"files of {folder}": folder for folder in sorted(folders)},
        },
        results=[action.code.folder(spec), *(path for path, role in paths.values() if role is WRITES)],
        gpu=action.gpu,
    )


def _time_stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def _check_success(
    title: str, status_file: Path, said_before: int, outputs: Iterable[Path], before: Mapping[Path, int]
) -> None:
    """Do not believe an exit status of 0: containers are known to end well after a failure.

    Raises:
        StageFailed: the status file says FAILURE, or every output is from an earlier run.
    """
    if status_file.is_file():
        for reason in failures(lines_after(status_file, said_before)):
            raise StageFailed(f"{title} reported success, but {status_file} says FAILURE: {reason}")
    written = [path for path in outputs if path.name != STATUS_FILE]
    if written and all(before.get(path) == path.stat().st_mtime_ns for path in written):
        raise StageFailed(f"{title} reported success, but wrote nothing: {written[0]} is from an earlier run")
