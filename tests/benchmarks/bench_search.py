"""Our search, NVIDIA's and random search on real training surfaces: best score after 10 and 20 trials.

    python -m venv /tmp/tao; /tmp/tao/bin/pip install --no-deps nvidia-tao-automl==7.2.0
    /tmp/tao/bin/pip install numpy scipy scikit-learn pandas pyyaml omegaconf openai requests
    python tests/benchmarks/bench_search.py --tao /tmp/tao/bin/python [--seeds 0 20] [--score error]

One surface for each data set of scikit-learn: a network with one hidden layer trained for 20 epochs with a
fixed seed, as a function of six parameters; its score is the log loss on a fixed validation split, or the
share of wrong answers in percent. Every arm gets the same boxes. NVIDIA's package samples all of them
linearly; a second arm of it gets the logarithmic ones as exponents, so that this does not decide.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import torch
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.functional import cross_entropy

from tasks.automl.search import Search
from tasks.automl.space import Parameter, Space

BUDGETS = (10, 20)
EPOCHS = 20
SETS = {"digits": datasets.load_digits, "cancer": datasets.load_breast_cancer, "wine": datasets.load_wine}
SPACE = Space(
    searched=(
        Parameter(name="lr", type="float", low=1e-5, high=1e-1, log=True),
        Parameter(name="weight_decay", type="float", low=1e-6, high=1e-1, log=True),
        Parameter(name="width", type="int", low=8, high=256, log=True),
        Parameter(name="batch_size", type="int", low=16, high=256, log=True),
        Parameter(name="dropout", type="float", low=0.0, high=0.6),
        Parameter(name="momentum", type="float", low=0.5, high=0.99),
    ),
    pinned={},
    inert=(),
    base={"lr": 1e-3, "weight_decay": 1e-2, "width": 64, "batch_size": 32, "dropout": 0.1, "momentum": 0.9},
)
Values = dict[str, float]
Objective = Callable[[Values], float]
ARMS = {
    "ours": ("bayesian", True),
    "ours, no trial 0": ("bayesian", False),
    "random": ("random", False),
    "random and trial 0": ("random", True),
    "wheel": ("wheel", False),
    "wheel, exponents": ("wheel", True),
}


@cache
def split(name: str) -> tuple[torch.Tensor, ...]:
    """Training rows, validation rows, training classes, validation classes."""
    rows, classes = SETS[name](return_X_y=True)
    train, val, *answers = train_test_split(rows, classes, test_size=0.3, stratify=classes, random_state=0)
    scaler = StandardScaler().fit(train)
    scaled = [torch.tensor(scaler.transform(part), dtype=torch.float32) for part in (train, val)]
    return *scaled, *(torch.tensor(part) for part in answers)


def trained(name: str, values: Values) -> tuple[float, float]:
    """Log loss and wrong answers in percent on the validation rows."""
    rows, val_rows, classes, val_classes = split(name)
    torch.manual_seed(0)
    width, batch = int(values["width"]), int(values["batch_size"])
    model = nn.Sequential(
        nn.Linear(rows.shape[1], width),
        nn.ReLU(),
        nn.Dropout(values["dropout"]),
        nn.Linear(width, int(classes.max()) + 1),
    )
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=values["lr"],
        weight_decay=values["weight_decay"],
        betas=(values["momentum"], 0.999),
        fused=True,
    )
    for _ in range(EPOCHS):
        for some in torch.randperm(len(rows)).split(batch):
            optimiser.zero_grad()
            cross_entropy(model(rows[some]), classes[some]).backward()
            optimiser.step()
    with torch.inference_mode():
        logits = model.eval()(val_rows)
        loss = cross_entropy(logits, val_classes).item()
    if not math.isfinite(loss):
        raise ArithmeticError(f"{name}: no finite loss at {values}")
    return loss, 100 * (logits.argmax(1) != val_classes).float().mean().item()


def objective(name: str, score: str, file: Path) -> Objective:
    """The surface of one data set; trainings are kept in a file."""
    known = dict(map(json.loads, file.read_text().splitlines())) if file.is_file() else {}

    def measure(values: Values) -> float:
        key = json.dumps(values)
        if key not in known:
            known[key] = trained(name, values)
            with file.open("a") as stream:
                stream.write(json.dumps([key, known[key]]) + "\n")
        return known[key][score == "error"]

    return measure


def ours(measure: Objective, algorithm: str, base_first: bool, budget: int, seed: int) -> list[float]:
    """The scores of our search, in order."""
    scores = []
    with tempfile.TemporaryDirectory() as folder:
        search = Search(Path(folder) / "journal", "bench", SPACE, algorithm, budget, EPOCHS, seed)
        for number in range(budget):
            values = SPACE.base if base_first and number == 0 else search.propose(number)
            search.begin(values, {})
            scores.append(measure(values))
            search.tell(number, scores[-1])
    return scores


def wheel(measure: Objective, exponents: bool, python: str, trials: int, seed: int) -> list[float]:
    """The scores of NVIDIA's, in order."""
    logs = {one.name for one in SPACE.searched if one.log and exponents}
    boxes, base = {}, {}
    for one in SPACE.searched:
        scale = math.log10 if one.name in logs else float
        boxes[one.name] = ["float" if one.name in logs else one.type, scale(one.low), scale(one.high)]
        base[one.name] = scale(SPACE.base[one.name])
    process = started(python)
    print(
        json.dumps({"boxes": boxes, "base": base, "seed": seed, "trials": trials}),
        file=process.stdin,
        flush=True,
    )
    scores = []
    for _ in range(trials):
        proposed = json.loads(process.stdout.readline()).items()
        values = {name: 10**value if name in logs else value for name, value in proposed}
        scores.append(measure({one.name: in_box(one, values[one.name]) for one in SPACE.searched}))
        print(scores[-1], file=process.stdin, flush=True)
    return scores


@cache
def started(python: str) -> subprocess.Popen:
    """NVIDIA's package in its own environment; it ends with its standard input."""
    script = [python, "-W", "ignore", str(Path(__file__).with_name("tao_search.py"))]
    environment = os.environ | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(script, stdin=-1, stdout=-1, text=True, env=environment)


def in_box(one: Parameter, value: float) -> float:
    """The package moves a value at the end of a box by a tenth of it, which for exponents is outside."""
    inside = min(max(value, one.low), one.high)
    return round(inside) if one.type == "int" else inside


def bests(job: tuple[str, int, argparse.Namespace]) -> dict[tuple[str, str, int], float]:
    """Best score by data set, arm and budget, for one seed."""
    name, seed, options = job
    torch.set_num_threads(1)
    measure = objective(name, options.score, options.cache / f"{name}-{seed}.jsonl")
    found = {}
    for arm in options.arms:
        algorithm, flag = ARMS[arm]
        if algorithm == "wheel":
            scores = wheel(measure, flag, options.tao, max(BUDGETS), seed)
            found |= {(name, arm, budget): min(scores[:budget]) for budget in BUDGETS}
        else:
            for budget in BUDGETS:
                found[name, arm, budget] = min(ours(measure, algorithm, flag, budget, seed))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tao", required=True, help="python of an environment with nvidia-tao-automl")
    parser.add_argument("--seeds", nargs=2, type=int, default=(0, 20), metavar=("FIRST", "END"))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--score", choices=("loss", "error"), default="loss")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "bench_search")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    jobs = [(name, seed, options) for seed in range(*options.seeds) for name in SETS]
    cells: dict[tuple[str, str, int], list[float]] = {}
    with ProcessPoolExecutor(options.workers) as pool:
        for (name, seed, _), found in zip(jobs, pool.map(bests, jobs), strict=True):
            for (_, arm, budget), best in found.items():
                cells.setdefault((name, arm, budget), []).append(best)
                print(json.dumps([name, seed, arm, budget, best]), file=sys.stderr)
    print(f"best {options.score}: median (quartiles) of {len(range(*options.seeds))} seeds")
    print(f"{'':20}" + "".join(f"{f'{name} {budget}':>26}" for name in SETS for budget in BUDGETS))
    for arm in options.arms:
        row = [cells[name, arm, budget] for name in SETS for budget in BUDGETS]
        print(f"{arm:20}" + "".join(f"{shown(scores):>26}" for scores in row))


def shown(scores: list[float]) -> str:
    low, middle, high = statistics.quantiles(scores, method="inclusive")
    return f"{middle:.3g} ({low:.2g}–{high:.2g})"


if __name__ == "__main__":
    main()
