"""The judge `rules`: a verdict from the picture's statistics, the score, and labelled neighbours.

The limits are starting values that nobody has tested on a line's own pictures (spec gap-analysis A.7).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.dataset.table import is_pass
from tasks.embedding.tables import EMBEDDING, read_parquet, texts, vector_blocks
from tasks.gap_analysis.spot_check.judges import Row, Verdict
from tasks.mining.neighbours import nearest
from tasks.reports.pictures import opened

FLATTEST = 5.0
"""Smallest standard deviation of grey values, 0 to 255, of a picture with something on it."""
DARKEST, BRIGHTEST = 20.0, 235.0
"""Mean grey values, 0 to 255, between which a picture is exposed well."""
FACTOR = 2.0
SPREADS = 3.0
"""A side is unusual beyond `FACTOR` times the median and `SPREADS` quartile ranges from the quartiles."""
NEAR = 0.02
"""Share of the range of scores that is next to the threshold."""
NEIGHBOURS, AGAINST = 5, 4
MOST_SIZES = 500


@dataclass(frozen=True)
class Embeddings:
    """Parquet files with `filepath`, `embedding` and `label`: of these samples, and of labelled images."""

    target: Path
    source: Path


@dataclass(frozen=True)
class Rules:
    """What the rules compare a sample with; calling it judges one.

    Attributes:
        sides: log2 of width and height of the other pictures, [n, 2].
        score_range: largest less smallest score of the whole inference CSV.
        against: by first file of a sample, how many of its 5 nearest labelled images contradict its label;
            None without embeddings.
    """

    sides: npt.NDArray[np.float64]
    score_range: float
    against: dict[str, int] | None = None

    def __call__(self, row: Row) -> Verdict:
        """The first rule that holds, in the order of the specification."""
        fault = self._fault(Path(row["first_filepath"]))
        if fault:
            return self._said(row, "data quality", fault)
        distance = abs(row["weakness"])
        if distance < NEAR * self.score_range:
            text = (
                f"its score is {distance:.2g} from the threshold, less than {NEAR:.0%} of all scores' range"
            )
            return self._said(row, "edge case", text)
        against = (self.against or {}).get(row["first_filepath"], 0)
        if against >= AGAINST:
            theirs = "defects" if is_pass([row["label"]])[0] else "PASS"
            text = f"{against} of its {NEIGHBOURS} nearest images are {theirs}"
            return self._said(row, "mislabeled", text)
        return self._said(row, "systematic", "no other rule holds")

    def _said(self, row: Row, verdict: str, reason: str) -> Verdict:
        known = self.against is not None and row["first_filepath"] in self.against
        return Verdict(verdict, "rules" if known else "rules, no embeddings", reason)

    def _fault(self, path: Path) -> str | None:
        picture = opened(path, "L")
        if picture is None:
            return "the picture cannot be read"
        grey = np.asarray(picture, dtype=np.float64)
        mean, deviation = float(grey.mean()), float(grey.std())
        if deviation < FLATTEST:
            return f"almost nothing on it: grey values differ by {deviation:.1f} of 255"
        if mean < DARKEST:
            return f"too dark: mean grey value {mean:.0f} of 255"
        if mean > BRIGHTEST:
            return f"too bright: mean grey value {mean:.0f} of 255"
        if is_unusual(picture.size, self.sides):
            return f"unusual size: {picture.width} x {picture.height} pixels"
        return None


def sides_of(paths: Iterable[str]) -> npt.NDArray[np.float64]:
    """log2 of width and height of pictures, [n, 2]; of the first 500, without those that cannot be read."""
    pictures = (opened(Path(path), None) for path in islice(paths, MOST_SIZES))
    sizes = [picture.size for picture in pictures if picture]
    sides: npt.NDArray[np.float64] = np.log2(np.array(sizes, dtype=np.float64).reshape(-1, 2))
    return sides


def is_unusual(size: tuple[int, int], sides: npt.NDArray[np.float64]) -> bool:
    """Whether width or height is far from those of the other pictures."""
    if not len(sides):
        return False
    low, middle, high = np.quantile(sides, (0.25, 0.5, 0.75), axis=0)
    side = np.log2(np.array(size, dtype=np.float64))
    margin = SPREADS * (high - low)
    is_far = np.abs(side - middle) > np.log2(FACTOR)
    return bool((is_far & ((side < low - margin) | (side > high + margin))).any())


def labels_against(embeddings: Embeddings, files: Sequence[str], labels: Sequence[str]) -> dict[str, int]:
    """For samples by their file, how many of the 5 nearest labelled images contradict the label (cosine).

    PASS and defect contradict each other, two defects do not: that is the boundary of the classifier, and
    kinds of defects look alike. Left out are samples that were not embedded, and those of a side that no
    labelled image is on: of them neighbours cannot tell anything. An image is no neighbour of itself.

    Raises:
        InputError: a file is missing or malformed, or the vectors of both do not go together.
    """
    what = "target embeddings", "source embeddings"
    row_of = {file: row for row, file in enumerate(_texts(embeddings.target, "filepath", what[0]))}
    others = _texts(embeddings.source, "filepath", what[1])
    theirs = is_pass(_texts(embeddings.source, "label", what[1]))
    sides = dict(zip(files, is_pass(labels).tolist(), strict=True))
    asked = [(file, side) for file, side in sides.items() if file in row_of and (theirs == side).any()]
    if not asked:
        return {}
    vectors = np.concatenate(list(vector_blocks(embeddings.target, EMBEDDING, what[0])))
    targets = vectors[[row_of[file] for file, _ in asked]]
    pairs = nearest(vector_blocks(embeddings.source, EMBEDDING, what[1]), targets, NEIGHBOURS + 1)
    found: dict[str, int] = {}
    for number, (file, side) in enumerate(asked):
        near = [source for source in pairs.source[pairs.target == number] if others[source] != file]
        if len(near) >= NEIGHBOURS:
            found[file] = sum(bool(theirs[source] != side) for source in near[:NEIGHBOURS])
    return found


def _texts(path: Path, column: str, what: str) -> list[str]:
    return texts(read_parquet(path, what, [column], required=[column]), column, what)
