"""The tables of a loop's report: rows of plain values, computed from the state and its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from tasks.dataset.table import PASS
from tasks.deft.report.files import LoopFiles
from tasks.deft.report.wording import SYNTHETIC_WARNING, gap, measure
from tasks.deft.stages import BASELINE, FINAL, previous_label
from tasks.evaluation.contract import Bound
from tasks.reports.page import signed

Row = tuple[object, ...]

SCORE_RANGES = 6
MOST_CATEGORIES = 20
DIAGNOSTICS = {
    "precision": ("precision: share of alarms that are defects", ""),
    "f1": ("F1: mean of precision and recall", ""),
    "auc": ("AUC: how often a defect scores above a good sample", ""),
    "far_pct_at_recall_99_5": ("FAR at 99.5 % recall", "%"),
    "far_pct_at_2nd_lowest_defect": ("FAR if the lowest-scoring defect were not there", "%"),
    "far_pct_at_3rd_lowest_defect": ("FAR if the two lowest were not there", "%"),
}


def training_growth(files: LoopFiles) -> list[Row]:
    """Iteration, mined raw, generated, new unique, total, difference (panel 3).

    The last two are found apart: the new rows by the assembly's own report, the difference from totals.
    """
    rows: list[Row] = [(BASELINE, None, None, None, files.rows_of(BASELINE), None)]
    for label in files.iterations:
        phase, total = files.state.phase(label), files.rows_of(label)
        before, report = files.rows_of(previous_label(label)), files.merge(phase) or {}
        delta = None if total is None or before is None else signed(float(total - before))
        rows.append((label, phase.mined_raw_count, phase.sdg_count, report.get("new_rows"), total, delta))
    return rows


def kpi_categories(files: LoopFiles) -> list[Row]:
    """Category, rows, share of the KPI set, the most frequent first (panel 5)."""
    labels = files.kpi_labels or ()
    counted = Counter(labels).most_common()
    rows: list[Row] = [
        (label, count, f"{100 * count / len(labels):.1f} %") for label, count in counted[:MOST_CATEGORIES]
    ]
    if rest := counted[MOST_CATEGORIES:]:
        total = sum(count for _, count in rest)
        rows.append((f"{len(rest)} others", total, f"{100 * total / len(labels):.1f} %"))
    return rows


def results(files: LoopFiles) -> list[Row]:
    """Phase, metric, difference, threshold, rows, synthetic, share, note (panel 8)."""
    first = files.measured.get(BASELINE)
    unit = "pp" if files.contract.unit == "%" else files.contract.unit
    labels = [*files.training_phases, *([FINAL] if FINAL in files.state.iterations else [])]
    rows: list[Row] = []
    for label in labels:
        phase, result, origins = files.state.phase(label), files.measured.get(label), files.origins(label)
        total = sum(origins.values()) if origins else None
        made = origins.get("sdg", 0) if origins else None
        share = made / total if total and made is not None else None
        change = signed(result.value - first.value, unit) if result and first and label != BASELINE else None
        rows.append(
            (
                label,
                measure(result) if result else None,
                change,
                phase.threshold,
                files.rows_of(label),
                made,
                None if share is None else f"{100 * share:.1f} %",
                _note(files, label, share),
            )
        )
    return rows


def _note(files: LoopFiles, label: str, share: float | None) -> str | None:
    phase, notes = files.state.phase(label), []
    if label == files.best:
        notes.append("best")
    if phase.passed:
        notes.append("target met")
    if phase.status == "failed":
        notes.append("stopped with an error")
    elif label not in files.measured:
        notes.append("not measured yet")
    if phase.source:
        notes.append(f"from {phase.source}")
    if share is not None and share > SYNTHETIC_WARNING:
        notes.append("more than half synthetic")
    return ", ".join(notes) or None


def pool_use(files: LoopFiles) -> list[Row]:
    """Phase, generated, mined at or above the floor, added (panel 9)."""
    rows: list[Row] = []
    for label in files.iterations:
        phase = files.state.phase(label)
        parts = (phase.sdg_count, phase.mined_count)
        added = None if parts == (None, None) else sum(part or 0 for part in parts)
        rows.append((label, phase.sdg_count, phase.mined_candidate_count, added))
    return rows


def score_ranges(files: LoopFiles, label: str) -> list[Row]:
    """Score range, PASS, defects, what it means; the threshold of the phase is an end of ranges."""
    scored, threshold = files.scored(label), files.state.phase(label).threshold
    if scored is None:
        return []
    low, high = float(scored.scores.min()), float(scored.scores.max())
    # A range holds its upper end and not its lower one, as the threshold lets pass what is equal to it.
    ends = np.linspace(low, high, SCORE_RANGES)[1:]
    if threshold is not None and low <= threshold < high:
        ends = np.append(ends, threshold)
    ends = np.unique(ends)
    place = np.searchsorted(ends, scored.scores, side="left")
    rows: list[Row] = []
    for number, (start, end) in enumerate(zip([low, *ends], ends, strict=False)):
        here = place == number
        passes = int(np.count_nonzero(here & scored.is_pass))
        defects = int(np.count_nonzero(here)) - passes
        above = threshold is not None and end > threshold
        note = None
        if threshold is not None and above and passes:
            note = f"{passes:,} false alarms"
        elif threshold is not None and not above and defects:
            note = f"{defects:,} defects missed"
        elif threshold is not None and end == threshold:
            note = "ends at the threshold"
        rows.append((f"{start:.4g} to {end:.4g}", passes, defects, note))
    return rows


def diagnostics(files: LoopFiles, label: str) -> list[Row]:
    """Measure, value, threshold, status of a phase (panel 10)."""
    result = files.measured.get(label)
    if result is None:
        return []
    contract, rows = files.contract, list[Row]()
    pairs: list[tuple[Bound, float]] = [(contract, result.value)]
    pairs += [(bound, result.constraints[bound.name]) for bound in contract.constraints]
    for bound, value in pairs:
        held = "MET" if bound.holds(value) else gap(files, label) if bound is contract else "not held"
        limit = f"{bound.operator} {bound.target:g} {bound.unit}"
        rows.append((bound.display_name, f"{value:.4g} {bound.unit}", limit, held))
    for name, (shown, unit) in DIAGNOSTICS.items():
        figure = result.diagnostics.get(name)
        if isinstance(figure, float | int):
            rows.append((shown, f"{figure:.4g} {unit}".rstrip(), None, "for information"))
    return rows


def defect_types(files: LoopFiles, label: str) -> list[Row]:
    """Defect type, count, score range, whether it is found, and the PASS samples it costs (panel 11).

    The hardest type comes first.
    """
    scored, threshold = files.scored(label), files.state.phase(label).threshold
    if scored is None:
        return []
    passes = scored.scores[scored.is_pass]
    found = []
    for number, name in enumerate(scored.rows.labels):
        scores = scored.scores[scored.rows.label_of == number]
        if name == PASS or not scores.size:
            continue
        lowest = float(scores.min())
        caught = None if threshold is None else int(np.count_nonzero(scores > threshold))
        answer = None if caught is None else _detectable(caught, scores.size)
        cost = int(np.count_nonzero(passes >= lowest))
        alarms = f"{cost:,} of {passes.size:,}" if passes.size else None
        found.append(
            (lowest, (name.lower(), scores.size, f"{lowest:.4g} to {scores.max():.4g}", answer, alarms))
        )
    return [row for _, row in sorted(found, key=lambda one: one[0])]


def _detectable(caught: int, count: int) -> str:
    if caught == count:
        return "yes, all"
    return f"{caught} of {count} ({100 * caught / count:.0f} %)" if caught else "no, none"


def seconds_of(files: LoopFiles) -> Iterator[tuple[str, int]]:
    """The label and the seconds of every iteration that has begun."""
    for label in files.iterations:
        yield label, sum(event.duration_sec for event in files.state.events if event.iter == label)
