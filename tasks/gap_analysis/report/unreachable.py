"""The abridged RCA report of a target that no threshold reaches, from `unreachable_kpi.txt` alone."""

from __future__ import annotations

import re

from tasks.gap_analysis.vcn_files import UNREACHABLE
from tasks.reports.markdown import code, escaped

HEADINGS = ("Verdict", "Threshold Selection", "What Can Be Reached", "Recommended Actions")

REASONS = {
    "no_no_pass_rows": "the CSV has no sample with a defect label, so nothing can be found and recall means "
    "nothing",
    "pinned_threshold": "the threshold was given by the settings, and at that value too many defects are "
    "missed "
    "or too many good samples are flagged",
    "max_far": "every threshold that finds enough defects flags more good samples than is allowed",
}
ADVICE = {
    "no_no_pass_rows": "Relabel: give the KPI set its defect samples, each with its defect's name as label, "
    "score them, and run this analysis again; without a defect no training can be judged.",
    "pinned_threshold": "Retrain or relabel, and leave the threshold negative in the next analysis so that "
    "it is "
    "searched for instead of given.",
    "max_far": "Retrain with more samples like those that are confused, or relabel the ones whose label is "
    "wrong; "
    "relax a target only if a person agrees to what that lets through.",
}
OTHERWISE = (
    "Retrain the model or relabel the samples that contradict their label, then run this analysis again."
)

_REQUESTED = re.compile(r"^No threshold achieves (.+)\.$", re.MULTILINE)
_LINE = re.compile(
    r"^(Reason|Rows|At the pinned threshold|Best recall attainable|Recall at best F1): (.+)$", re.M
)


def text(said: str) -> str:
    """The four sections; `said` is the content of the file, whose known lines are put into words."""
    requested = _REQUESTED.search(said)
    known = dict(_LINE.findall(said))
    reason = known.get("Reason", "")
    target = escaped(requested[1]) if requested else "the target"
    parts = [
        _verdict(target, reason, known),
        _selection(target, known),
        f"This stands in place of sections 3 to 6: without a threshold no sample is weak or strong, and no "
        f"picture was looked at. What {code(UNREACHABLE)} says (rates are fractions of 1, FAR is the share "
        "of "
        f"good samples that are flagged):\n\n```text\n{said.rstrip().replace('```', '')}\n```",
        ADVICE.get(reason, OTHERWISE),
    ]
    numbers = (1, 2, 3, 7)
    return "\n".join(
        f"## {number}. {heading}\n\n{part}\n"
        for number, heading, part in zip(numbers, HEADINGS, parts, strict=True)
    )


def _verdict(target: str, reason: str, known: dict[str, str]) -> str:
    why = REASONS.get(reason)
    because = f": {why}" if why else ""
    best = known.get("Best recall attainable")
    attained = f" The best recall that can be had within the other limits is {escaped(best)}." if best else ""
    return (
        f"**The KPI target cannot be reached, so there is no threshold to ship.** Asked for was {target}; no "
        f"threshold achieves that{because}.{attained} No weak samples were ranked, and nothing is handed on "
        "to "
        "routing."
    )


def _selection(target: str, known: dict[str, str]) -> str:
    rows = known.get("Rows")
    lines = [f"No candidate meets {target}, so none was chosen, and there is no confusion matrix."]
    if rows:
        lines.append(f"The CSV has these rows: {escaped(rows)} (NO_PASS means any label but PASS).")
    if "At the pinned threshold" in known:
        lines.append(f"At the pinned threshold the recall is {escaped(known['At the pinned threshold'])}.")
    if "Recall at best F1" in known:
        lines.append(
            "With no target at all, the best F1 would come with a recall of "
            f"{escaped(known['Recall at best F1'])}."
        )
    return " ".join(lines)
