"""Every task of the fine-tuning flow on a tiny model: seconds, metric before and after, peak memory.

    python tests/benchmarks/finetune_tasks.py OUTPUT [NAME ...] [--table TABLE.md]

For each task (all of them, or those named) a project is rendered to OUTPUT/NAME with data and a model made
here, and its own commands are run one after the other, each in a process. Memory is the largest resident set
of a process as the kernel counts it, also as a multiple of what a process has that only imports torch and the
trainer of transformers, measured in the same run.
"""

import argparse
import json
import math
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
os.environ.setdefault("OMP_NUM_THREADS", "1")
REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))
from tasks.huggingface.commands import Command, commands_of  # noqa: E402
from tasks.huggingface.kinds import TASKS  # noqa: E402
from tasks.huggingface.project.render import config_of, render_project  # noqa: E402
from tasks.reports.markdown import table  # noqa: E402
from tests.tasks.huggingface import conftest as vision  # noqa: E402
from tests.tasks.huggingface import language_models as language  # noqa: E402
from tests.tasks.huggingface.project import scenes  # noqa: E402

ALONE = "import torch; from transformers import Trainer"
HEADER = ["task", "model", "parameters", "rows", "steps", "train, s", "of CPU, s", "loss", "metric",
          "before", "after", "peak of train, MB", "x imports", "largest of all, MB",
          "all commands, s"]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A row of the table: model, data and the settings that differ from those of `SMALL`."""

    task: str
    model: Callable[[Path], Path]
    rows: Callable[[int, int], Any]
    steps: int
    train: int = 60
    evaluate: int = 30
    settings: dict[str, Any] = field(default_factory=dict)


def tiny(name: str) -> Callable[[Path], Path]:
    """The model that a fixture of the tests makes."""
    maker: Callable[[Path], Path] = getattr(vision, f"tiny_{name}").__wrapped__
    return maker


def squares(kind: str) -> Callable[[int, int], Any]:
    return partial(scenes.squares, kind=kind)


def same(rows: Callable[[int, int], Any]) -> Callable[[int, int], Any]:
    """The same rows to train and to evaluate on: does it fit what it has seen?"""
    return lambda count, _seed: rows(count, 0)


def words(kind: str) -> Callable[[int, int], Any]:
    """Questions whose answer is one of three colours; as pairs of replies, or to be rewarded."""

    def rows(count: int, _seed: int) -> dict[str, list[str]]:
        asked = [f"colour {number % 3} ?" for number in range(count)]
        right = [language.COLOURS[number % 3] for number in range(count)]
        wrong = [language.COLOURS[(number + 1) % 3] for number in range(count)]
        replies = {
            "sft": {"completion": right},
            "dpo": {"chosen": right, "rejected": wrong},
            "grpo": {"answer": right},
        }
        return {"prompt": asked, **replies[kind]}

    return rows


SMALL = {
    "per_device_train_batch_size": 8, "per_device_eval_batch_size": 8, "gradient_accumulation_steps": 1,
    "learning_rate": 2e-3, "head_learning_rate": None, "eval_strategy": "no", "save_strategy": "no",
    "metric_for_best_model": None, "num_train_epochs": 1, "logging_steps": 10,
}  # fmt: skip
ADAPTED = {"lora_r": 16, "lora_dropout": 0.0, "max_length": 128, "max_new_tokens": 6, "learning_rate": 1e-2}
NAMED = {"label_names": scenes.NAMES}
BOXES = NAMED | {"image_size": {"shortest_edge": 64, "longest_edge": 96}}
REWARDED = {
    "training_method": "grpo", "num_generations": 8, "per_device_train_batch_size": 32,
    "max_completion_length": 4, "reward_functions": ["answer_similarity"],
}  # fmt: skip
CASES = {
    "image-classification": Case(
        "image-classification", tiny("vit"), scenes.coloured_noise, 120, settings={"learning_rate": 3e-3}
    ),
    "object-detection": Case(
        "object-detection", tiny("detr"), squares("boxes"), 400, train=200, settings=BOXES
    ),
    "object-detection-seen": Case(
        "object-detection", tiny("yolos"), same(squares("boxes")), 1500, train=8, evaluate=8,
        settings=BOXES,
    ),
    "semantic-segmentation": Case(
        "semantic-segmentation", tiny("segformer"), squares("classes"), 150,
        settings={"label_names": ["ground", *scenes.NAMES], "image_size": {"height": 64, "width": 64}},
    ),
    "instance-segmentation": Case(
        "instance-segmentation", tiny("mask2former"), squares("ids"), 150, settings=NAMED
    ),
    "panoptic-segmentation": Case(
        "panoptic-segmentation", tiny("mask2former"), squares("ids"), 150, settings=NAMED
    ),
    "depth-estimation": Case(
        "depth-estimation", tiny("glpn"), squares("depth"), 150,
        settings={"depth_scale": 0.001, "image_size": {"height": 64, "width": 96}},
    ),
    "vlm-lora": Case(
        "image-text-to-text", language.idefics3, lambda count, _seed: language.colour_rows(count), 120,
        settings=ADAPTED,
    ),
    "text-sft-lora": Case("text-generation", language.llama, words("sft"), 80, settings=ADAPTED),
    "dpo": Case(
        "text-generation", language.llama, words("dpo"), 60, settings=ADAPTED | {"training_method": "dpo"}
    ),
    "grpo": Case(
        "text-generation", language.llama, words("grpo"), 200, settings=ADAPTED | REWARDED
    ),
}  # fmt: skip


def main() -> None:
    """Read the command line, run the tasks and print their table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("output", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}")
    parser.add_argument("--table", type=Path, help="also write the table to this file")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(CASES))
    if unknown:
        parser.error(f"unknown {', '.join(unknown)}; there are {', '.join(CASES)}")
    given.output.mkdir(parents=True, exist_ok=True)
    alone = measured([sys.executable, "-c", ALONE], given.output, given.output / "imports.log")
    imports = f"Imports alone: {alone.megabytes:.0f} MB, {alone.cpu:.1f} s of CPU."
    rows = []
    for name in given.names or CASES:
        rows.append(report(name, CASES[name], given.output.absolute() / name, alone.megabytes))
        print(table(HEADER, rows[-1:]).splitlines()[-1], flush=True)
        if given.table:
            given.table.write_text(f"{table(HEADER, rows)}\n\n{imports}\n", encoding="utf-8")
    print(f"\n{table(HEADER, rows)}\n\n{imports}")


def report(name: str, case: Case, folder: Path, alone: float) -> tuple[object, ...]:
    """The row of a task: its project is made anew and its commands are run."""
    shutil.rmtree(folder, ignore_errors=True)
    project = folder / "project"
    maker = multiprocessing.get_context("spawn").Process(target=make, args=(name, folder))
    maker.start()
    maker.join()
    if maker.exitcode:
        raise SystemExit(f"{name}: its model or data could not be made")
    config = rendered(case, folder, project)
    taken = {}
    for command in commands_of(config).values():
        print(f"{name}: {command.name}", file=sys.stderr, flush=True)
        taken[command.name] = measured(command.argv(sys.executable), project, project / command.log, command)
    reports = (project / "reports" / f"{which}_results.json" for which in ("baseline", "eval"))
    before, after = (json.loads(file.read_text(encoding="utf-8"))["primary_metric"] for file in reports)
    largest, train = max(taken, key=lambda one: taken[one].megabytes), taken["train"]
    return (
        name, type_of(folder / "model"), parameters(folder / "model"), f"{case.train} / {case.evaluate}",
        case.steps, f"{train.seconds:.1f}", f"{train.cpu:.1f}", losses(project), after["name"],
        f"{before['value']:.4f}", f"{after['value']:.4f}", f"{train.megabytes:.0f}",
        f"{train.megabytes / alone:.2f}", f"{taken[largest].megabytes:.0f} ({largest})",
        f"{sum(one.seconds for one in taken.values()):.0f}",
    )  # fmt: skip


def losses(project: Path) -> str:
    """The first and the last loss that the training logged."""
    history = json.loads((project / "checkpoints/trainer_state.json").read_text())["log_history"]
    logged = [entry["loss"] for entry in history if "loss" in entry]
    return f"{logged[0]:.3f} to {logged[-1]:.3f}"


def make(name: str, folder: Path) -> None:
    """Model and data set of a task, in a process of its own."""
    import torch
    from datasets import DatasetDict

    case = CASES[name]
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    case.model(folder / "made")
    made = next(file.parent for file in (folder / "made").rglob("config.json"))
    made.rename(folder / "model")
    splits = {"train": (case.train, 0), "validation": (case.evaluate, 1)}
    DatasetDict({split: as_dataset(case.rows(*wanted)) for split, wanted in splits.items()}).save_to_disk(
        folder / "rows"
    )


def rendered(case: Case, folder: Path, project: Path) -> dict[str, Any]:
    """The project of a task as files; gives its configuration."""
    config = config_of(
        {
            "model_id": str(folder / "model"), "model_short_name": "tiny", "task": case.task,
            "auto_model_class": TASKS[case.task].auto_class, "local_dataset_path": str(folder / "rows"),
            "n_train": case.train, "n_eval": case.evaluate, "push_to_hub": False, "max_steps": case.steps,
            **SMALL, **case.settings,
        }
    )  # fmt: skip
    render_project(config, project)
    for name in ("logs", "reports", "checkpoints"):
        (project / name).mkdir()
    return config


def as_dataset(rows: Any) -> Any:
    """Rows as a data set, pictures as an Image column."""
    from datasets import Dataset, Image

    if not isinstance(rows, dict):
        return rows
    made = Dataset.from_dict(rows)
    return made.cast_column("image", Image()) if "image" in rows else made


class Taken(NamedTuple):
    """Of a process: seconds by the clock and of a processor, and the largest resident set in MB."""

    seconds: float
    cpu: float
    megabytes: float


def measured(argv: list[str], folder: Path, log: Path, command: Command | None = None) -> Taken:
    """What a process takes; ends this program where it fails.

    The kernel counts what the parent had when it started the process, so this program stays small.
    """
    began = time.monotonic()
    environment = os.environ | (command.environment if command else {})
    with log.open("wb") as stream:
        process = subprocess.Popen(argv, cwd=folder, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)}: status {process.returncode}, see {log}")
    used = usage.ru_utime + usage.ru_stime
    return Taken(time.monotonic() - began, used, usage.ru_maxrss * 1024 / 1e6)


def type_of(model: Path) -> str:
    return str(json.loads((model / "config.json").read_text(encoding="utf-8"))["model_type"])


def parameters(model: Path) -> int:
    """Numbers in the file of weights."""
    from safetensors import safe_open

    with safe_open(model / "model.safetensors", framework="numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


if __name__ == "__main__":
    main()
