"""The fifteen panels of DEFT_Loop_Report.html (spec deft-loop 9.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tasks.artifacts import now
from tasks.dataset.table import PASS
from tasks.deft.report import drawings, sheets, tables
from tasks.deft.report.files import LoopFiles
from tasks.deft.report.iteration import MOST_SHOWN, count_of, events, iteration_card, mining_map
from tasks.deft.report.root_causes import defect_types, root_causes
from tasks.deft.report.wording import direction, evaluator, gap, interval, measure, recommendations, status
from tasks.deft.stages import BASELINE
from tasks.errors import listed
from tasks.evaluation.contract import Bound

IMBALANCE = 5
"""So many times more samples of the one kind than of the other are worth a remark."""


def loop_page(files: LoopFiles) -> dict[str, Any]:
    """What the template of the loop's report needs, every panel by its name."""
    best = files.best
    return {
        "title": "DEFT loop report",
        "hero": _hero(files),
        "outcome": _outcome(files),
        "growth": {"rows": tables.training_growth(files), "chart": _growth_chart(files)},
        "problem": _problem(files),
        "kpi": _kpi(files),
        "approach": _approach(files),
        "progress": {"chart": _progress_chart(files), "footnote": direction(files)},
        "results": {"metric": files.contract.display_name, "rows": tables.results(files)},
        "pool": {"rows": tables.pool_use(files), **_mining(files)},
        "rca": root_causes(files, best),
        "defects": defect_types(files, best),
        "sample": sheets.sample(files),
        "cards": [iteration_card(files, label) for label in files.iterations if label in files.measured],
        "advice": recommendations(files),
        "final": _final(files),
        "events": events(files),
    }


def _hero(files: LoopFiles) -> dict[str, Any]:
    done = sum(label in files.measured for label in files.iterations)
    return {
        "status": status(files),
        "facts": [
            ("Generated", f"{now()[:16].replace('T', ' ')} UTC"),
            ("KPI target", files.state.kpi_target),
            ("Iterations done", f"{done} of at most {files.state.max_iterations}"),
            ("Run", files.folder.name),
        ],
    }


def _outcome(files: LoopFiles) -> list[tuple[str, object]]:
    state, first, best = files.state, files.measured.get(BASELINE), files.best
    seconds = [time for _, time in tables.seconds_of(files)]
    made = [files.state.phase(label).sdg_count for label in files.iterations]
    routed = [
        f"{label}: {count_of(phase.routed_to_mining)} to mining, "
        f"{count_of(phase.routed_to_generation)} to generation"
        for label in files.iterations
        if (phase := state.phase(label)).routed_to_mining is not None
    ]
    mean = _duration(sum(seconds) / len(seconds)) if seconds else None
    total = sum(count or 0 for count in made) if any(count is not None for count in made) else None
    return [
        ("Goal", state.kpi_target),
        ("Model", _model(files)),
        ("GPU", _gpu(files)),
        ("Baseline", measure(first) if first else None),
        ("Data Routing", "; ".join(routed) or None),
        (
            "Iterations × Time",
            f"{len(seconds)} × {mean}" if seconds else None,
        ),
        ("SDG Images", total),
        ("End Result", f"{measure(files.measured[best])} ({best}), {status(files).text}" if best else None),
    ]


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _model(files: LoopFiles) -> str | None:
    backbone = (files.spec(files.best or BASELINE).get("model") or {}).get("backbone") or {}
    kind = backbone.get("type")
    frozen = ", frozen" if backbone.get("freeze_backbone") else ""
    return f"ChangeNet with backbone {kind}{frozen}" if kind else None


def _gpu(files: LoopFiles) -> str | None:
    model, number = files.state.config.get("gpu_model"), files.state.config.get("num_gpus")
    if model:
        return f"{number} × {model}" if number else str(model)
    return f"not recorded (the spec asks for {number})" if number is not None else None


def _growth_chart(files: LoopFiles) -> object:
    found = [(label, files.origins(label)) for label in files.training_phases]
    phases = tuple((label, tuple(origins.items())) for label, origins in found if origins)
    return drawings.growth("growth", phases) if phases else None


def _progress_chart(files: LoopFiles) -> object:
    if not files.measured:
        return None
    contract = files.contract
    phases = tuple(
        (label, result.value, interval(result) if contract.name == "far_pct" else None)
        for label, result in files.measured.items()
    )
    return drawings.progress("progress", phases, contract.target, contract.display_name, contract.unit)


def _problem(files: LoopFiles) -> dict[str, Any]:
    contract = files.contract
    types = sorted(set(files.kpi_labels or ()) - {PASS})
    return {
        "predicate": _bound(contract),
        "evaluator": evaluator(files),
        "constraints": [_bound(bound) for bound in contract.constraints],
        "types": f"{len(types)}: {listed(types, most=MOST_SHOWN)}" if types else None,
    }


def _bound(bound: Bound) -> str:
    return f"{bound.display_name} {bound.operator} {bound.target:g} {bound.unit}".strip()


def _kpi(files: LoopFiles) -> dict[str, Any]:
    labels = files.kpi_labels
    if labels is None:
        return {"facts": [("Samples", None), ("PASS", None), ("Defects", None)], "rows": [], "note": None}
    passes = labels.count(PASS)
    defects = len(labels) - passes
    ratio = max(passes, defects) / max(1, min(passes, defects))
    note = None
    if ratio >= IMBALANCE:
        more = "PASS" if passes > defects else "defect"
        note = (
            f"There are {ratio:.0f} times as many {more} samples as others. The false-alarm rate counts PASS "
            "samples only and recall counts defects only, so neither is distorted by that."
        )
    return {
        "facts": [("Samples", len(labels)), ("PASS", passes), ("Defects (NO_PASS)", defects)],
        "rows": tables.kpi_categories(files),
        "note": note,
    }


def _approach(files: LoopFiles) -> dict[str, Any]:
    settings = files.settings
    made = sum(files.state.phase(label).sdg_count or 0 for label in files.iterations)
    found = sum(files.state.phase(label).mined_count or 0 for label in files.iterations)
    lever = None
    if made + found:
        lever = (
            f"Of the samples that were added, {100 * made / (made + found):.0f} % are synthetic ({made:,}) "
            f"and {100 * found / (made + found):.0f} % mined from production ({found:,})."
        )
    budget = settings.get("max_new_rows")
    return {
        "facts": [
            ("Neighbours asked for, each weak sample (top-K)", settings.get("topn")),
            ("Similarity floor", settings.get("min_similarity")),
            ("Measure of similarity", settings.get("knn_metric")),
            ("Encoder", settings.get("encoder")),
            ("New mined rows an iteration", "no limit" if settings and budget is None else budget),
            ("Weak samples a label", settings.get("top_k_per_label")),
            ("Synthetic pairs an iteration", settings.get("num_sdg")),
            ("Source of synthetic pairs", settings.get("sdg_source")),
        ],
        "lever": lever,
    }


def _mining(files: LoopFiles) -> dict[str, Any]:
    """The mined sheet and the map of the newest iteration that has them."""
    found: dict[str, Any] = {"mined": [], "label": None, "map": None}
    for label in reversed(files.iterations):
        if shown := sheets.mined(files, label):
            return {"mined": shown, "label": label, "map": mining_map(files, label)}
    return found


def _final(files: LoopFiles) -> list[tuple[str, object]]:
    best, state = files.best, files.state
    done = sum(label in files.measured for label in files.iterations)
    reason = (state.final_artifacts or {}).get("stop_reason")
    reasons = {"metric_met": "the metric is met", "max_iterations": "no iteration is left"}
    facts: list[tuple[str, object]] = [
        ("Status", status(files).text),
        ("Why it stopped", reasons.get(reason, reason) if reason else None),
        ("Iterations run", done),
    ]
    if best is None:
        return [
            *facts,
            ("Best metric", None),
            ("Threshold", None),
            ("Gap to KPI", None),
            ("Best checkpoint", None),
        ]
    phase = state.phase(best)
    return [
        *facts,
        ("Best metric", f"{measure(files.measured[best])} ({best})"),
        ("Threshold", phase.threshold),
        ("Gap to KPI", "none: MET" if phase.passed else gap(files, best)),
        ("Best checkpoint", files.shown(phase.best_ckpt_path)),
    ]


def incomplete(files: LoopFiles, page: dict[str, Any]) -> Iterator[str]:
    """Why a finished loop's report is not whole, one line each; nothing where it is."""
    if files.state.status != "complete":
        yield f"the run is {files.state.status}, not complete"
    if not files.state.final_artifacts:
        yield "Final Status: the run names no best model"
    for name, value in (*page["outcome"], *page["final"]):
        if value is None and name in ("Goal", "Baseline", "End Result", "Best metric", "Best checkpoint"):
            yield f"{name} is not known"
    parts = {
        "Training Set Growth": page["growth"]["chart"],
        "KPI Dataset Characteristics": page["kpi"]["rows"],
        "Progress Overview": page["progress"]["chart"],
        "Root Cause Analysis": page["rca"]["ranges"],
        "Defect Type Analysis": page["defects"]["rows"],
    }
    yield from (
        f"{name} is empty: a file that it is made of is gone" for name, part in parts.items() if not part
    )
    generated = any(files.state.phase(label).sdg_count for label in files.iterations)
    if generated and page["sample"] is None:
        yield "Generated Data Sample: no synthetic pair has both of its pictures"
