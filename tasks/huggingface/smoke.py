"""What the log of a training says: whether its first step is sound, and what went wrong with it.

The numbers come from `trainer_state.json`, where they are numbers. While a training runs there is no such
file yet, so then the lines that it prints are read.
"""

from __future__ import annotations

import ast
import itertools
import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["oom", "nan", "flat", "error"]
History = Sequence[Mapping[str, Any]]
"""The `log_history` of a trainer: a mapping per logged step, its figures by name."""

TRAINER_STATE = "trainer_state.json"

OUT_OF_MEMORY = re.compile(
    r"CUDA out of memory|OutOfMemoryError|CUDNN_STATUS_ALLOC_FAILED|CUBLAS_STATUS_ALLOC_FAILED"
    r"|DefaultCPUAllocator: can't allocate memory"
)
PRINTED = re.compile(r"^[^\n{]*(\{'(?:loss|train_loss|eval_loss)'.*\})\s*$", re.MULTILINE)

FEWEST_ENTRIES = 4
FEWEST_WATCHED = 20
WATCHED_FROM = 1 / 2
"""Share of a training before which its loss may look flat by the noise of its batches alone."""
LEAST_FALL = 0.005
"""Share of the first losses by which the last ones have to be lower."""


class Verdict(BaseModel):
    """Whether the smoke test passed; `reasons` says why not."""

    model_config = ConfigDict(frozen=True)

    passed: bool
    loss: float | None
    grad_norm: float | None
    reasons: list[str]

    def line(self) -> str:
        """The verdict as the preflight shows it."""
        if not self.passed:
            return f"FAILED ({'; '.join(self.reasons)})"
        return f"PASSED (loss={self.loss:.4g}, grad_norm={self.grad_norm:.4g})"


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The log history in `trainer_state.json` of a folder, else of its latest checkpoint; else none."""
    checkpoints = sorted(folder.glob(f"checkpoint-*/{TRAINER_STATE}"), key=lambda one: one.stat().st_mtime)
    best: list[dict[str, Any]] = []
    for file in [*checkpoints, *folder.glob(TRAINER_STATE)]:
        try:
            found = json.loads(file.read_text(encoding="utf-8")).get("log_history")
        except (ValueError, AttributeError):
            continue  # being written
        best = found or best
    return best


def history_of_log(text: str, logging_steps: int = 1) -> list[dict[str, Any]]:
    """The log history that a training has printed so far; version 5 prints its numbers as words.

    Printed lines carry no step: the first entry of a step is taken for step 1, each further one for
    `logging_steps` more.
    """
    steps = itertools.chain([1], itertools.count(logging_steps, logging_steps))
    entries: list[dict[str, Any]] = []
    for found in PRINTED.finditer(text):
        try:
            said = ast.literal_eval(re.sub(r"(?<=: )(nan|-?inf)(?=[,}])", r"'\1'", found[1]))
        except (ValueError, SyntaxError):
            continue
        numbers = {
            str(name): number for name, value in said.items() if (number := _number(value)) is not None
        }
        if "loss" in numbers:
            numbers.setdefault("step", float(next(steps)))
        if numbers:
            entries.append(numbers)
    return entries


def step_entries(history: History) -> list[dict[str, Any]]:
    """The entries of training steps: those with a loss, not the closing one."""
    return [dict(entry) for entry in history if "loss" in entry and "train_loss" not in entry]


def smoke_verdict(status: int, history: History, *, method: str = "sft") -> Verdict:
    """Whether one step of training is sound.

    It passes when the program ended without an error, the first entry of a step has a finite loss that is
    not 0, and its gradient is not 0. GRPO starts at a loss near 0 rightly; there the rewards have to differ.
    """
    reasons = [] if status == 0 else [f"the program ended with status {status}"]
    first = next(iter(step_entries(history)), None)
    if first is None:
        return Verdict(
            passed=False, loss=None, grad_norm=None, reasons=[*reasons, "no step was logged with a loss"]
        )
    loss, grad_norm = _number(first["loss"]), _number(first.get("grad_norm"))
    if loss is None or not math.isfinite(loss):
        reasons.append(f"the loss is {first['loss']}, not a number")
    elif loss == 0 and method != "grpo":
        reasons.append("the loss is exactly 0: are all labels masked?")
    if grad_norm is None or not math.isfinite(grad_norm):
        reasons.append(f"the gradient norm is {first.get('grad_norm')}, not a number")
    elif grad_norm <= 0:
        reasons.append("the gradient norm is 0: no parameter learns")
    spread = _number(first.get("reward_std", first.get("rewards/std")))
    if method == "grpo" and not (spread and spread > 0):
        reasons.append("the rewards of the completions do not differ: there is nothing to learn from")
    return Verdict(passed=not reasons, loss=loss, grad_norm=grad_norm, reasons=reasons)


def descends(history: History, *, fewest_entries: int = FEWEST_ENTRIES) -> bool | None:
    """Whether the loss falls after the warm-up; None where too few steps were logged to say.

    The slope is Theil and Sen's, the median of the slopes between all pairs of entries, which a single
    spike does not turn; and the last third has to lie below the first by `LEAST_FALL`.
    """
    entries = _after_warmup(step_entries(history))
    losses = [value for entry in entries if (value := _number(entry["loss"])) is not None]
    if len(losses) < fewest_entries or not all(map(math.isfinite, losses)):
        return None if len(losses) < fewest_entries else False
    slopes = [
        (losses[later] - losses[earlier]) / (later - earlier)
        for earlier in range(len(losses))
        for later in range(earlier + 1, len(losses))
    ]
    third = max(len(losses) // 3, 1)
    first, last = statistics.fmean(losses[:third]), statistics.fmean(losses[-third:])
    return statistics.median(slopes) < 0 and first - last > LEAST_FALL * abs(first)


def share_done(history: History, config: Mapping[str, Any]) -> float:
    """The share of a training that its log so far covers, by its steps or its epochs."""
    last = (step_entries(history) or [{}])[-1]
    name, total = ("step", "max_steps") if config.get("max_steps") else ("epoch", "num_train_epochs")
    return (_number(last.get(name)) or 0.0) / float(config.get(total) or 1)


def watch_training(history: History, *, method: str = "sft", share: float = 1.0) -> tuple[Kind, str] | None:
    """Why a training should end of which this share is done: its loss is no number, or does not fall."""
    for number, entry in enumerate(step_entries(history), start=1):
        loss, grad_norm = _number(entry["loss"]), _number(entry.get("grad_norm"))
        if loss is None or not math.isfinite(loss):
            return "nan", f"loss {entry['loss']} at entry {number} of the log"
        if grad_norm is not None and math.isnan(grad_norm):
            return "nan", f"gradient norm {grad_norm} at entry {number} of the log"
    if method == "grpo" or share < WATCHED_FROM:
        return None
    if descends(history, fewest_entries=FEWEST_WATCHED) is False:
        losses = [float(entry["loss"]) for entry in step_entries(history)]
        return "flat", f"the loss does not fall: {losses[0]:.4g} at first, {losses[-1]:.4g} now"
    return None


def failure_of(
    status: int, log: str, history: History, *, method: str = "sft", share: float = 1.0
) -> tuple[Kind, str] | None:
    """What went wrong with a command: out of memory, no number, a flat loss or another error; else None."""
    memory = OUT_OF_MEMORY.search(log)
    if status != 0 and memory:
        return "oom", memory[0]
    watched = watch_training(history, method=method, share=share)
    if watched:
        return watched
    if status != 0:
        return "error", last_error(log) or f"ended with status {status} and without a message"
    return None


def last_error(log: str) -> str | None:
    """The last line of the log that names an exception, or a unit test that failed."""
    named = re.findall(
        r"^(?:\[rank\d+\]: )?((?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b.*|FAILED tests/.*)$",
        log,
        re.MULTILINE,
    )
    return str(named[-1]).strip() if named else None


def _after_warmup(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries from the highest learning rate on; during the warm-up hardly anything moves."""
    rates = [_number(entry.get("learning_rate")) or 0.0 for entry in entries]
    return entries[rates.index(max(rates)) :] if rates else entries


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
