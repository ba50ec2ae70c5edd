"""The counts of a neighbour search, and their text in the container's words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MiningSummary:
    """What a neighbour search found and dropped.

    Attributes:
        target_queries: weak samples.
        source_rows: rows of the pool.
        topn_requested: `topn` of the spec.
        topn: the same, at most the pool's rows.
        knn_metric: the distance.
        encoder_match: `yes`, or `unverified` when a sidecar is missing.
        total_pairs: pairs found by the search.
        filter_mode: how labels filtered, None when they did not.
        kept_by_label: pairs of equal label, None when labels did not filter.
        label_filter_noop: the label filter was asked for and could not act.
        kept_by_distance: pairs within the distance threshold, None when it is off.
        distance_threshold: the threshold, None when it is off.
        total_candidates: pairs left.
        unique_saved: unique pool paths among them.
        output: where these paths are.
    """

    target_queries: int
    source_rows: int
    topn_requested: int
    topn: int
    knn_metric: str
    encoder_match: str
    total_pairs: int
    filter_mode: str | None
    kept_by_label: int | None
    label_filter_noop: bool
    kept_by_distance: int | None
    distance_threshold: float | None
    total_candidates: int
    unique_saved: int
    output: str


def summary_text(summary: MiningSummary) -> str:
    """`mining_summary.txt`, line for line as the container writes it."""
    lines = [
        f"Target queries: {summary.target_queries}",
        f"Similar items per query: {summary.topn}",
        f"Total pairs: {summary.total_pairs}",
    ]
    left = summary.total_pairs
    if summary.kept_by_label is not None:
        kept = summary.kept_by_label
        lines.append(
            f"After label mismatch filtering: kept {kept}/{left} pairs, dropped {left - kept} mismatches"
        )
        left = kept
    if summary.kept_by_distance is not None:
        kept = summary.kept_by_distance
        lines.append(
            f"After distance filtering: kept {kept}/{left} pairs, "
            f"dropped {left - kept} exceeding threshold {summary.distance_threshold:.4f}"
        )
    lines += [
        f"Total candidates: {summary.total_candidates}",
        f"Duplicates removed: {summary.total_candidates - summary.unique_saved}",
        f"Unique items saved: {summary.unique_saved}",
        f"Results saved to: {summary.output}",
    ]
    return "\n".join(["Summary:", *(f"  {line}" for line in lines)]) + "\n"
