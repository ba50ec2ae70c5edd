"""One iteration: what it worked on, what it added, and what that changed (panel 13, spec 9.3)."""

from __future__ import annotations

from typing import Any

from tasks.deft.report import drawings, sheets
from tasks.deft.report.files import LoopFiles
from tasks.deft.report.projection import embedding_map
from tasks.deft.report.root_causes import defect_types, histograms
from tasks.deft.report.wording import measure
from tasks.deft.stages import previous_label
from tasks.errors import listed
from tasks.reports.page import signed

MOST_SHOWN = 8


def mining_map(files: LoopFiles, label: str) -> dict[str, Any] | None:
    """The map of an iteration's mining with its chart; None where its embeddings cannot be read."""
    points = embedding_map(files, label)
    if points is None:
        return None
    return {
        "chart": drawings.embeddings("map", points),
        "variance": f"{100 * points.variance:.0f} %",
        "pool": points.pool,
        "rest": points.sampled,
    }


def iteration_card(files: LoopFiles, label: str) -> dict[str, Any]:
    """What one iteration worked on, added, left out and changed (panel 13)."""
    before, phase = previous_label(label), files.state.phase(label)
    targets = files.state.phase(before).rca_target_defects
    earlier, result = files.measured.get(before), files.measured.get(label)
    unit = "pp" if files.contract.unit == "%" else files.contract.unit
    change = signed(result.value - earlier.value, unit) if result and earlier else None
    nothing_made = phase.anomalygen_skipped and phase.sdg_count is None
    return {
        "label": label,
        "facts": [
            ("Worked on (RCA targets)", listed(targets, most=MOST_SHOWN) if targets else None),
            ("Routed to mining", phase.routed_to_mining),
            ("Routed to generation", phase.routed_to_generation),
            (
                "Generated",
                "skipped" if nothing_made else phase.sdg_count,
            ),
            ("Mined", "skipped" if phase.data_mining_skipped else phase.mined_count),
            ("Filter decision", _filter_decision(files, label)),
            (f"{files.contract.display_name} before", measure(earlier) if earlier else None),
            (f"{files.contract.display_name} after", measure(result) if result else None),
            ("Change", change),
            ("Training rows", files.rows_of(label)),
        ],
    }


def _filter_decision(files: LoopFiles, label: str) -> str | None:
    phase = files.state.phase(label)
    if phase.data_mining_skipped:
        event = next((e for e in files.state.events if e.iter == label and e.stage == "data_mining"), None)
        return f"mining skipped: {event.skip_reason}" if event and event.skip_reason else "mining skipped"
    if phase.mined_raw_count is None:
        return None
    floor = files.settings.get("min_similarity")
    at = f" (similarity at least {floor:g})" if isinstance(floor, float | int) else ""
    history = files.json(phase.mining_history_summary) or {}
    parts = [
        f"{count_of(phase.mined_raw_count)} neighbours found",
        f"{count_of(phase.mined_candidate_count)} kept by the filter{at}",
    ]
    for name, text in (("already_mined_count", "mined before"), ("over_budget_count", "beyond the budget")):
        if isinstance(count := history.get(name), int) and count:
            parts.append(f"{count:,} {text}")
    return ", ".join([*parts, f"{count_of(phase.mined_count)} new"])


def iteration_page(files: LoopFiles, label: str) -> dict[str, Any]:
    """What the template of one iteration's report needs (spec deft-loop 9.3)."""
    measured = label in files.measured
    return {
        "title": f"Iteration {label.removeprefix('iter')} of at most {files.state.max_iterations}",
        "label": label,
        "before": previous_label(label),
        "target": files.state.kpi_target,
        "card": iteration_card(files, label),
        "mined": sheets.mined(files, label),
        "map": mining_map(files, label),
        "pairs": sheets.synthetic(files, label),
        "histograms": histograms(files, (previous_label(label), label)) if measured else [],
        "defects": defect_types(files, label if measured else None),
        "weakest": sheets.weakest(files, label) if measured else {},
        "events": [row for row in events(files) if row[2] == label],
    }


def events(files: LoopFiles) -> list[tuple[object, ...]]:
    """Every commit: number, time, phase, stage, status, seconds, what it did."""
    return [
        (event.seq, event.ts, event.iter, event.stage, event.status, event.duration_sec, event.summary)
        for event in files.state.events
    ]


def count_of(value: int | None) -> str:
    """A count inside of a sentence."""
    return "—" if value is None else f"{value:,}"
