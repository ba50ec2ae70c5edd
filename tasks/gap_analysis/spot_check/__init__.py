"""The visual spot check: the ten weakest samples as pictures, with a verdict on each (spec gap-analysis A.7).

Who gives the verdict is a setting: rules over the picture, a person, a vision language model at an endpoint
that the user names, or nobody. It never stops a run: a judge that fails is a warning, and rules take its
place. What a person wrote into `spot_check_verdicts.csv` wins over every judge.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from tasks.artifacts import write_json
from tasks.chat import Chat
from tasks.dataset.table import is_pass
from tasks.embedding.tables import read_parquet
from tasks.errors import InputError
from tasks.gap_analysis.spot_check.inputs import golden_files, scored_rows
from tasks.gap_analysis.spot_check.judges import LATER, NOBODY, OF_EACH, PENDING, Judge, Verdict
from tasks.gap_analysis.spot_check.rules import Embeddings, Rules, labels_against, sides_of
from tasks.gap_analysis.spot_check.verdicts import VERDICTS_CSV, read_verdicts, write_verdicts
from tasks.gap_analysis.vcn_files import SAMPLES, SPOT_CHECK, UNREACHABLE
from tasks.reports.pictures import write_thumbnail
from tasks.spec import SpecModel

logger = logging.getLogger("deft")

IMAGES = "rca_images"
SIDE = 128
"""Pixels of a thumbnail, both ways."""
LONGEST_NAME = 40
KEY = ["input_path", "object_name"]
SHOWN = ["label", "object_name", "input_path", "siamese_score", "weakness", "misclassified"]
STANDING = {"none": NOBODY, "manual": LATER}
"""Judges who say the same of every sample."""


class SpotCheck(SpecModel):
    """Who looks at the weakest samples.

    Attributes:
        judge: `rules` (statistics of the picture), `manual` (a person, later), `vlm` (a vision language
            model), or `none`.
        endpoint: of the `vlm`: base address of an OpenAI-compatible API, such as http://localhost:8000/v1.
            The pictures are sent there and nowhere else.
        model: its name there.
        api_key_env: name of the environment variable that holds the key, if one is needed.
        timeout_seconds: to wait for each part of an answer.
        max_tokens: of an answer; models that think before they answer need many.
    """

    judge: Literal["rules", "manual", "vlm", "none"] = "rules"
    endpoint: str | None = None
    model: str | None = None
    api_key_env: str | None = None
    timeout_seconds: float = Field(60.0, gt=0)
    max_tokens: int = Field(4096, ge=1)

    @model_validator(mode="after")
    def _names_its_model(self) -> SpotCheck:
        if self.judge == "vlm" and not (self.endpoint and self.model):
            raise ValueError("judge vlm needs spot_check.endpoint and spot_check.model")
        return self


def spot_check(folder: Path, settings: SpotCheck, embeddings: Embeddings | None = None) -> Path:
    """Look at the weakest samples of an rca folder; may be called again, for example with another judge.

    Writes the thumbnails into `rca_images/`, `spot_check_verdicts.csv` for a person to fill, and
    `spot_check.json`, last. Where the target cannot be reached there is nothing to look at, and no row.

    Args:
        folder: what a VCN gap analysis left.
        settings: who looks.
        embeddings: of these samples and of labelled images, for the rule on wrong labels.

    Returns:
        The path of `spot_check.json`.

    Raises:
        InputError: the folder holds no gap analysis, or a person's verdict is none of the four; then
            nothing is written.
    """
    said = read_verdicts(folder / VERDICTS_CSV)
    if (folder / UNREACHABLE).is_file():
        return _write(folder, settings, None, "no threshold meets the target, so no sample is weak", [])
    samples = weak_table(folder)
    chosen = weakest(samples)
    scored = scored_rows(folder)
    goldens = golden_files(chosen, scored)
    names = picture_names(chosen)
    verdicts = _judged(settings, _Looked(samples, chosen, scored, goldens, embeddings))
    pictures = copy_pictures(chosen["first_filepath"], names, folder)
    references = copy_pictures(map(goldens.get, chosen["first_filepath"]), golden_names(names), folder)
    _remove_others(folder / IMAGES, {*pictures, *references})
    rows = []
    for number, row in enumerate(chosen.to_dict("records")):
        kept = {name: row[name] for name in SHOWN}
        shown = {"image": pictures[number], "golden_image": references[number]}
        verdict = said.of(kept | shown) or verdicts[number]
        rows.append({**kept, **shown, **verdict._asdict()})
    write_verdicts(folder / VERDICTS_CSV, rows, said)
    return _write(folder, settings, shortfall(chosen), _note(rows), rows)


def weak_table(folder: Path) -> pd.DataFrame:
    """The kept samples of an rca folder, in the order of its file.

    Raises:
        InputError: the file is missing or lacks columns.
    """
    columns = [*SHOWN, "first_filepath"]
    table = read_parquet(folder / SAMPLES, "weak samples", columns, required=columns, may_be_empty=True)
    frame: pd.DataFrame = table.to_pandas()
    return frame


def weakest(samples: pd.DataFrame) -> pd.DataFrame:
    """The 5 weakest PASS samples and then the 5 weakest others, weakest first; fewer where there are fewer.

    A sample that occurs twice counts once, where it is weakest; ties keep the order of the rows.
    """
    ranked = samples.sort_values("weakness", ascending=False, kind="stable").drop_duplicates(KEY)
    passes = is_pass(ranked["label"])
    return pd.concat([ranked[passes].head(OF_EACH), ranked[~passes].head(OF_EACH)], ignore_index=True)


def shortfall(chosen: pd.DataFrame) -> str | None:
    """In words, how many samples fewer than ten there were to look at; None where none was missing."""
    passes = int(np.count_nonzero(is_pass(chosen["label"])))
    there = {"PASS": passes, "NO_PASS": len(chosen) - passes}
    short = [f"{number} of {OF_EACH} {name} samples" for name, number in there.items() if number < OF_EACH]
    return f"there were only {' and '.join(short)}" if short else None


def picture_names(chosen: pd.DataFrame) -> list[str]:
    """`<rank>_<LABEL>_<object_name>_<lighting>.png` for every row, rank from 01.

    Letters, digits, dots and dashes stay, other characters become `_`; the rank keeps names apart.
    """
    names = []
    for number, row in enumerate(chosen.to_dict("records"), 1):
        lighting = Path(row["first_filepath"]).stem.removeprefix(row["object_name"]).strip("_")
        parts = (str(row["label"]).upper(), row["object_name"], lighting)
        safe = [re.sub(r"[^A-Za-z0-9.-]+", "_", part)[:LONGEST_NAME] for part in parts if part]
        names.append("_".join([f"{number:02d}", *safe]) + ".png")
    return names


def golden_names(names: Iterable[str]) -> list[str]:
    """What the thumbnails of the golden pictures are called."""
    return [f"{name.removesuffix('.png')}_golden.png" for name in names]


def copy_pictures(
    sources: Iterable[str | Path | None], names: Iterable[str], folder: Path
) -> list[str | None]:
    """Write thumbnails into `rca_images/`; gives their paths below `folder`, None where there is none."""
    found: list[str | None] = []
    for source, name in zip(sources, names, strict=True):
        is_there = source is not None and write_thumbnail(Path(source), folder / IMAGES / name, SIDE)
        if source is not None and not is_there:
            logger.warning("spot check: %s cannot be read as a picture", source)
        found.append(f"{IMAGES}/{name}" if is_there else None)
    return found


def _remove_others(images: Path, kept: set[str | None]) -> None:
    for file in images.glob("*.png"):
        if f"{IMAGES}/{file.name}" not in kept:
            file.unlink()


@dataclass(frozen=True)
class _Looked:
    """What the judges look at: all weak samples, the chosen ones, and what is known beside them."""

    samples: pd.DataFrame
    chosen: pd.DataFrame
    scored: pd.DataFrame | None
    goldens: dict[str, Path]
    embeddings: Embeddings | None


def _judged(settings: SpotCheck, looked: _Looked) -> list[Verdict]:
    judge = _judge(settings, looked)
    return [judge(row) for row in looked.chosen.to_dict("records")]


def _judge(settings: SpotCheck, looked: _Looked) -> Judge:
    if settings.judge in STANDING:
        return lambda _: STANDING[settings.judge]
    scores = looked.samples if looked.scored is None else looked.scored
    spread = float(np.ptp(scores["siamese_score"])) if len(scores) else 0.0
    rules = Rules(sides_of(looked.samples["first_filepath"]), spread, _against(looked))
    if settings.judge == "rules":
        return rules
    from tasks.gap_analysis.spot_check.model import ModelJudge, without_model

    assert settings.endpoint
    assert settings.model
    try:
        chat = Chat(
            settings.endpoint,
            settings.model,
            api_key_env=settings.api_key_env,
            timeout_seconds=settings.timeout_seconds,
            section="spot_check",
            instead="choose another judge",
        )
    except InputError as error:
        logger.warning("spot check: %s; rules judge instead", error)
        return without_model(rules, str(error))
    return ModelJudge(chat, settings.model, rules, looked.goldens, settings.max_tokens)


def _against(looked: _Looked) -> dict[str, int] | None:
    if looked.embeddings is None:
        return None
    chosen = looked.chosen
    try:
        return labels_against(looked.embeddings, chosen["first_filepath"].tolist(), chosen["label"].tolist())
    except InputError as error:
        logger.warning("spot check: labels are not compared with those of neighbours: %s", error)
        return None


def _note(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """What a reader must know before the verdicts."""
    if rows and all(row["verdict"] is None for row in rows):
        return "nobody looked at these pictures"
    waiting = sum(row["verdict"] == PENDING for row in rows)
    return f"{waiting} of {len(rows)} pictures wait for a person" if waiting else None


def _write(
    folder: Path, settings: SpotCheck, short: str | None, note: str | None, rows: Sequence[Mapping[str, Any]]
) -> Path:
    content = {"judge": settings.judge, "shortfall": short, "note": note, "rows": rows}
    return write_json(folder / SPOT_CHECK, content)
