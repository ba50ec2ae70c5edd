"""The form of the spot check in the Prefect UI: each picture above the list of its four verdicts.

The UI shows Markdown in the description of a field, pictures in `data:` addresses too. The description of the
whole form is no place for them: a form of many fields leaves it no room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from prefect.input import RunInput
from pydantic import Field, create_model

from tasks.gap_analysis.spot_check.judges import MEANINGS
from tasks.reports.markdown import escaped
from tasks.reports.pictures import contact_sheet, jpeg_uri

NOT_LOOKED_AT = "not looked at"
SIDE = 160
"""Pixels of a picture, both ways."""
NAME = "your_name"

# One flat list; the UI makes tabs of a union.
Choice = Literal["not looked at", "mislabeled", "edge case", "data quality", "systematic"]

LEGEND = "\n\n".join(f"**{word}**: {meaning}" for word, meaning in MEANINGS.items())
"""A paragraph each: the UI joins single lines."""


def field_of(number: int) -> str:
    """The name of the answer on one picture: `picture_01` for the first row."""
    return f"picture_{number:02d}"


def form_of(folder: Path, rows: Mapping[int, Mapping[str, Any]]) -> type[RunInput]:
    """A form that asks for a verdict on each of these rows of the spot check, by their number.

    Args:
        folder: the rca folder that the pictures lie in.
        rows: of `spot_check.json`, by their rank.
    """
    fields: dict[str, Any] = {}
    for number, row in rows.items():
        text = _told(folder, row)
        if not fields:
            text = f"What the verdicts mean:\n\n{LEGEND}\n\n{text}"
        title = f"{number}. {row['label']} {row['object_name']}"
        fields[field_of(number)] = (Choice, Field(default=NOT_LOOKED_AT, title=title, description=text))
    fields[NAME] = (str, Field(default="", title="Your name, kept with the verdicts"))
    form: type[RunInput] = create_model("Verdicts", __base__=RunInput, **fields)
    return form.with_initial_data(
        description="Say of each picture why the model finds it difficult. What you leave at "
        f"'{NOT_LOOKED_AT}' waits for the next time."
    )


def answers_in(answer: RunInput, numbers: Sequence[int]) -> dict[int, str]:
    """The verdicts that were given, by the number of the row."""
    given = {number: getattr(answer, field_of(number)) for number in numbers}
    return {number: word for number, word in given.items() if word != NOT_LOOKED_AT}


def _told(folder: Path, row: Mapping[str, Any]) -> str:
    wrong = "wrong side of the threshold" if row["misclassified"] else "right side, near the threshold"
    files = [folder / file for file in (row["image"], row["golden_image"]) if file]
    sheet = contact_sheet(files, SIDE, columns=2) if row["image"] else None
    label = escaped(row["label"])
    where = f"`{row['input_path'].replace('`', '')}`, score {row['siamese_score']:.4g}, {wrong}."
    if sheet is None:
        return f"The picture cannot be read. Label **{label}**. {where}"
    sides = "left the sample, right its golden picture" if row["golden_image"] else "no golden picture"
    return f"![{label}]({jpeg_uri(sheet)})\n\nLabel **{label}**; {sides}. {where}"
