"""The history ledger: no iteration is given an image that an earlier one has had.

Order of writes: selection, summary, ledger; each is atomic and the ledger is last, so that a crash
leaves the old state or the new one, and running again completes it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from tasks.artifacts import read_json, sha256_of, write_json, write_parquet, write_text
from tasks.embedding.tables import read_parquet, texts
from tasks.errors import InputError, StageFailed, listed
from tasks.mining.paths import identity
from tasks.spec import explained

logger = logging.getLogger("deft")

HIGH_RATE = 0.5


class Entry(BaseModel):
    """One committed iteration: what it was given, and what it selected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    iteration: int
    topn: int
    max_new_rows: int | None
    candidate_parquet: Path
    candidate_sha256: str
    candidate_unique_count: int
    already_mined_count: int
    selected_count: int
    selected_filepaths: list[str]
    output_parquet: Path
    output_sha256: str
    summary_file: Path
    summary_sha256: str


class Ledger(BaseModel):
    """`mining_history.json`: all iterations from 1, no path in two of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    identity: Literal["filepath"] = "filepath"
    iterations: list[Entry] = []
    cumulative_unique_count: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> Ledger:
        if [entry.iteration for entry in self.iterations] != list(range(1, len(self.iterations) + 1)):
            raise ValueError("its iterations are not 1, 2, 3, ... without gaps")
        paths = [identity(path) for entry in self.iterations for path in entry.selected_filepaths]
        if len(set(paths)) < len(paths):
            raise ValueError("an image stands in it twice")
        counts = [entry.selected_count for entry in self.iterations]
        if sum(counts) != len(paths) or self.cumulative_unique_count != len(paths):
            raise ValueError("its counts do not agree with the paths in it")
        return self

    def paths(self) -> set[str]:
        """The identity of every image selected so far."""
        return {identity(path) for entry in self.iterations for path in entry.selected_filepaths}


class Selection(BaseModel):
    """`mining_history_summary.json`: what one iteration selected, and what to do about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    iteration: int
    identity: Literal["filepath"] = "filepath"
    topn: int
    max_new_rows: int | None
    candidate_parquet: Path
    candidate_sha256: str
    candidate_row_count: int
    candidate_unique_count: int
    candidate_duplicate_count: int
    history_count_before: int
    already_mined_count: int
    historical_candidate_rate: float
    over_budget_count: int
    selected_count: int
    cumulative_unique_count: int
    output_parquet: Path
    output_sha256: str
    recommendation: str | None


def read_ledger(history: Path) -> Ledger:
    """The ledger in a file.

    Raises:
        InputError: it is missing, not a ledger, or contradicts itself; it is never repaired.
    """
    try:
        return Ledger.model_validate(read_json(history))
    except ValidationError as error:
        raise InputError(
            f"ledger {history} is corrupt: {explained(error)}; restore it from a copy"
        ) from error


def mined_before(history: Path, iteration: int) -> list[str]:
    """The images that earlier iterations selected, in their order; the same before and after a resume."""
    entries = read_ledger(history).iterations if history.is_file() else []
    return [path for entry in entries if entry.iteration < iteration for path in entry.selected_filepaths]


def forget_after(history: Path, rounds: int) -> None:
    """Take a ledger back to its first `rounds` iterations; the longer one stays beside it as .bak.

    Raises:
        InputError: the ledger is corrupt.
    """
    if not history.is_file() or len(read_ledger(history).iterations) <= rounds:
        return
    entries = read_ledger(history).iterations[:rounds]
    write_text(history.with_suffix(".json.bak"), history.read_text(encoding="utf-8"))
    count = sum(entry.selected_count for entry in entries)
    shorter = Ledger(iterations=entries, cumulative_unique_count=count)
    write_json(history, shorter.model_dump(mode="json"))


def select_new(
    history: Path,
    iteration: int,
    candidates: Path,
    output: Path,
    summary: Path,
    topn: int,
    max_new_rows: int | None = None,
) -> Selection:
    """Write the candidates that no earlier iteration selected, and commit them to the ledger.

    Rows keep their order, spelling and columns. With a budget the first `max_new_rows` new rows are
    taken; the floor has put the candidates in fair order. An iteration that is committed already gives
    its stored result when it is asked for with the same inputs.

    Raises:
        InputError: paths coincide, the iteration is not the next one, the ledger is missing, corrupt
            or does not match the files that it names, or a committed iteration is asked for otherwise.
    """
    candidates, output, summary = candidates.absolute(), output.absolute(), summary.absolute()
    _check_request(history, iteration, [candidates, output, summary], topn, max_new_rows)
    ledger = _ledger_before(history, iteration)
    _check_artifacts(ledger.iterations[:iteration], history)
    if len(ledger.iterations) >= iteration:
        asked = {
            "candidate_parquet": candidates,
            "output_parquet": output,
            "summary_file": summary,
            "topn": topn,
            "max_new_rows": max_new_rows,
        }
        return _resumed(ledger.iterations[iteration - 1], asked, history)

    table, new, counts = _new_rows(candidates, ledger.paths(), max_new_rows)
    write_parquet(output, table.take(pa.array(new, pa.int64())))
    selection = Selection(
        iteration=iteration,
        topn=topn,
        max_new_rows=max_new_rows,
        candidate_parquet=candidates,
        candidate_sha256=sha256_of(candidates),
        output_parquet=output,
        output_sha256=sha256_of(output),
        history_count_before=ledger.cumulative_unique_count,
        selected_count=len(new),
        cumulative_unique_count=ledger.cumulative_unique_count + len(new),
        recommendation=recommendation(len(new), counts["historical_candidate_rate"]),
        **counts,
    )
    write_json(summary, selection.model_dump(mode="json"))
    entry = Entry(
        **selection.model_dump(include=set(Entry.model_fields)),
        selected_filepaths=[table["filepath"][row].as_py() for row in new],
        summary_file=summary,
        summary_sha256=sha256_of(summary),
    )
    committed = Ledger(
        iterations=[*ledger.iterations, entry], cumulative_unique_count=selection.cumulative_unique_count
    )
    write_json(history, committed.model_dump(mode="json"))
    logger.info(
        "iteration %d: %d new images of %d candidates, %d had before",
        iteration,
        selection.selected_count,
        selection.candidate_unique_count,
        selection.already_mined_count,
    )
    return selection


def recommendation(selected: int, historical_rate: float) -> str | None:
    """What to do when the pool gives little that is new."""
    if selected == 0:
        return "no new images: raise topn or enlarge the pool"
    if historical_rate >= HIGH_RATE:
        return "half or more of the candidates were mined before: consider a wider topn"
    return None


def _check_request(
    history: Path, iteration: int, paths: list[Path], topn: int, max_new_rows: int | None
) -> None:
    if len({path.absolute() for path in [history, *paths]}) < len(paths) + 1:
        raise InputError("ledger, candidates, output and summary must be four different files")
    if iteration < 1 or topn < 1 or (max_new_rows is not None and max_new_rows < 1):
        raise InputError(
            f"iteration {iteration}, topn {topn} and max_new_rows {max_new_rows} must be 1 or more"
        )


def _ledger_before(history: Path, iteration: int) -> Ledger:
    if iteration > 1 or history.is_file():
        ledger = read_ledger(history)
        if len(ledger.iterations) < iteration - 1:
            raise InputError(
                f"ledger {history} ends with iteration {len(ledger.iterations)}; "
                f"iteration {iteration} cannot follow"
            )
        return ledger
    return Ledger()


def _check_artifacts(entries: list[Entry], history: Path) -> None:
    for entry in entries:
        for path, sha256 in (
            (entry.candidate_parquet, entry.candidate_sha256),
            (entry.output_parquet, entry.output_sha256),
            (entry.summary_file, entry.summary_sha256),
        ):
            if not path.is_file() or sha256_of(path) != sha256:
                state = "was changed" if path.is_file() else "is missing"
                raise InputError(
                    f"{path} of iteration {entry.iteration} {state} since ledger {history} was written; "
                    "restore it"
                )


def _resumed(entry: Entry, asked: dict[str, object], history: Path) -> Selection:
    other = [name for name, value in asked.items() if getattr(entry, name) != value]
    if other:
        raise InputError(
            f"iteration {entry.iteration} is committed in {history} with another {listed(other)}; "
            "repeat it with the same, or start a new run"
        )
    try:
        return Selection.model_validate(read_json(entry.summary_file))
    except ValidationError as error:
        raise StageFailed(f"{entry.summary_file} is no selection summary: {explained(error)}") from error


def _new_rows(
    candidates: Path, had: set[str], max_new_rows: int | None
) -> tuple[pa.Table, list[int], dict[str, int | float]]:
    """The candidates, the row numbers that are selected, and the counts of both."""
    table = read_parquet(candidates, "candidates", may_be_empty=True)
    paths = texts(table, "filepath", f"candidates {candidates}")
    first: dict[str, int] = {}
    for row, path in enumerate(paths):
        first.setdefault(identity(path), row)
    new = [row for path, row in first.items() if path not in had]
    already = len(first) - len(new)
    chosen = new[:max_new_rows]
    counts: dict[str, int | float] = {
        "candidate_row_count": len(paths),
        "candidate_unique_count": len(first),
        "candidate_duplicate_count": len(paths) - len(first),
        "already_mined_count": already,
        "historical_candidate_rate": already / len(first) if first else 0.0,
        "over_budget_count": len(new) - len(chosen),
    }
    return table, chosen, counts
