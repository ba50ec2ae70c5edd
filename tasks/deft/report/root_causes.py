"""What the scores of a phase say: charts, insights, and how each defect type is found (panels 10, 11)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tasks.deft.report import drawings, sheets, tables
from tasks.deft.report.files import LoopFiles
from tasks.deft.stages import BASELINE
from tasks.evaluation.plots import full_recall


def root_causes(files: LoopFiles, best: str | None) -> dict[str, Any]:
    """What panel 10 shows of the best phase; parts that are not known are empty."""
    empty: dict[str, Any] = {
        "label": best, "insight": None, "ranges": [], "diagnostics": [], "histograms": [], "curves": None,
        "matrices": [], "weakest": {}, "threshold": None,
    }  # fmt: skip
    if best is None:
        return empty
    return {
        **empty,
        "insight": _insight(files, best),
        "ranges": tables.score_ranges(files, best),
        "diagnostics": tables.diagnostics(files, best),
        "weakest": sheets.weakest(files, best),
        "threshold": _threshold_insight(files, best),
        **_score_charts(files, best),
    }


def histograms(files: LoopFiles, labels: Iterable[str]) -> list[tuple[str, object]]:
    """The score histograms of the phases whose scores can be read."""
    shown = [
        (label, files.scored(label), files.state.phase(label).threshold) for label in dict.fromkeys(labels)
    ]
    return [
        (label, drawings.histogram(f"histogram-{label}", scored, threshold))
        for label, scored, threshold in shown
        if scored
    ]


def _score_charts(files: LoopFiles, best: str) -> dict[str, Any]:
    newest = [label for label in files.training_phases if label in files.measured][-1:]
    beside = newest if best == BASELINE else [best]
    phases = tuple((label, scored) for label in files.measured if (scored := files.scored(label)))
    scored, matrices = files.scored(best), []
    if scored and scored.kpi:
        points = (("At recall 100 %", full_recall(scored.kpi)), ("At the best F1", scored.kpi.best_f1))
        matrices = [
            (name, drawings.matrix(f"matrix-{number}", point)) for number, (name, point) in enumerate(points)
        ]
    return {
        "histograms": histograms(files, (BASELINE, *beside)),
        "curves": drawings.curves("curves", phases) if phases else None,
        "matrices": matrices,
    }


def _insight(files: LoopFiles, best: str) -> str | None:
    lowest = files.measured[best].diagnostics.get("lowest_defect")
    if not isinstance(lowest, dict):
        return None
    where = "/".join(str(lowest[name]) for name in ("input_path", "object_name") if lowest.get(name))
    score = lowest.get("score")
    shown = f" with score {score:.4g}" if isinstance(score, float | int) else ""
    return (
        f"The defect that is hardest to find is {lowest.get('label', 'one')} {where}{shown}: at 100 % recall "
        "the threshold must lie below it, and every good sample above the threshold is a false alarm."
    )


def _threshold_insight(files: LoopFiles, best: str) -> str:
    threshold = files.state.phase(best).threshold
    if threshold is None:
        return (
            "The evaluator gives no threshold, so nothing is said here of what is found at it; the matrices "
            "are this report's own, from the scores alone."
        )
    text = f"A sample whose score is above {threshold:.4g} is called a defect."
    scored = files.scored(best)
    if scored is None or scored.is_pass.all() or not scored.is_pass.any():
        return text
    top = float(scored.scores[scored.is_pass].max())
    bottom = float(scored.scores[~scored.is_pass].min())
    if bottom > top:
        return (
            f"{text} The highest PASS sample scores {top:.4g}, the lowest defect {bottom:.4g}: between them "
            "is a gap, so both kinds are told apart without an error."
        )
    mixed = int((scored.scores[scored.is_pass] >= bottom).sum())
    return (
        f"{text} {mixed:,} PASS samples score no lower than the lowest defect ({bottom:.4g}); no threshold "
        "can find every defect and let them pass."
    )


def defect_types(files: LoopFiles, best: str | None) -> dict[str, Any]:
    """What panel 11 shows of a phase."""
    scored = files.scored(best) if best else None
    if best is None or scored is None:
        return {"label": best, "rows": [], "chart": None}
    threshold = files.state.phase(best).threshold
    return {
        "label": best,
        "rows": tables.defect_types(files, best),
        "chart": drawings.strips("strips", scored, threshold),
    }
