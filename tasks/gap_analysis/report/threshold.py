"""Sections 1 and 2 of the RCA report: what the threshold does on the line, and why it is that one."""

from __future__ import annotations

from typing import Any

from tasks.dataset.table import PASS
from tasks.errors import listed
from tasks.gap_analysis.report.actions import threshold_action, threshold_words
from tasks.gap_analysis.report.chart import CHART
from tasks.gap_analysis.report.facts import Facts, defects_in, of, percent
from tasks.gap_analysis.vcn_files import GAPS, SAMPLES
from tasks.reports.markdown import NONE, code, escaped, image, table
from tasks.reports.words import counted

MOST_LABELS = 3


def verdict(facts: Facts) -> str:
    """Section 1: what it means for the line, whether the target is reached, and the figures."""
    return "\n\n".join(
        [
            f"**{headline(facts)}** {_reach(facts)}",
            _advice(facts),
            f"{_wrong(facts)}{_hangs_on(facts)} {_queue(facts)}",
            _figures(facts),
            f"{_kpi(facts)} {_origin(facts)}",
        ]
    )


def headline(facts: Facts) -> str:
    """What the threshold lets through and what it flags, as people on the line would say it."""
    counts, (defects, good) = facts.counts, defects_in(facts)
    missed, flagged = counts["fn"], counts["fp"]
    through = f"{of(missed, defects)} defects slip through" if missed else "no defect slips through"
    if not good:
        alarms = "there are no good samples that could be flagged"
    elif flagged:
        alarms = f"{of(flagged, good)} good samples are flagged as defects"
    else:
        alarms = f"none of {good:,} good samples is flagged"
    return f"At threshold {facts.threshold:.4g} {through} and {alarms}."


def selection(facts: Facts) -> str:
    """Section 2: the target, the candidates, the rule, the runners-up and the confusion matrix."""
    swept = facts.metrics["threshold_origin"] == "swept"
    return "\n\n".join(
        [
            "The model gives every sample a score: how different it is from its golden (known good) "
            "reference. "
            "A sample whose score lies above the threshold is called a defect (NO_PASS), any other is called "
            "good (PASS). A low threshold finds more defects and flags more good samples.",
            _settings(facts),
            _rule(facts) if swept else _given(facts),
            _candidates(facts),
            *_chart(facts),
            "The confusion matrix counts every sample once, by what it is (rows) and by what the model calls "
            "it at this threshold (columns):",
            _confusion(facts),
            *_boundary(facts),
        ]
    )


def _advice(facts: Facts) -> str:
    choice, reason = threshold_action(facts)
    return f"Recommended: {threshold_words(facts)[choice]}, because {reason} (section 7)."


def _reach(facts: Facts) -> str:
    metrics = facts.metrics
    target, recall = percent(metrics["min_recall"]), percent(metrics["recall"])
    if metrics["threshold_origin"] == "pinned" and not metrics["min_recall"]:
        return f"The threshold was given, with no recall target; the recall attained is {recall}."
    return f"The recall target of {target} can be reached: yes, the recall attained is {recall}."


def _wrong(facts: Facts) -> str:
    total, wrong = facts.metrics["n_total"], facts.misclassified
    if not wrong:
        return (
            f"None of the {counted(total, 'KPI sample')} lies on the wrong side of the threshold; what "
            "follows "
            "ranks those that come nearest to it."
        )
    ranked = sorted(facts.labels.items(), key=lambda one: -one[1]["n_misclassified"])
    worst = [(name, one["n_misclassified"]) for name, one in ranked if one["n_misclassified"]]
    named = [f"{escaped(name)}, {of(count, wrong)}" for name, count in worst[:MOST_LABELS]]
    return (
        f"{of(wrong, total)} KPI samples lie on the wrong side of the threshold. "
        f"Labels with the largest share of them: {'; '.join(named)}."
    )


def _hangs_on(facts: Facts) -> str:
    """Where no defect may be missed, the defect of the lowest score decides how low the threshold is."""
    defects = [one for name, group in facts.kept.items() if name != PASS for one in group]
    lowest = sorted(defects, key=lambda one: float(one["siamese_score"]))[:2]
    if facts.metrics["threshold_origin"] != "swept" or facts.metrics["min_recall"] < 1 or len(lowest) < 2:
        return ""
    first, second = lowest
    return (
        " As no defect may be missed, the defect of the lowest score decides how high the threshold can be: "
        f"{escaped(first['input_path'])}/{escaped(first['object_name'])} ({escaped(first['label'])}) with "
        f"{first['siamese_score']:.4g}; the next one has {second['siamese_score']:.4g}."
    )


def _queue(facts: Facts) -> str:
    metrics = facts.metrics
    top_k = metrics["top_k_per_label"]
    what = (
        "Every misclassified sample"
        if top_k is None
        else f"The {counted(top_k, 'weakest sample')} of each label"
    )
    return (
        f"{what}, {metrics['n_kept_samples']:,} of {metrics['n_total']:,} in all, "
        f"{'is' if top_k in (None, 1) else 'are'} kept in {code(GAPS)} ({metrics['n_kept_rows']:,} image "
        "files) "
        f"and, one row for each sample, in {code(SAMPLES)}."
    )


def _figures(facts: Facts) -> str:
    metrics, counts, (defects, good) = facts.metrics, facts.counts, defects_in(facts)
    rows: list[tuple[object, ...]] = [
        ("Threshold", code(facts.exact_threshold), "a score above it means: defect"),
        ("Recall", percent(metrics["recall"]), f"defects that are found: {counts['tp']:,} of {defects:,}"),
        (
            "Precision",
            percent(metrics["precision"]),
            f"real defects among what is flagged: {counts['tp']:,} of {counts['tp'] + counts['fp']:,}",
        ),
        ("F1", metrics["f1"], "precision and recall in one figure; 1 is perfect"),
        (
            "False alarms (FAR)",
            percent(counts["fp"], good),
            f"good samples that are flagged: {of(counts['fp'], good)}",
        ),
        ("KPI samples (N)", metrics["n_total"], f"{defects:,} defects and {good:,} good"),
        ("Kept (K of each label)", metrics["n_kept_samples"], "weak samples handed on"),
        ("Misclassified (M)", facts.misclassified, "samples on the wrong side of the threshold"),
        ("Defects to work on", _targets(facts), "most missed first, then the weakest on average"),
    ]
    return table(("Figure", "Value", "Meaning"), rows)


def _targets(facts: Facts) -> str:
    return ", ".join(facts.metrics["target_defects"]) or NONE


def _kpi(facts: Facts) -> str:
    kpi = facts.inputs.kpi
    if kpi is None:
        return "No KPI result of these scores was found, so this report does not say whether the KPI is met."
    value = f"{kpi.value:.4g} {kpi.unit}".rstrip()
    return f"The KPI ({escaped(kpi.contract)}) is {'met' if kpi.met else 'not met'}: measured {value}."


def _origin(facts: Facts) -> str:
    origin = facts.inputs.origin
    by = f" by the flow run {escaped(origin.computed_by)}" if origin.computed_by else ""
    if not origin.cached:
        took = f" in {origin.seconds:.1f} s" if origin.seconds is not None else ""
        return f"The figures were computed for this report{by}{took}."
    where = f" in {code(origin.folder)}" if origin.folder else ""
    return (
        "The figures were not computed again: scores and settings are equal to those of an earlier "
        "analysis, "
        f"whose result was taken from the cache. It was computed{by}{where}."
    )


def _settings(facts: Facts) -> str:
    metrics = facts.metrics
    far = metrics.get("max_far")
    rows: list[tuple[object, ...]] = [
        ("Target recall on NO_PASS", f"at least {percent(metrics['min_recall'])}"),
        *([("Most false alarms allowed", percent(far))] if far is not None else []),
        ("Candidates evaluated", metrics["candidates_evaluated"]),
        ("Candidates that meet the target", metrics["candidates_feasible"]),
        ("Chosen threshold", code(facts.exact_threshold)),
    ]
    return table(("Choice of the threshold", "Value"), rows)


def _rule(facts: Facts) -> str:
    text = (
        "Every score that occurs was tried as threshold, and one value below them all. Of the candidates "
        "that "
        "meet the target the one with the highest F1 was chosen; of equal F1 the higher precision wins, and "
        "of "
        "equal precision the higher threshold (F1 → precision → threshold)."
    )
    others = facts.metrics["runner_up"]
    if not others:
        return f"{text} There was no runner-up: only one candidate meets the target."
    return f"{text} {_why_it_lost(facts.metrics, others[0])}"


def _why_it_lost(chosen: dict[str, Any], other: dict[str, Any]) -> str:
    named = (("f1", "F1"), ("precision", "precision"), ("threshold", "threshold"))
    key, name = next(((key, name) for key, name in named if chosen[key] != other[key]), named[-1])
    return (
        f"The runner-up, {other['threshold']:.6g}, was decided against by {name}: "
        f"{other[key]:.6g} against {chosen[key]:.6g}."
    )


def _given(facts: Facts) -> str:
    return (
        "The threshold was given by the settings and not searched for: it is the only candidate, and there "
        "is "
        "no tie to break and no runner-up. The figures say what happens at that operating point."
    )


def _candidates(facts: Facts) -> str:
    chosen = {**facts.metrics, **facts.counts}
    rows = [
        (
            name,
            one["threshold"],
            one["f1"],
            percent(one["precision"]),
            percent(one["recall"]),
            one["fn"],
            one["fp"],
        )
        for name, one in [("chosen", chosen), *(("runner-up", one) for one in facts.metrics["runner_up"])]
    ]
    header = ("Candidate", "Threshold", "F1", "Precision", "Recall", "Missed defects", "False alarms")
    return table(header, rows)


def _chart(facts: Facts) -> list[str]:
    if not (facts.folder / CHART).is_file():
        return []
    picture = image("Histogram of the scores of good samples and of defects, with the threshold", CHART)
    return [
        f"How often which score occurs; where the two colours overlap the model cannot tell:\n\n{picture}"
    ]


def _confusion(facts: Facts) -> str:
    counts = facts.counts
    rows = [
        ("Actual NO_PASS", f"{counts['tp']:,} (TP, found)", f"{counts['fn']:,} (FN, missed)"),
        ("Actual PASS", f"{counts['fp']:,} (FP, false alarm)", f"{counts['tn']:,} (TN, rightly passed)"),
    ]
    return table(("", "Predicted NO_PASS", "Predicted PASS"), rows)


def _boundary(facts: Facts) -> list[str]:
    count = facts.metrics["n_boundary"]
    if not count:
        return []
    defects = [escaped(name) for name in facts.labels if name != PASS]
    return [
        f"{counted(count, 'defect')} ({listed(defects, MOST_LABELS)} among the labels) scored exactly the "
        "threshold: the matrix counts them as missed, the tables below as marginal, with weakness 0."
    ]
