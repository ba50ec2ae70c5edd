"""The sections of a mining report that tell what came out: run, labels, checks, and what to do."""

from __future__ import annotations

from pathlib import Path

from tasks.mining.report.actions import actions, always, median_similarity
from tasks.mining.report.checks import sanity
from tasks.mining.report.facts import SEARCH, MiningFacts, settings_of
from tasks.mining.report.sections import path_cell
from tasks.reports.markdown import Raw, code, table


def run(facts: MiningFacts) -> str:
    """Section 4."""
    summary, loop = facts.summary, facts.loop
    numbers: list[tuple[str, object]] = [
        ("Target queries", summary.target_queries),
        ("Pool images searched", summary.source_rows),
        ("Neighbours requested (targets × topn)", facts.wanted),
        ("Pairs found", summary.total_pairs),
        ("Pairs kept by label filter", summary.kept_by_label),
        ("Pairs dropped by label filter", _difference(summary.total_pairs, summary.kept_by_label)),
        ("Duplicates removed", summary.total_candidates - summary.unique_saved),
        ("Unique images found", summary.unique_saved),
    ]
    if summary.distance_threshold is not None:
        numbers.append(("Pairs within the distance threshold", summary.kept_by_distance))
    if loop:
        numbers += [
            ("Kept by the similarity floor", loop.kept),
            ("Rejected by the similarity floor", loop.rejected),
            ("Left for later by the budget max_new_rows", loop.selection.over_budget_count),
            ("Newly selected", loop.selection.selected_count),
        ]
    median = median_similarity(facts)
    numbers.append(("Median similarity of the images found (1 = alike)", median))
    return "\n\n".join(
        [
            _compared_with(facts),
            "Command:",
            f"```\ntmm nearest_neighbors -e {_name(facts.search_spec, SEARCH)}\n```",
            f"Parameters: {_parameters(facts)}.",
            table(("Number", "Value"), numbers),
            _no_op(facts),
            *([_floor_note(facts)] if loop else []),
        ]
    )


def labels(facts: MiningFacts) -> str:
    """Section 5."""
    if facts.targets.labels is None or facts.pool.labels is None:
        lacking = "weak samples have" if facts.targets.labels is None else "pool has"
        return (
            f"There is no breakdown by label: the {lacking} no column `label`, so that nothing on disk says "
            "how many of the mined images belong to which kind of defect. Add the column and mine again "
            "to see which defects the pool can and cannot help with."
        )
    weak, pool, mined = facts.targets.counts, facts.pool.counts, facts.by_label
    rows = [
        (label, weak[label], mined[label], _label_note(facts, label, pool[label]))
        for label in sorted({*weak, *mined}, key=lambda one: (-weak[one], one))
    ]
    return (
        "A mined image counts for the label of the weak sample that it is nearest to"
        + ("; those drawn at random count for their own." if facts.random_labels != set() else ".")
        + " A row with 0 mined images is a kind of error that this mining does not help with.\n\n"
        + table(("Target Label", "N_targets", "N_mined source rows", "Notes"), rows)
    )


def output(facts: MiningFacts) -> str:
    """Section 6."""
    checks = sanity(facts)
    bad = [one.what for one in checks if not one.good]
    text = f"Not all is as it should be: {', '.join(bad)}." if bad else "All checks of the output passed."
    return (
        f"{text} The result is {path_cell(facts, facts.mined_parquet)}, which later steps read.\n\n"
        + table(
            ("Check", "Found", "Result"),
            [(one.what, one.found, Raw("pass" if one.good else "**FAIL**")) for one in checks],
        )
    )


def recommended(facts: MiningFacts) -> str:
    """Section 7."""
    todo = [*actions(facts), always(facts)]
    numbered = "\n".join(f"{number}. {text}" for number, text in enumerate(todo, 1))
    return f"By fixed rules from the numbers above, the most pressing first:\n\n{numbered}"


def _compared_with(facts: MiningFacts) -> str:
    which = "pool image of its own label" if facts.summary.filter_mode == "within_label" else "pool image"
    left = ", without those that earlier iterations mined" if facts.loop else ""
    return (
        f"Each weak sample was compared with every {which}{left}. Its nearest ones make pairs with it; an "
        "image that is near to several weak samples counts once."
    )


def _parameters(facts: MiningFacts) -> str:
    summary = facts.summary
    known: dict[str, object] = {
        "topn": summary.topn_requested,
        "knn_metric": summary.knn_metric,
        "filter_by_label": "true" if summary.filter_mode or summary.label_filter_noop else "false",
        "filter_mode": summary.filter_mode or "post",
        "distance_threshold": -1 if summary.distance_threshold is None else summary.distance_threshold,
    }
    known |= {key: value for key, value in settings_of(facts.search_spec).items() if key in known}
    text = ", ".join(code(f"{key}={value}") for key, value in known.items())
    if summary.topn < summary.topn_requested:
        text += f"; topn was capped to {summary.topn:,}, because the pool has no more images to search"
    return text


def _no_op(facts: MiningFacts) -> str:
    if not facts.summary.label_filter_noop:
        asked = "labels filtered as they were asked to" if facts.summary.filter_mode else "none was asked for"
        return f"Label filter no-op: **no** ({asked})."
    if facts.filter_line:
        return f"Label filter no-op: **yes**. The log says: {code(facts.filter_line)}"
    return "Label filter no-op: **yes**. The log of the search is not there any more, so its line is missing."


def _floor_note(facts: MiningFacts) -> str:
    loop = facts.loop
    assert loop is not None
    if loop.floor is None:
        return (
            "Similarity floor: off, because it has a meaning only for the cosine metric; all images found "
            "were kept."
        )
    return (
        f"Similarity floor: an image is kept when its similarity to some weak sample is at least "
        f"{loop.floor:.4g} (1 = same direction, 0 = unrelated, −1 = opposite)."
        + (" At −1 it lets everything through." if loop.floor <= -1 else "")
    )


def _label_note(facts: MiningFacts, label: str, in_pool: int) -> str:
    own = sum(one == label for one in facts.mined_labels)
    before = facts.used_before[label]
    earlier = f" and {before:,} mined in earlier iterations" if before else ""
    notes = [f"{in_pool:,} pool images carry the label, {own:,} of them mined{earlier}"]
    if not facts.targets.counts[label]:
        notes.append("no weak sample has it")
    if facts.by_label[label] and facts.drawn(label):
        notes.append("drawn at random")
    if facts.targets.counts[label] and not facts.by_label[label]:
        notes.append("POOL GAP")
    return "; ".join(notes)


def _name(spec: Path | None, stem: str) -> str:
    return spec.name if spec else f"{stem}_spec.yaml"


def _difference(whole: int, part: int | None) -> int | None:
    return None if part is None else whole - part
