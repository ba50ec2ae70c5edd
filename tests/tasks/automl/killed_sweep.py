"""Runs sweeps in child processes that kill themselves at a named point (see `tests/killing.py`)."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from tasks.artifacts import write_json
from tasks.automl.plan import Plan
from tasks.automl.settings import SweepSettings
from tasks.automl.space import Parameter, Space
from tasks.automl.sweep import Sweep
from tasks.automl.trial import Outcome, Report, Stopped, SweepMetric
from tasks.automl.winner import Policy, choose
from tasks.errors import StageFailed
from tasks.keys import value_at
from tests.killing import fork_on_orders

METRIC = SweepMetric(name="far_pct", direction="minimise", unit="%")
SPACE = Space(
    searched=(
        Parameter(name="lr", keys=("train.optim.lr",), type="float", low=1e-5, high=1e-1, log=True),
        Parameter(name="decay", keys=("train.optim.weight_decay",), type="float", low=0.0, high=1.0),
    ),
    pinned={},
    inert=(),
    base={"lr": 3e-4, "decay": 0.1},
)
BASE = {
    "train": {"seed": 1234, "optim": {"lr": 3e-4, "weight_decay": 0.1}},
    "dataset": {"batch_size": 32},
}
EPOCHS = 4
TRAININGS = "trainings.log"
DIVERGES, LARGE, BAD = "rec_001", "rec_002", "rec_004"


def note(folder: Path, text: str) -> None:
    with (folder / TRAININGS).open("a") as stream:
        stream.write(text + "\n")


def train(spec: dict[str, Any], folder: Path, report: Report) -> Outcome:
    """A training as small as can be: a file per epoch; one trial diverges, one is large, one is bad."""
    sweep, name = folder.parents[1], folder.name
    note(sweep, f"start {name}")
    lr, decay = (value_at(spec, f"train.optim.{key}") for key in ("lr", "weight_decay"))
    if name == DIVERGES:
        raise StageFailed(f"the loss is nan; lower train.optim.lr ({lr})")
    if name == LARGE and value_at(spec, "dataset.batch_size") > 16:
        raise StageFailed("CUDA out of memory. Tried to allocate 20 MiB")
    far = 8 * abs(math.log10(lr) + 3) + 10 * decay + value_at(spec, "train.seed") % 7 / 10
    far += 100 * (name == BAD)
    for epoch in range(EPOCHS):
        checkpoint = folder / "train" / f"epoch_{epoch}.pth"
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text(json.dumps(spec))
        if report(epoch, far + 3 * (EPOCHS - 1 - epoch)):
            raise Stopped(f"stopped after epoch {epoch}")
    note(sweep, f"end {name}")
    return Outcome(score=far, target=far, checkpoint=checkpoint, epochs=EPOCHS)


def sweep_in(folder: Path, algorithm: str) -> None:
    """The whole sweep, its winner trained again whatever its figure."""
    settings = SweepSettings(algorithm=algorithm, trials=9, seed=5)
    with ThreadPoolExecutor(1) as pool:
        plan = Plan(folder, 1, BASE, SPACE, METRIC, EPOCHS, settings, train, lambda spec: None)
        sweep = Sweep(plan, pool.submit)
        check = choose(sweep.run(), METRIC, sweep.rerun, Policy(suspicious_gap=1.001))
    write_json(folder / "quality_check.json", check.model_dump(mode="json"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    fork_on_orders(lambda folder, algorithm: sweep_in(Path(folder), algorithm))
