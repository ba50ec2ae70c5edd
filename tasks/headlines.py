"""What headlines of several stages share: scores and epochs as tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.action import Headline
from tasks.artifacts import existing_file
from tasks.dataset.table import read_table
from tasks.embedding.tables import read_parquet
from tasks.reports.words import counted
from tasks.status import STATUS_FILE, epochs_of, status_lines, validation_losses

MOST_EPOCHS = 8
MOST_PICTURES = 12
SCORES = ("Samples", "Rows", "Lowest", "Median", "Highest")


def score_row(name: str, scores: npt.NDArray[np.float64]) -> tuple[object, ...]:
    """A row of the table `SCORES`."""
    if not scores.size:
        return name, 0, None, None, None
    return name, scores.size, float(scores.min()), float(np.median(scores)), float(scores.max())


def training_headline(folder: Path, training_csv: Path | None, validation_csv: Path | None) -> Headline:
    """How long a training was, on how many rows, and the epoch with the lowest validation loss."""
    lines = status_lines(existing_file(folder / STATUS_FILE, "status file"))
    losses = validation_losses(lines)
    done = epochs_of(lines)[0]
    rows, held_out = (_rows_of(path) for path in (training_csv, validation_csv))
    on = "" if rows is None else f" on {counted(rows, 'row')}"
    if not losses:
        return Headline(f"Trained for {counted(done, 'epoch')}{on}; the status file has no validation loss.")
    best = min(losses, key=lambda epoch: losses[epoch])
    checked = "" if held_out is None else f" on {counted(held_out, 'held-out row')}"
    shown = sorted({best, *list(losses)[:1], *list(losses)[-MOST_EPOCHS:]})
    return Headline(
        f"Trained for {counted(done, 'epoch')}{on}; lowest validation loss {losses[best]:.4g}{checked}, "
        f"in epoch {best + 1}.",
        ("Epoch", "Validation loss", "What"),
        [(epoch + 1, losses[epoch], "the lowest" if epoch == best else "") for epoch in shown],
    )


def first_pictures(parquet: Path, column: str, most: int = MOST_PICTURES) -> list[Path]:
    """The first files that a column of a parquet names; none where it has no such column."""
    table = read_parquet(parquet, "table", columns=[column], required=(), may_be_empty=True)
    if column not in table.column_names:
        return []
    return [Path(name) for name in table[column].slice(0, most).cast(pa.string()).to_pylist() if name]


def _rows_of(csv: Path | None) -> int | None:
    return len(read_table(csv, required=())) if csv is not None and csv.is_file() else None
