"""What a finished neighbour search is about."""

from __future__ import annotations

from tasks.action import Headline
from tasks.artifacts import read_json
from tasks.headlines import first_pictures
from tasks.mining.spec import NeighboursSpec
from tasks.reports.words import counted, share


def headline(spec: NeighboursSpec) -> Headline:
    """How many pool images were found, and what each filter left of the pairs."""
    facts = read_json(spec.summary_json)
    steps = [
        ("Pairs of a weak image and a pool image", facts["total_pairs"]),
        ("of them with equal labels", facts["kept_by_label"]),
        (f"of them within the distance {_number(facts['distance_threshold'])}", facts["kept_by_distance"]),
        ("Different pool images among them", facts["unique_saved"]),
    ]
    pictures = first_pictures(spec.output_parquet, "filepath")
    unverified = "" if facts["encoder_match"] == "yes" else " That both sides have one encoder is unverified."
    return Headline(
        f"Of the pool's images {share(facts['unique_saved'], facts['source_rows'])} are among the "
        f"{facts['topn']} nearest of {counted(facts['target_queries'], 'weak image')} "
        f"({facts['knn_metric']} distance).{unverified}",
        ("What", "Count"),
        [step for step in steps if step[1] is not None],
        pictures,
        f"The first {len(pictures)} of the images that were found:",
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
