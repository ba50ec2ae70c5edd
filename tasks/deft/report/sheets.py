"""Pictures of a loop's report: the weakest samples, what was mined for them, and synthetic pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path

import numpy as np

from tasks.deft.report.files import LoopFiles
from tasks.gap_analysis.weakness import weakness_of
from tasks.reports.pictures import data_uri

SIZE = 96
LARGE = 256
MOST_WEAK = 6
MOST_TARGETS = 6
MOST_NEIGHBOURS = 4
MOST_PAIRS = 8


@dataclass(frozen=True)
class Picture:
    """A picture on the page; `source` is None where the file is gone."""

    source: str | None
    alternative: str
    caption: str


@dataclass(frozen=True)
class Sheet:
    """Pictures that belong together, the caption below them, and whether it is a matter of alarm."""

    pictures: tuple[Picture, ...]
    caption: str = ""
    alarm: bool = False


def picture(path: Path | None, alternative: str, caption: str, size: int = SIZE) -> Picture:
    """A thumbnail of a file."""
    source = None
    if path is not None and path.is_file():
        source = _uri(path, size, path.stat().st_mtime_ns)
    return Picture(source, alternative, caption)


@lru_cache(maxsize=1024)
def _uri(path: Path, size: int, mtime_ns: int) -> str | None:
    return data_uri(path, size)


def weakest(files: LoopFiles, label: str) -> dict[str, list[Sheet]]:
    """The defects and the PASS samples that score nearest to, or beyond, the wrong side of the threshold.

    Each is shown beside its golden picture. Empty where the scores or the threshold are not known.
    """
    scored, threshold = files.scored(label), files.state.phase(label).threshold
    csv = files.state.phase(label).inference_csv
    columns = [files.column(csv, name) for name in ("input_path", "golden_path", "object_name", "label")]
    if scored is None or threshold is None or any(column is None for column in columns):
        return {}
    weakness = weakness_of(scored.scores, scored.is_pass, threshold)
    sheets = {}
    for name, rows in (("defects", ~scored.is_pass), ("PASS samples", scored.is_pass)):
        chosen = np.flatnonzero(rows)
        chosen = chosen[np.argsort(-weakness[chosen], kind="stable")][:MOST_WEAK]
        sheets[name] = [
            _weak(files, [column[row] for column in columns if column], scored.scores[row], weakness[row])
            for row in chosen
        ]
    return sheets


def _weak(files: LoopFiles, cells: list[str], score: float, weakness: float) -> Sheet:
    folder, golden, name, label = cells
    wrong = weakness > 0 or (weakness == 0 and label.strip().upper() != "PASS")
    pictures = (
        picture(_image(files, folder, name), f"test picture of {name}", "test"),
        picture(_image(files, golden, name), f"golden picture of {name}", "golden"),
    )
    verdict = "on the wrong side" if wrong else "on the right side"
    caption = f"{label} · score {score:.4g} · weakness {weakness:+.4g} ({verdict}) · {folder}/{name}"
    return Sheet(pictures, caption, alarm=wrong)


def _image(files: LoopFiles, folder: str, name: str, *, from_root: bool = False) -> Path | None:
    start = files.root if from_root else files.images
    if start is None or files.lighting is None:
        return None
    return files.place(files.lighting.files(start, folder, name)[0])


def mined(files: LoopFiles, label: str) -> list[Sheet]:
    """Weak samples, the weakest of each label first, beside the nearest of the pool that were added."""
    phase = files.state.phase(label)
    added = files.parquet(phase.mined_parquet, "filepath")
    embeddings = phase.target_embeddings
    if added is None or embeddings is None:
        return []
    pairs = files.parquet(
        embeddings.with_name("mined_pairs.parquet"),
        *("target_filepath", "target_label", "source_filepath", "source_label", "similarity"),
    )
    if pairs is None:
        return []
    pairs = pairs[pairs["source_filepath"].isin(set(added["filepath"]))]
    weak = files.parquet(phase.routing_mining_parquet, "filepath", "weakness")
    strength = dict(zip(weak["filepath"], weak["weakness"], strict=True)) if weak is not None else {}
    targets = _of_each_label(
        sorted(
            zip(pairs["target_filepath"], pairs["target_label"], strict=True),
            key=lambda one: -strength.get(one[0], -np.inf),
        )
    )
    sheets = []
    for target in targets[:MOST_TARGETS]:
        near = pairs[pairs["target_filepath"] == target].nlargest(MOST_NEIGHBOURS, "similarity")
        pictures = [
            picture(Path(target), "weak sample", f"weak: {near['target_label'].iloc[0]}"),
            *(
                picture(
                    Path(str(row.source_filepath)),
                    "mined sample",
                    f"{row.source_label} · {row.similarity:.3f}",
                )
                for row in near.itertuples()
            ),
        ]
        weakness = strength.get(target)
        text = Path(target).stem if weakness is None else f"{Path(target).stem} · weakness {weakness:+.4g}"
        sheets.append(Sheet(tuple(pictures), text))
    return sheets


def _of_each_label(targets: Iterable[tuple[str, str]]) -> list[str]:
    """Names in such an order that the first of every label come first, then the second, and so on."""
    of_label: dict[str, list[str]] = {}
    for name, label in dict.fromkeys(targets):
        of_label.setdefault(label, []).append(name)
    rounds = zip_longest(*of_label.values())
    return [name for names in rounds for name in names if name is not None]


def synthetic(files: LoopFiles, label: str, most: int = MOST_PAIRS, size: int = SIZE) -> list[Sheet]:
    """Pairs that generation made in an iteration: the OK picture and the NG picture made from it.

    They are taken at equal steps of the list, so that each defect type has its chance; pairs of which a
    picture is gone are left out.
    """
    path = files.state.phase(label).sdg_rows_csv
    columns = [files.column(path, name) for name in ("golden_path", "input_path", "object_name", "label")]
    if any(column is None for column in columns):
        return []
    rows = list(zip(*(column for column in columns if column), strict=True))
    sheets = []
    for golden, folder, name, defect in rows[:: max(1, len(rows) // most)]:
        pictures = (
            picture(_image(files, golden, name, from_root=True), "OK picture", "OK, before", size),
            picture(_image(files, folder, name, from_root=True), "NG picture", f"NG: {defect}", size),
        )
        if all(one.source for one in pictures):
            sheets.append(Sheet(pictures, name))
        if len(sheets) == most:
            break
    return sheets


def sample(files: LoopFiles) -> tuple[str, Sheet] | None:
    """One synthetic pair, large, of the best iteration that still has one, and that iteration's label."""
    order = [label for label in files.ranked if label in files.iterations]
    order += [label for label in reversed(files.iterations) if label not in order]
    for label in order:
        if found := synthetic(files, label, most=1, size=LARGE):
            return label, found[0]
    return None
