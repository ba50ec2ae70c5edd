"""Nights: what is new since the last one, where a night starts, which model is delivered, and what is kept.

`results/nights.jsonl` has a line for every night that completed. `results/latest_best.json` names the best
model of all nights: a line's consumer reads this one place, which never goes to a model that is worse on the
same KPI set by the same metric.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks.artifacts import read_json, sha256_of, sha256_of_all, write_json, write_text
from tasks.errors import InputError
from tasks.evaluation.contract import MetricContract
from tasks.keys import flat
from tasks.preflight.sets import BASE_SPEC, KPI, POOL, TRAINING, VALIDATION, DataSets, content_digest
from tasks.spec import digest, explained

HISTORY = "nights.jsonl"
LATEST_BEST = "latest_best.json"
LOCK = ".nightly.lock"
"""In the results of a workspace, against two nights at once."""
ABSENT = "absent"


class Content(BaseModel):
    """What a night is about.

    Attributes:
        sets: by name of a data set (or of a file that a parameter names) a digest over what it holds,
            images and all.
        pool_rows: of the mining pool; 0 where there is none.
        parameters: that a person chose, by their dotted names.
    """

    sets: dict[str, str]
    pool_rows: int
    parameters: dict[str, Any]

    def with_spec(self, base_spec: Path) -> Content:
        """The same with the base spec as it is now, where the first sweep has put the tuned one."""
        return self.model_copy(update={"sets": {**self.sets, BASE_SPEC: content_digest(base_spec)}})


class Figure(BaseModel):
    """What a model reached on the KPI set; `feasible` says whether the constraints of the metric hold."""

    metric: str
    value: float
    unit: str = ""
    smaller_is_better: bool = True
    feasible: bool = True

    def __str__(self) -> str:
        text = f"{self.metric} {self.value:.4g} {self.unit}".rstrip()
        return text if self.feasible else f"{text} (constraints missed)"

    def better_than(self, other: Figure) -> bool:
        """Whether this is strictly better: constraints first, then the value."""
        sign = -1 if self.smaller_is_better else 1
        return (self.feasible, sign * self.value) > (other.feasible, sign * other.value)


class Best(BaseModel):
    """A delivered model.

    Attributes:
        checkpoint: its weights, and `sha256` what they held.
        threshold: of its scores; none for models without.
        figure: on the KPI set.
        measured_by: digest of that KPI set and of the metric; figures of two are never compared.
        base_spec: digest of the spec whose architecture it has.
        date: of its night.
        run_folder: of its night, with `links` to what a consumer reads there.
    """

    checkpoint: Path
    sha256: str
    threshold: float | None = None
    figure: Figure
    measured_by: str
    base_spec: str
    date: str
    run_folder: Path
    links: dict[str, Path] = {}


class Night(BaseModel):
    """A night that completed.

    Attributes:
        date: when it began.
        why: what was new.
        start: the model that it started from, or why from none.
        content: what it was about.
        run_folder: of the pipeline.
        delivered: label of the stage whose model that run delivers.
        figure: of that model on the KPI set.
        replaced: whether `latest_best.json` names that model now.
        decided: what was decided, in words.
    """

    date: str
    why: list[str]
    start: str
    content: Content
    run_folder: Path
    delivered: str
    figure: Figure
    replaced: bool
    decided: str

    @property
    def day(self) -> str:
        """The date alone."""
        return self.date[:10]


def content_of(sets: DataSets, parameters: Mapping[str, Any], files: Mapping[str, Path]) -> Content:
    """What a night would be about; reads every image of every set once.

    Args:
        sets: of the workspace.
        parameters: that a person chose.
        files: that parameters name, by the parameter.

    Raises:
        DeftError: a set cannot be read.
    """
    named = sets.names
    found = {
        name: digest([content_digest(path), sha256_of_all(sets.images(name)) if name in named else ""])
        for name, path in sets.files.items()
        if name != BASE_SPEC
    }
    found[BASE_SPEC] = content_digest(sets.files[BASE_SPEC])
    found.setdefault(POOL, ABSENT)
    found |= {name: content_digest(path) for name, path in files.items()}
    rows = len(sets.labels(POOL)) if POOL in named else 0
    return Content(sets=found, pool_rows=rows, parameters=flat(parameters))


def what_is_new(tonight: Content, last: Night | None) -> list[str]:
    """What has changed since the last night that completed, in words; empty when nothing has."""
    if last is None:
        return ["it is the first night of this workspace that completes"]
    before, reasons = last.content, []
    if tonight.sets[POOL] != before.sets[POOL]:
        reasons.append(_pool_change(tonight.pool_rows, before.pool_rows, last.day))
    for name in dict.fromkeys([*before.sets, *tonight.sets]):
        if name != POOL and tonight.sets.get(name) != before.sets.get(name):
            reasons.append(f"{name} changed since the night of {last.day}")
    for name in dict.fromkeys([*before.parameters, *tonight.parameters]):
        old, new = before.parameters.get(name), tonight.parameters.get(name)
        if old != new:
            reasons.append(f"parameter {name} {old} -> {new}")
    return reasons


def _pool_change(rows: int, before: int, day: str) -> str:
    if rows == before:
        return f"the pool has {rows} rows as in the night of {day}, with other content"
    more = f"{rows - before} more" if rows > before else f"{before - rows} fewer"
    return f"the pool has {rows} rows, {more} than in the night of {day}"


def nothing_new(last: Night) -> str:
    """Why a night ends early."""
    return (
        f"nothing new: the pool has the {last.content.pool_rows} rows of night {last.run_folder.name} "
        f"of {last.day}"
    )


def starting_model(
    best: Best | None, tonight: Content, last: Night | None, *, sweeps: bool
) -> tuple[Path | None, str]:
    """The model that a night goes on from; none, and why, when it has to begin anew.

    `sweeps` says that a night which begins anew sweeps on the base data first. That is worth its hours when
    the base data are not those of the last night.
    """
    if best is None:
        return None, "no model of an earlier night"
    if best.base_spec != tonight.sets[BASE_SPEC]:
        return None, f"anew: the base spec is not that of the best model ({best.run_folder.name})"
    if not best.checkpoint.is_file() or sha256_of(best.checkpoint) != best.sha256:
        return None, f"anew: {best.checkpoint} is gone or altered"
    if sweeps and (last is None or _differ(tonight, last.content, (TRAINING, VALIDATION))):
        return None, "anew: the sweep has other base data to work on"
    return best.checkpoint, f"the best model so far, {best.figure}, of the night of {best.date[:10]}"


def _differ(one: Content, other: Content, names: tuple[str, ...]) -> bool:
    return any(one.sets[name] != other.sets[name] for name in names)


def choose(tonight: Best, best: Best | None) -> tuple[Best, str]:
    """The model that is the best from now on, and what was decided, in words."""
    if best is None:
        return tonight, f"delivered: {tonight.figure}"
    if tonight.measured_by != best.measured_by:
        return tonight, (
            f"delivered: {tonight.figure}; KPI set or metric changed, so it is not compared with the "
            f"{best.figure} of {best.date[:10]}"
        )
    if tonight.figure.better_than(best.figure):
        return tonight, f"delivered: {tonight.figure}, better than the {best.figure} of {best.date[:10]}"
    found = "worse than" if best.figure.better_than(tonight.figure) else "no better than"
    return best, (
        f"kept: tonight's {tonight.figure} is {found} the {best.figure} of {best.date[:10]}, which stays"
    )


def measured_by(tonight: Content, contract: MetricContract) -> str:
    """A digest of all that decides whether two figures may be compared: the KPI set and the metric.

    The target is left out: it says what is enough, not what is measured.
    """
    return digest([tonight.sets[KPI], contract.model_dump(mode="json", exclude={"target", "display_name"})])


def read_history(results: Path) -> list[Night]:
    """The nights that completed, the oldest first.

    Raises:
        InputError: a line is not what a night leaves.
    """
    file = results / HISTORY
    if not file.is_file():
        return []
    nights = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            nights.append(Night.model_validate_json(line))
        except ValidationError as error:
            raise InputError(f"{file} line {number}: {explained(error)}; mend or remove the line") from error
    return nights


def remember(results: Path, night: Night) -> Path:
    """Add a night to the history; a reader sees the whole line or none of it."""
    file = results / HISTORY
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    line = json.dumps(night.model_dump(mode="json"), ensure_ascii=False)
    return write_text(file, f"{before}{line}\n")


def read_best(results: Path) -> Best | None:
    """The best model of all nights; none before the first.

    Raises:
        InputError: its file is not what a night leaves.
    """
    file = results / LATEST_BEST
    if not file.is_file():
        return None
    try:
        return Best.model_validate(read_json(file))
    except ValidationError as error:
        raise InputError(f"{file}: {explained(error)}; restore it, or remove it to begin anew") from error


def point_at(results: Path, best: Best) -> Path:
    """Write which model is the best of all nights."""
    return write_json(results / LATEST_BEST, best.model_dump(mode="json"))
