"""What is said of a pipeline run: what it delivers and why, where it stands, what each phase gave."""

from __future__ import annotations

from tasks.automl.report import headline as sweep_headline
from tasks.automl.words import amount, metric_name
from tasks.pipeline.facts import Stage
from tasks.pipeline.files import PipelineFiles
from tasks.reports.words import counted

FINAL = "final_automl"


def stage_name(stage: Stage) -> str:
    """What people call a stage."""
    return label_name(stage.stage)


def label_name(label: str) -> str:
    """What people call a phase of a run."""
    number = label.removeprefix("iter")
    if number.isdigit():
        return f"iteration {number}"
    return {
        "baseline": "baseline",
        FINAL: "phase 3 best",
        "zero-shot": "without training",
        "loop winner, untouched": "loop's best, as it is",
    }.get(label, label)


def badge(run: PipelineFiles) -> tuple[str, str]:
    """Text and kind of the badge."""
    if run.result:
        return run.result.status.replace("_", " "), "met" if run.result.status == "complete" else "stop"
    if run.stopped_with[0]:
        return run.stopped_with[0].replace("_", " "), "stop"
    if run.record is None:
        return "not approved", "plain"
    return "not finished", "plain"


def headline(run: PipelineFiles) -> str:
    """What came of the run, in one or two sentences."""
    if run.result:
        stage = delivered_stage(run)
        name = label_name(run.result.delivered)
        if stage is None:
            return f"The model of {name} is delivered."
        told = f"{metric_name(stage.metric)} {amount(stage.value, stage.unit)} on the {stage.set} set"
        return f"The model of {name} is delivered: {told}. {_target(run)}".strip()
    if run.stopped_with[0]:
        return f"The run stopped and delivers nothing yet: {run.stopped_with[1]}"
    if run.record is None:
        return "Nothing has run: the summary of the preflight was written, and no approval of it is here."
    return f"The run has not ended and delivers nothing yet; it stands at {_stands_at(run)}."


def _target(run: PipelineFiles) -> str:
    """Whether the delivered model meets the target of the loop; empty where there is none."""
    assert run.result is not None
    passed = run.state.get("iterations", {}).get(run.result.delivered, {}).get("passed")
    target = run.state.get("kpi_target")
    if passed is None or target is None:
        return ""
    return f"The target {target} is {'met' if passed else 'NOT met'}."


def _stands_at(run: PipelineFiles) -> str:
    if run.first is None and "phase 1" in run.sweeps:
        ended = sum(row.ended for row in run.sweeps["phase 1"].rows)
        return f"phase 1, the first sweep ({counted(ended, 'trial')} ended)"
    if run.loop is None and not run.state and "start" in run.handover:
        return "phase 2, the data loop"
    if run.loop is None and run.state:
        return f"phase 2, the data loop ({_last_step(run)})"
    if run.loop is None and run.first is not None:
        return "the hand-over from phase 1 to the loop"
    if run.loop is not None and run.final is None:
        ended = sum(row.ended for row in run.sweeps["phase 3"].rows) if "phase 3" in run.sweeps else 0
        return f"phase 3, the second sweep ({counted(ended, 'trial')} ended)"
    return "its beginning" if run.loop is None else "the measuring of the second sweep's model"


def _last_step(run: PipelineFiles) -> str:
    events = run.state.get("events", [])
    if not events:
        return "nothing is committed yet"
    last = events[-1]
    return f"last done: {label_name(last.get('iter', '?'))}, {last.get('stage', '?')}"


def delivered_stage(run: PipelineFiles) -> Stage | None:
    """The row of the trajectory whose model is delivered."""
    assert run.result is not None
    label = "phase 3 best" if run.result.delivered == FINAL else run.result.delivered
    of_it = [stage for stage in run.stages if stage.stage == label]
    return next((stage for stage in of_it if stage.set == "KPI"), of_it[0] if of_it else None)


def _kpi(run: PipelineFiles) -> tuple[Stage | None, Stage | None]:
    """The loop's best stage and that of the second sweep, both on the KPI set."""
    stages = [stage for stage in run.stages if stage.set == "KPI"]
    best = next((one for one in stages if run.loop and one.stage == run.loop.best), None)
    return best, next((one for one in stages if one.stage == "phase 3 best"), None)


def why(run: PipelineFiles) -> str:
    """Why this model is delivered."""
    if run.result is None:
        return ""
    best, final = _kpi(run)
    if best is None or final is None:
        return run.result.reason
    return (
        f"On the KPI set, whose images no training and no sweep sees, {metric_name(final.metric)} is "
        f"{amount(final.value, final.unit)} after phase 3 against {amount(best.value, best.unit)} of the "
        f"loop's best ({stage_name(best)})."
    )


def rollback(run: PipelineFiles) -> str:
    """That the model of the second sweep was not taken; empty where it was, or where there is none."""
    best, final = _kpi(run)
    if run.result is None or final is None or best is None or run.result.delivered == FINAL:
        return ""
    how = "no better than" if final.value == best.value else "worse than"
    return (
        f"Rolled back: the model of the second sweep is {how} the loop's best on the KPI set, so that of "
        f"{label_name(run.result.delivered)} stays."
    )


def phases(run: PipelineFiles) -> list[tuple[str, str, str]]:
    """Each phase: how far it came, and what it gave."""
    chosen = run.parameters
    mode, skips_first = chosen.get("mode"), chosen.get("skip_phase1")
    left_first = "mode loop_only" if mode == "loop_only" else "skip_phase1" if skips_first else ""
    left_loop = "mode automl_only" if mode == "automl_only" else ""
    return [
        ("phase 1: tune on the base data", *_sweep_phase(run, "phase 1", left_first)),
        ("phase 2: improve the data in a loop", *_loop_phase(run, left_loop)),
        ("phase 3: tune on the enlarged data", *_sweep_phase(run, "phase 3", left_loop or _no_third(run))),
    ]


def _no_third(run: PipelineFiles) -> str:
    """Why there is no second sweep; the run says it when it ends."""
    if run.parameters.get("mode") == "loop_only":
        return "mode loop_only"
    if run.parameters.get("skip_phase3"):
        return "skip_phase3"
    if run.result and run.final is None and "phase 3" not in run.sweeps:
        return run.result.reason
    return ""


def _sweep_phase(run: PipelineFiles, phase: str, left_out: str) -> tuple[str, str]:
    handed_on = run.first if phase == "phase 1" else run.final
    sweep = run.sweeps.get(phase)
    if handed_on:
        stage = handed_on.stage
        told = f"{metric_name(stage.metric)} {amount(stage.value, stage.unit)} on the {stage.set} set"
        return "done", f"best model: {told}"
    if sweep is not None and not left_out:
        return "gave no model" if run.result else "begun", sweep_headline(sweep)
    return ("left out", left_out) if left_out else ("not begun", "")


def _loop_phase(run: PipelineFiles, left_out: str) -> tuple[str, str]:
    if run.loop:
        rounds = sum(stage.stage.startswith("iter") for stage in run.loop.stages)
        met = "met" if run.loop.met else "not met"
        return "done", f"best: {label_name(run.loop.best)}; {counted(rounds, 'iteration')}; target {met}"
    if run.state:
        return "begun", _last_step(run)
    return ("left out", left_out) if left_out else ("not begun", "")
