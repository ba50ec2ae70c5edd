"""`PIPELINE_Report.html`: what a pipeline delivers and why, how it came there, and what was checked.

A pure function of the files of a run, right on one that still runs, has failed, or has swept alone.
Sweeps measure on the validation set, the loop on the KPI set: no chart and no difference joins the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from tasks.artifacts import read_json
from tasks.automl.report import charts_of, value_of
from tasks.automl.report import headline as sweep_headline
from tasks.automl.words import amount, duration, keys, meaning, metric_name
from tasks.deft.state import STATE_FILE
from tasks.errors import InputError
from tasks.pipeline.facts import Stage
from tasks.pipeline.files import SWEEPS, PipelineFiles, read_pipeline
from tasks.pipeline.trajectory import rows_of
from tasks.pipeline.verdict import (
    badge,
    delivered_stage,
    headline,
    label_name,
    phases,
    rollback,
    stage_name,
    why,
)
from tasks.reports.page import write_page

REPORT = "PIPELINE_Report.html"
TEMPLATE = "PIPELINE_Report.html.j2"
APPROVED = {
    "person": "a person",
    "yes": "the option yes; nobody was asked",
    "token": "the token of a summary",
}
LINKS: tuple[tuple[str, str], ...] = (
    ("report of the data loop", "DEFT_Loop_Report.html"),
    ("report of {0}", "iter*/report.html"),
    ("sweep of phase 1", "automl_phase1/AUTOML_Report.html"),
    ("sweep of phase 3", "final_automl/AUTOML_Report.html"),
    ("where {0} is weak (RCA)", "*/rca_results/*/RCA_Report.md"),
    ("what {0} sent where (routing)", "*/routing_results/*/*.md"),
    ("what {0} mined", "*/mining_results/*/*.md"),
    ("the model to use", "best_model.json"),
    ("spec to run it", "best_model_inference_spec.yaml"),
    ("summary that was approved", "preflight_summary.md"),
    ("summary of the run as text", "PIPELINE_SUMMARY.md"),
    ("hand-over from phase 1 to the loop", "handoff12.json"),
    ("state of the loop", STATE_FILE),
    ("study of phase 1", "automl_phase1/study.json"),
    ("quality check of phase 1", "automl_phase1/quality_check.json"),
    ("study of phase 3", "final_automl/study.json"),
    ("quality check of phase 3", "final_automl/quality_check.json"),
)


def render(folder: Path) -> Path:
    """Write `PIPELINE_Report.html` into the folder of a pipeline run and give its path.

    Raises:
        InputError: the folder is no pipeline run.
    """
    return write_page(folder / REPORT, TEMPLATE, **context(read_pipeline(folder)))


def context(run: PipelineFiles) -> dict[str, Any]:
    """What the page shows."""
    header, *rows = rows_of(run.stages)
    leaks = _leaks(run)
    return {
        "title": f"Pipeline {run.folder.name}",
        "folder": str(run.folder),
        "badge": badge(run),
        "headline": headline(run),
        "why": why(run),
        "rollback": rollback(run),
        "meanings": [text for text in dict.fromkeys(meaning(one.metric) for one in run.stages) if text],
        "facts": _facts(run),
        "phases": phases(run),
        "header": [*header[:3], "value", *header[3:]],
        "trajectory": [
            (stage_name(stage), stage.set, *_measured(stage), *row[3:])
            for stage, row in zip(run.stages, rows, strict=True)
        ],
        "charts": _charts(run),
        "changes": [
            (keys(str(one.get("key"))), value_of(one.get("before")), value_of(one.get("after")))
            for one in run.handover.get("spec", {}).get("changes", [])
        ],
        "sweeps": _sweep_sections(run),
        "leaks": leaks,
        "leaking": sum(count for _, _, count in leaks if count is not None),
        "warnings": run.warnings,
        "unreadable": run.unreadable,
        "links": _links(run.folder),
    }


def _measured(stage: Stage) -> tuple[str, str]:
    return metric_name(stage.metric), amount(stage.value, stage.unit)


def _facts(run: PipelineFiles) -> list[tuple[str, object]]:
    result, chosen = run.result, run.parameters
    seconds = [stage.seconds for stage in run.stages if stage.seconds is not None]
    return [
        ("checkpoint", str(result.checkpoint) if result else None),
        ("threshold", result.threshold if result else None),
        ("counted on the KPI set", _counted(run)),
        ("target of the loop", run.state.get("kpi_target") or chosen.get("loop", {}).get("metric")),
        ("computing time of the stages", duration(sum(seconds)) if seconds else None),
        ("kind of model", chosen.get("profile")),
        ("runtime", chosen.get("runtime")),
        ("workspace", chosen.get("workspace")),
        ("approved by", APPROVED.get(run.record.approved_by, run.record.approved_by) if run.record else None),
        ("note of who approved", run.record.note or None if run.record else None),
    ]


def _counted(run: PipelineFiles) -> str | None:
    """How many good parts stand behind the delivered model's FAR, and how sure that makes it."""
    label = run.result.delivered if run.result else None
    found = run.state.get("iterations", {}).get(label, {}).get("metric_result") or {}
    facts = found.get("diagnostics", {})
    counts, ends = facts.get("far_counts"), facts.get("far_wilson_95_pct")
    if not counts or not ends:
        return None
    flagged, _, good = str(counts).partition("/")
    rate = f"{ends[0]:.2g} to {ends[1]:.3g} %"
    return f"{flagged} of {good} good parts flagged; the true rate is {rate} (95 % sure)"


def _charts(run: PipelineFiles) -> list[tuple[str, Any]]:
    """A chart for each set and metric."""
    if not run.stages:
        return []
    from tasks.pipeline import plots

    groups: dict[tuple[str, str], list[Stage]] = {}
    for stage in run.stages:
        groups.setdefault((stage.set, stage.metric), []).append(stage)
    delivered = delivered_stage(run) if run.result else None
    found = []
    for number, ((name, _), stages) in enumerate(groups.items()):
        place = next((at for at, stage in enumerate(stages) if stage is delivered), None)
        told = {"validation": "Validation set: the sweeps", "KPI": "KPI set: the loop and the end"}[name]
        chart = plots.trajectory(stages, [stage_name(one) for one in stages], place, f"trajectory-{number}")
        found.append((told, chart))
    return found


def _sweep_sections(run: PipelineFiles) -> list[dict[str, Any]]:
    return [
        {
            "title": f"The sweep of {phase}",
            "headline": sweep_headline(sweep),
            "charts": charts_of(sweep, phase.replace(" ", "")),
            "link": _link(run.folder, run.folder / SWEEPS[phase] / "AUTOML_Report.html"),
        }
        for phase, sweep in run.sweeps.items()
    ]


def _leaks(run: PipelineFiles) -> list[tuple[str, str, int | None]]:
    """Each check for shared images: when, between what, how many."""
    rows: list[tuple[str, str, int | None]] = []
    for finding in run.preflight.get("summary", {}).get("findings", []):
        if "leakage" in str(finding.get("id")):
            rows += [("before the start", str(pair), _count(count)) for pair, count in finding["rows"]]
    for file in sorted(run.folder.glob("iter*/dataset/merge_validation.json"), key=_iteration):
        when = label_name(file.parts[-3])
        try:
            found = read_json(file)
        except InputError as error:
            run.unreadable.append(str(error))
            continue
        rows.append((when, "training set / validation set", found.get("train_val_leakage_overlap_count")))
        rows.append((when, "training set / KPI set", found.get("train_kpi_leakage_overlap_count")))
    return rows


def _iteration(file: Path) -> int:
    number = file.parts[-3].removeprefix("iter")
    return int(number) if number.isdigit() else 0


def _count(text: object) -> int | None:
    return int(str(text)) if str(text).isdigit() else None


def _links(folder: Path) -> list[tuple[str, str]]:
    """Name and relative address of every file that is there."""
    found: list[tuple[str, str]] = []
    for name, pattern in LINKS:
        for file in sorted(folder.glob(pattern)):
            label = label_name(file.relative_to(folder).parts[0])
            found.append((name.format(label), quote(str(file.relative_to(folder)))))
    return found


def _link(folder: Path, file: Path) -> str | None:
    return quote(str(file.relative_to(folder))) if file.is_file() else None
