"""`AUTOML_Report.html`: what a sweep tried, what won, and how far that can be believed.

A pure function of the files of a sweep's folder; right on one that still runs or has failed.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tasks.automl.files import Dimension, SweepFiles, read_sweep
from tasks.automl.table import ENOUGH, TRIALS_CSV
from tasks.automl.trial import Row
from tasks.automl.words import amount, better, duration, keys, meaning, metric_name
from tasks.reports.page import write_page
from tasks.reports.words import counted

REPORT = "AUTOML_Report.html"
TEMPLATE = "AUTOML_Report.html.j2"
SOURCES = {
    "base": "base spec",
    "sampler": "proposed",
    "llm": "proposed by a language model",
    "fallback": "proposed (the language model failed)",
    "user": "given by a person",
    "rerun": "winner again, other seed",
}
LINKS = {
    "trials as a table": TRIALS_CSV,
    "what was searched": "study.json",
    "choice of the winner": "quality_check.json",
    "winner for other programs": "best_rec.json",
    "whole spec of the winner": "winner_spec.yaml",
}


def render(folder: Path) -> Path:
    """Write `AUTOML_Report.html` into the folder of a sweep and give its path.

    Raises:
        InputError: the folder is no sweep, or one of its files cannot be read; it is named.
    """
    return write_page(folder / REPORT, TEMPLATE, **context(read_sweep(folder)))


def context(sweep: SweepFiles) -> dict[str, Any]:
    """What the page shows."""
    return {
        "title": f"Sweep {sweep.folder.name}",
        "folder": str(sweep.folder),
        "ended": sweep.quality is not None,
        "headline": headline(sweep),
        "meaning": meaning(sweep.metric.name),
        "facts": _facts(sweep),
        "tuned": tuned_rows(sweep),
        "charts": charts_of(sweep, "sweep"),
        "judged": judged(sweep),
        "trials": [_trial(row, sweep) for row in sweep.rows],
        "trials_header": _trials_header(sweep),
        "number_columns": _number_columns(sweep),
        "failures": failures(sweep),
        "searched": [(one.name, keys(*one.places), one.range, one.reason) for one in sweep.dimensions],
        "left_out": list(sweep.study.get("inert", {}).items()),
        "pinned": [(keys(name), value_of(value)) for name, value in sweep.study.get("pinned", {}).items()],
        "links": [(name, file) for name, file in LINKS.items() if (sweep.folder / file).is_file()],
    }


def headline(sweep: SweepFiles) -> str:
    """What came of the sweep, in a sentence or three."""
    quality, metric = sweep.quality, sweep.metric
    if quality is None:
        return _so_far(sweep)
    name, unit = metric_name(quality.metric.name), quality.metric.unit
    score = amount(quality.score, unit)
    parts = [f"Trial {quality.chosen_rec} wins with {name} {score} on the validation set."]
    base = _score_of_base(sweep)
    if base is not None and quality.metric == metric:
        parts.append(
            "That is the base spec: nothing that was tried is better."
            if sweep.winner and sweep.winner.number == 0
            else f"The spec as it was before reached {amount(base, unit)}."
        )
    if quality.gain is not None:
        than = f"{start_name(sweep)} ({amount(quality.zero_shot, unit)})"
        parts.append(f"It is {'better' if quality.gain else 'NOT better'} than {than}.")
    return " ".join(parts)


def start_name(sweep: SweepFiles) -> str:
    """What the winner is held against: the model from which the trials started."""
    after_loop = bool(sweep.rows) and sweep.rows[0].phase == 3
    return "the model of the loop, as every trial got it" if after_loop else "a model without training"


def _so_far(sweep: SweepFiles) -> str:
    """The headline while there is no winner."""
    ended = [row for row in sweep.rows if row.ended]
    scored = [row for row in ended if row.outcome]
    trials = counted(len(ended), "trial")
    if not ended:
        return "No trial has ended yet, so there is nothing to choose from."
    if not scored:
        return f"There is no winner: none of {trials} gave a model. The reasons stand below."
    best = min(scored, key=lambda row: sweep.metric.key(row.outcome.score) if row.outcome else 0.0)
    assert best.outcome is not None
    return (
        f"No winner is chosen yet: {trials} ended, the best so far is {best.rec_id} with "
        f"{metric_name(sweep.metric.name)} {amount(best.outcome.score, sweep.metric.unit)}."
    )


def _score_of_base(sweep: SweepFiles) -> float | None:
    first = next((row for row in sweep.rows if row.source == "base"), None)
    return first.outcome.score if first and first.outcome else None


def _facts(sweep: SweepFiles) -> list[tuple[str, object]]:
    states = Counter(row.state for row in sweep.trials)
    reruns = len(sweep.rows) - len(sweep.trials)
    told = ", ".join(f"{count} {_STATE[state]}" for state, count in sorted(states.items()))
    quality = sweep.quality
    return [
        ("measured by", f"{metric_name(sweep.metric.name)} ({better(sweep.metric)}), on the validation set"),
        ("method", sweep.study.get("algorithm")),
        ("trials", told or None),
        ("winner trained again", counted(reruns, "time") if reruns else "no"),
        ("computing time", duration(sum(row.seconds for row in sweep.rows)) if sweep.rows else None),
        ("threshold of the winner", quality.outcome.threshold if quality else None),
        ("checkpoint of the winner", str(quality.outcome.checkpoint) if quality else None),
    ]


_STATE = {
    "queued": "waiting",
    "running": "running",
    "complete": "complete",
    "pruned": "stopped early",
    "collapsed": "no use",
    "failed": "failed",
}


def tuned_rows(sweep: SweepFiles) -> list[tuple[object, ...]]:
    """Parameter, value before, value of the winner, keys of the spec."""
    base = sweep.study.get("base", {})
    if not base and sweep.rows and sweep.rows[0].source == "base":
        base = sweep.rows[0].params
    if sweep.winner is None:
        return []
    return [
        (one.name, base.get(one.name), sweep.winner.params.get(one.name), keys(*one.places))
        for one in sweep.dimensions
    ]


def charts_of(sweep: SweepFiles, name: str) -> dict[str, Any]:
    """The three charts by name; a text where one of them would say nothing."""
    from tasks.automl import plots

    scored = sum(row.outcome is not None for row in sweep.trials)
    return {
        "lines": plots.parallel_coordinates(sweep, f"{name}-lines"),
        "by_trial": plots.score_by_trial(sweep, f"{name}-trials"),
        "importance": plots.importance_bars(sweep.importance, f"{name}-importance"),
        "no_importance": ""
        if sweep.importance
        else f"Not shown: {counted(scored, 'trial')} gave a score; below {ENOUGH} such a figure is chance."
        if scored < ENOUGH
        else "Not known: it is worked out when the sweep ends and searches two parameters or more.",
        "edges": _at_the_edge(sweep),
        "rerun": _was_run_again(sweep),
    }


def _was_run_again(sweep: SweepFiles) -> bool:
    quality = sweep.quality
    return quality is not None and any(one.rec_id == quality.chosen_rec for one in quality.reruns)


def _at_the_edge(sweep: SweepFiles) -> list[str]:
    """Parameters whose best value lies at an end of what was searched: a wider range may be better still."""
    if sweep.winner is None:
        return []
    return [one.name for one in sweep.dimensions if _is_edge(one, sweep.winner)]


def _is_edge(one: Dimension, winner: Row) -> bool:
    place = one.position(winner.params.get(one.name)) if one.type == "float" else None
    return place is not None and not 0.01 < place < 0.99


def judged(sweep: SweepFiles) -> dict[str, Any] | None:
    """What the quality check found; none before it was made."""
    quality = sweep.quality
    if quality is None:
        return None
    unit = quality.metric.unit
    return {
        "metric": metric_name(quality.metric.name),
        "candidates": [
            (one.rank, one.rec_id, amount(one.score, unit), _counts(one.predicted), one.refused or "may win")
            for one in quality.candidates
        ],
        "reruns": [
            (one.rec_id, one.run_id, str(one.seed), amount(one.score, unit), one.reason or "counts")
            for one in quality.reruns
        ],
        "decision": "the first of the ranking" if quality.decision == "best" else "one behind the first",
        "chosen": quality.chosen_rec,
        "run": quality.chosen_run,
        "zero_shot": amount(quality.zero_shot, unit),
        "gain": quality.gain,
        "start": start_name(sweep),
        "spread": _spread(sweep),
        "reasons": quality.reasons,
    }


def _spread(sweep: SweepFiles) -> str:
    """How far the runs of one and the same spec lie apart; empty where none was run twice."""
    quality = sweep.quality
    assert quality is not None
    again: dict[str, list[float]] = {}
    for run in quality.reruns:
        if run.score is not None:
            again.setdefault(run.rec_id, []).append(run.score)
    first = {one.rec_id: one.score for one in quality.candidates if one.score is not None}
    texts = []
    for rec, scores in again.items():
        runs = [*scores, *([first[rec]] if rec in first else [])]
        if len(runs) > 1:
            unit = quality.metric.unit
            texts.append(
                f"{len(runs)} runs of {rec} lie between {amount(min(runs), unit)} and "
                f"{amount(max(runs), unit)}"
            )
    return f"{'; '.join(texts)}: a smaller difference between two trials is chance." if texts else ""


def _counts(predicted: dict[str, int]) -> str | None:
    return ", ".join(f"{name} {count:,}" for name, count in predicted.items()) or None


def failures(sweep: SweepFiles) -> list[tuple[str, int, str]]:
    """Each cause once: what kind, how often, and what was said."""
    causes: dict[str, list[Row]] = {}
    for row in sweep.rows:
        if row.failure:
            causes.setdefault(row.failure.signature, []).append(row)
    return [
        (rows[0].failure.kind.replace("_", " "), len(rows), rows[0].failure.message)
        for rows in causes.values()
        if rows[0].failure
    ]


def _trials_header(sweep: SweepFiles) -> list[str]:
    unit = f" [{sweep.metric.unit}]" if sweep.metric.unit else ""
    return [
        "trial",
        "what",
        "how it ended",
        f"{metric_name(sweep.metric.name)}{unit}",
        *(one.name for one in sweep.dimensions),
        "seed",
        "time",
    ]


def _number_columns(sweep: SweepFiles) -> list[int]:
    """Columns of the trials that hold numbers: the score, and parameters that are no choice."""
    return [3, *(4 + place for place, one in enumerate(sweep.dimensions) if one.type != "choice")]


def _trial(row: Row, sweep: SweepFiles) -> list[object]:
    return [
        row.rec_id,
        SOURCES[row.source],
        _ending(row),
        row.outcome.score if row.outcome else None,
        *(value_of(row.params.get(one.name)) for one in sweep.dimensions),
        str(row.seed),
        duration(row.seconds) if row.ended else None,
    ]


def _ending(row: Row) -> str:
    notes = [_STATE[row.state]]
    if row.state == "pruned":
        notes.append(f"after epoch {(row.pruned_at or 0) + 1}: clearly behind the others")
    if row.outcome:
        best = f"best after epoch {row.outcome.epoch + 1} of {row.outcome.epochs}"
        notes.append(row.outcome.collapse or best)
    if row.failure:
        notes.append(row.failure.message)
    notes += row.adjustments
    return "; ".join(notes)


def value_of(value: Any) -> object:
    """A value of a spec for a table; what is not plain is shown as it is written."""
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
