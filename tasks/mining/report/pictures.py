"""Pictures of a mining report: how alike the found images are, and what was found for which sample."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tasks.mining.report.facts import MiningFacts, compared
from tasks.reports.markdown import Raw, escaped, image, table
from tasks.reports.pictures import write_thumbnail

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHART = "mining_similarity.png"
IMAGES = "mining_images"
SIZE = 112
MOST_LABELS = 6
NEIGHBOURS = 3
BINS = 20


def pictures(facts: MiningFacts) -> Iterator[str]:
    """The chart and the table of pictures, as Markdown; fewer where files for them are missing."""
    similarity = facts.nearest["similarity"].dropna().to_numpy(dtype=float)
    if len(similarity):
        yield _chart(facts, similarity)
    if facts.pairs is not None and len(facts.pairs):
        yield from _sheet(facts, facts.pairs)


def _chart(facts: MiningFacts, similarity: np.ndarray) -> str:
    # Imported late: matplotlib takes longer than all the rest of the report.
    from tasks.reports.charts import COOL, GOOD, INK, write_png

    floor = facts.loop.floor if facts.loop else None
    bins = np.linspace(min(similarity.min(), 0.99), 1, BINS + 1).tolist()
    chosen = facts.nearest.index.isin([path for path in facts.mined or () if not _random(facts, path)])

    def draw(axes: Axes) -> None:
        known = facts.nearest["similarity"].to_numpy(dtype=float)
        axes.hist(known, bins=bins, color=COOL, label="found")
        axes.hist(known[chosen], bins=bins, color=GOOD, label="mined")
        if floor is not None and floor >= bins[0]:
            axes.axvline(floor, color=INK, linestyle="--", label=f"floor {floor:.4g}")
        axes.set_xlabel("similarity to the nearest weak sample (1 = alike)")
        axes.set_ylabel("pool images")
        axes.legend()

    write_png(facts.folder / CHART, draw)
    text = f"How alike the {len(similarity):,} images found are to their nearest weak sample"
    text += (
        ":" if facts.random_labels == set() else " (images that were drawn at random are not shown as mined):"
    )
    return f"{text}\n\n{image('pool images by similarity to the nearest weak sample', CHART)}"


def _random(facts: MiningFacts, path: str) -> bool:
    if facts.random_labels is None:
        return True
    return compared(facts.nearest["target_label"].get(path)) in facts.random_labels


def _sheet(facts: MiningFacts, pairs: pd.DataFrame) -> Iterator[str]:
    """One weak sample of every label beside its nearest pool images, those that can be seen."""
    mined = set(facts.mined or ())
    taken = pairs.assign(mined=pairs["source_filepath"].isin(mined))
    order = taken.groupby("target_filepath", sort=False)["mined"].sum().sort_values(
        ascending=False, kind="stable"
    )  # fmt: skip
    label_of = taken.drop_duplicates("target_filepath").set_index("target_filepath")["target_label"]
    shown: dict[str, str] = {}
    for target in order.index:
        shown.setdefault(compared(label_of[target]), target)
    rows = []
    for row, (label, target) in enumerate(list(shown.items())[:MOST_LABELS]):
        own = _picture(facts, target, f"{row}_target", f"weak sample {label}")
        if own is None:
            continue
        near = taken[taken["target_filepath"] == target].nsmallest(NEIGHBOURS, "distance")
        cells = [
            _neighbour(facts, f"{row}_{rank}", pair) for rank, pair in enumerate(near.to_dict("records"), 1)
        ]
        rows.append(
            [Raw(f"{own}<br>{escaped(label) or 'no label'}"), *cells, *[""] * (NEIGHBOURS - len(cells))]
        )
    if rows:
        header = ("Weak sample", *(f"Neighbour {rank}" for rank in range(1, NEIGHBOURS + 1)))
        yield (
            f"A weak sample of {len(rows):,} labels each, the pool images that are nearest to it, and their "
            f"similarity:\n\n{table(header, rows)}"
        )


def _neighbour(facts: MiningFacts, name: str, pair: dict[Any, Any]) -> Raw:
    path, similarity = str(pair["source_filepath"]), pair["similarity"]
    picture = _picture(facts, path, name, "neighbour") or "no picture"
    near = f"{similarity:.2f}" if pd.notna(similarity) else ""
    return Raw(f"{picture}<br>{near} {'**mined**' if pair['mined'] else 'not taken'}")


def _picture(facts: MiningFacts, source: str, name: str, alternative: str) -> Raw | None:
    place = f"{IMAGES}/{name}.jpg"
    if not write_thumbnail(Path(source), facts.folder / place, SIZE):
        return None
    return image(alternative, place)
