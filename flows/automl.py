"""AutoML: tune the hyper-parameters of one training, and say how far the winner can be believed."""

import csv
import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any, Literal

from prefect import flow

from blocks.reaping import reap
from blocks.runtime import Runtime
from flows.approved import hold_to
from flows.named import workspace_root
from flows.profiles import Profile, open_profile
from flows.reports import reporting
from tasks.artifacts import read_json, sha256_of, timestamp_folder, write_json, write_yaml
from tasks.automl import best_rec
from tasks.automl.plan import Plan
from tasks.automl.ranking import decided_by
from tasks.automl.report import render
from tasks.automl.settings import SweepSettings
from tasks.automl.space import Space, read_space, resolved
from tasks.automl.sweep import Submit, Sweep
from tasks.automl.table import TRIALS_CSV, write_study
from tasks.automl.trial import Row, SweepMetric
from tasks.automl.winner import Policy, QualityCheck, choose
from tasks.errors import InputError
from tasks.keys import merged
from tasks.pipeline.facts import Stage, SweepResult, TunedModel
from tasks.preflight.sets import content_digest
from tasks.publishing import publish_table
from tasks.run_folder import held
from tasks.spec import digest, plain, read_mapping
from tasks.stage import load_runtime

logger = logging.getLogger("deft.flow")

DEFAULTS = SweepSettings()
INPUTS = "sweep_inputs.json"


@flow(name="automl", on_cancellation=[reap])
def automl(
    workspace: Path,
    profile: Literal["aoi_changenet", "image_classifier"] = "aoi_changenet",
    sweep: SweepSettings = DEFAULTS,
    metric: str | None = None,
    base_spec: Path | None = None,
    training_csv: Path | None = None,
    warm_start: Path | None = None,
    results_dir: Path | None = None,
    runtime: str = "inline",
    approved: Path | None = None,
    approval_token: str | None = None,
) -> SweepResult:
    """Train the base spec and other hyper-parameters, choose the best, and test whether it holds.

    Trial 0 is the base spec as it is. A winner that is suspiciously good is trained again with other seeds,
    one whose model has collapsed makes way for the next, and the one that stays is held against a model
    without training. A sweep that was killed goes on when its folder is given again.

    Args:
        workspace: folder with images, specs and data sets, or workspace/NAME of a saved one.
        profile: the kind of model.
        sweep: algorithm, number of trials, concurrency and the other settings of a sweep.
        metric: what to optimise on the validation set; none takes the profile's own.
        base_spec: the spec of trial 0; by default the workspace's.
        training_csv: an enlarged training set of the data loop; by default the base training set.
        warm_start: checkpoint from whose weights every trial starts: fine-tuning, architecture pinned.
        results_dir: folder of the sweep; by default a new one below results. An unfinished one is taken up.
        runtime: where actions run: inline, or the type/name of a saved runtime block.
        approved: summary of the pipeline's preflight that this sweep is part of.
        approval_token: the hash with which it was approved.
    """
    kind, place = open_profile(profile, workspace_root(workspace)), load_runtime(runtime)
    aim = metric_of(kind, metric)
    phase: Literal[1, 3] = 3 if warm_start else 1
    own = {"sweep": sweep.model_dump(mode="json"), "metric": metric}
    hold_to(approved, approval_token, "phase3" if warm_start else "phase1", own)
    folder = (results_dir or timestamp_folder(kind.root / "results", prefix="automl_")).absolute()
    base = read_mapping(base_spec, "base spec") if base_spec else kind.base_spec()
    with held(folder), _threads(sweep.concurrency, place) as submit:
        data = kind.combined_data(training_csv) if training_csv else kind.base_data(folder)
        hold_same_sweep(
            folder,
            {
                "metric": aim.name,
                "base_spec": digest(base),
                "training_set": sha256_of(data.csv),
                "validation_set": content_digest(kind.validation_set),
                "warm_start": sha256_of(warm_start) if warm_start else None,
                "search_space": digest(plain(sweep.model_dump(include={"search_space", "only"}))),
            },
        )
        plan = Plan(
            folder=folder,
            phase=phase,
            base=base,
            space=space_of(kind, sweep, base, phase),
            metric=aim,
            epochs=kind.epochs(base),
            settings=sweep,
            trainer=kind.trainer(folder, data, warm_start, aim, place, sweep.concurrency),
            check=kind.full,
        )
        try:
            return _swept(kind, Sweep(plan, submit), warm_start, place, data.rows())
        finally:
            _report(folder)


def _report(folder: Path) -> None:
    with reporting(folder):
        page = render(folder)
        rows = list(csv.DictReader((folder / TRIALS_CSV).read_text(encoding="utf-8").splitlines()))
        publish_table(f"sweep {folder.name}", rows, f"every trial; the whole report: {page}")


def hold_same_sweep(folder: Path, inputs: dict[str, Any]) -> None:
    """Write what a sweep is about, or check that the one in `folder` is about the same.

    Raises:
        InputError: it is about something else; what differs is named.
    """
    file = folder / INPUTS
    before = read_json(file) if file.is_file() else inputs
    other = [name for name, value in inputs.items() if before.get(name) != value]
    if other:
        raise InputError(f"{folder} is a sweep with another {', '.join(other)}; give another results_dir")
    write_json(file, inputs)


def metric_of(kind: Profile, name: str | None) -> SweepMetric:
    """The metric of that name, or the profile's own; raises `InputError` where it has no such metric."""
    if name is None:
        return next(iter(kind.metrics.values()))
    if name not in kind.metrics:
        raise InputError(f"unknown metric {name!r} of {kind.name}; choose one of: {', '.join(kind.metrics)}")
    return kind.metrics[name]


def space_of(kind: Profile, sweep: SweepSettings, base: dict[str, Any], phase: Literal[1, 3]) -> Space:
    """What this sweep searches: the profile's parameters, replaced and extended by the person's file.

    Raises:
        InputError: as `tasks.automl.space.resolved` does.
    """
    own = read_space(sweep.search_space) if sweep.search_space else ()
    return resolved([*kind.parameters, *own], kind.full(base), phase, kind.full, sweep.only)


def _swept(
    kind: Profile, sweep: Sweep, warm_start: Path | None, runtime: Runtime, rows_trained: int
) -> SweepResult:
    plan = sweep.plan
    rows = sweep.run()
    decider = decided_by(plan.metric, plan.settings.selection)
    untrained = kind.untrained_score(plan.folder / "zero_shot", warm_start, decider, runtime)
    check = choose(
        rows,
        plan.metric,
        sweep.rerun,
        Policy(
            selection=plan.settings.selection,
            suspicious_gap=plan.settings.suspicious_gap,
            reruns=plan.settings.reruns,
        ),
        step=kind.metric_step(decider),
        zero_shot=untrained,
    )
    write_json(plan.folder / "quality_check.json", check.model_dump(mode="json"))
    name = "loop winner, untouched" if warm_start else "zero-shot"
    return _result(sweep, check, untrained, name, rows_trained)


def _result(
    sweep: Sweep, check: QualityCheck, untrained: float | None, untrained_name: str, rows_trained: int
) -> SweepResult:
    plan, rows = sweep.plan, sweep.rows
    chosen = next(row for row in rows if row.rec_id == check.chosen_rec)
    outcome = check.outcome
    best = best_rec.best_rec_of(rows, check, f"{plan.folder.parent.name}/{plan.folder.name}", plan.metric)
    best_file = best_rec.write(plan.folder / "best_rec.json", best)
    spec = merged(plan.base, chosen.specs)
    write_yaml(plan.folder / "winner_spec.yaml", spec)
    warnings = [*check.reasons, *outcome.warnings, *_degraded(rows)]
    write_study(
        plan.folder, rows, plan.space, plan.metric, algorithm=plan.settings.algorithm, warnings=warnings
    )

    def stage(name: str, value: float, **facts: Any) -> Stage:
        return Stage(
            stage=name,
            set="validation",
            metric=check.metric.name,
            value=value,
            unit=check.metric.unit,
            smaller_is_better=check.metric.direction == "minimise",
            **facts,
        )

    for reason in check.reasons:
        logger.info("%s", reason)
    logger.info(
        "sweep: %s wins with %s %.4g of %d trials",
        check.chosen_rec,
        check.metric.name,
        check.score,
        len(rows),
    )
    return SweepResult(
        folder=plan.folder,
        model=TunedModel(
            spec=spec,
            checkpoint=outcome.checkpoint,
            epoch=outcome.epoch,
            step=outcome.step,
            facts=outcome.facts,
            source=f"automl_phase{plan.phase}",
        ),
        best_rec=best_file,
        stage=stage(
            f"phase {plan.phase} best",
            check.score,
            rows=rows_trained,
            threshold=outcome.threshold,
            seconds=sum(row.seconds for row in rows),
            checkpoint=outcome.checkpoint,
        ),
        untrained=None if untrained is None else stage(untrained_name, untrained),
        gained=check.gain,
        warnings=warnings,
    )


def _degraded(rows: list[Row]) -> list[str]:
    count = sum(row.source == "fallback" for row in rows)
    return [f"degraded: the proposer failed for {count} of {len(rows)} trials"] if count else []


@contextmanager
def _threads(count: int, runtime: Runtime) -> Iterator[Submit]:
    """Threads that belong to the flow run: what they start shows as its tasks, and ends when it is ended."""
    with ThreadPoolExecutor(count, thread_name_prefix="trial") as pool:

        def submit(work: Any) -> Future[Row]:
            return pool.submit(copy_context().run, work)

        try:
            yield submit
        except Exception:
            raise
        except BaseException:
            # Prefect tells the main thread alone that the run was cancelled.
            pool.shutdown(wait=False, cancel_futures=True)
            runtime.stop()
            raise
