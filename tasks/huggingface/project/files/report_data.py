"""What a report tells, read from the files that the other scripts left, and how its values are worded."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

NO_METRICS = {"n_eval", "seconds"}
UNBOUNDED = re.compile(r"loss|perplexity|rmse|abs_rel|margin|reward(?!_accuracy)|length")
LARGEST = 640
"""Pixels of the longer side of a sample's picture in the report."""
NOT_SHOWN = {"research_sources", "notes", "project_dir"}
"""Settings that say nothing of the training, or are long; the recipe has them."""


@dataclass
class Sample:
    """One prediction of infer.py: its pictures, where the task has any, and what was said."""

    number: int
    meta: dict[str, Any]
    shown: Image.Image | None
    predicted: Image.Image | None


@dataclass
class Results:
    """All that a report tells; `baseline` is None where there is none."""

    folder: Path
    config: dict[str, Any]
    evaluation: dict[str, Any]
    baseline: dict[str, Any] | None
    state: dict[str, Any]
    samples: list[Sample]
    wandb: str | None
    date: str

    @property
    def dataset(self) -> str:
        """The data set's id, or the name of its folder."""
        return str(self.config.get("dataset_id") or self.config.get("local_dataset_path") or "unknown")

    @property
    def primary(self) -> str:
        """The name of the metric that counts."""
        return str(self.evaluation["primary_metric"]["name"])

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value of that metric is the better one."""
        return bool(self.evaluation["primary_metric"].get("higher_is_better", True))

    @property
    def before(self) -> float | None:
        """Its value before the training, if it was measured."""
        return metrics_of(self.baseline).get(self.primary) if self.baseline else None

    @property
    def after(self) -> float | None:
        """Its value after the training; None where it is no number."""
        return metrics_of(self.evaluation).get(self.primary)

    def change(self) -> str:
        """The difference with its sign, and whether it is a gain; empty without a baseline."""
        if self.before is None or self.after is None:
            return ""
        gain = (self.after - self.before) * (1 if self.higher_is_better else -1)
        verdict = "better" if gain > 0 else "worse" if gain < 0 else "the same"
        return (
            f"{'+' if self.after >= self.before else '−'}{figure(abs(self.after - self.before))}, {verdict}"
        )

    def from_to(self) -> str:
        """The value before and after; after alone without a baseline."""
        before = f"{figure(self.before)} → " if self.before is not None else ""
        return before + figure(self.after)

    def no_baseline(self) -> str:
        """Why there is no baseline."""
        if self.config.get("skip_baseline"):
            return "The baseline was not measured: skip_baseline is set."
        return "There is no reports/baseline_results.json."


def read(config_file: Path) -> Results:
    """Read the files of the project that holds `config_file`.

    Raises:
        SystemExit: the config or the evaluation is missing or cannot be read.
    """
    if not config_file.is_file():
        raise SystemExit(f"{config_file} is missing")
    config = yaml.safe_load(config_file.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise SystemExit(f"{config_file}: not a list of `key: value` lines")
    folder = config_file.resolve().parent
    reports = folder / "reports"
    evaluation = _json(reports / "eval_results.json")
    if not isinstance((evaluation or {}).get("primary_metric"), dict):
        raise SystemExit("reports/eval_results.json has no primary_metric: run run_eval.py first")
    baseline = None if config.get("skip_baseline") else _json(reports / "baseline_results.json")
    state = _json(folder / str(config.get("output_dir") or "checkpoints") / "trainer_state.json")
    return Results(
        folder=folder,
        config={name: _portable(value) for name, value in config.items()},
        evaluation=evaluation,
        baseline=baseline,
        state=state or {},
        samples=_samples(reports / "inference_samples"),
        wandb=_wandb(folder / "logs" / "train.log"),
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),  # noqa: UP017 - images with Python 3.10
    )


def _portable(value: Any) -> Any:
    """A folder of this machine by its last name: a report is shown to others."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _json(file: Path) -> Any:
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SystemExit(f"{file}: not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise SystemExit(f"{file}: an object of names and values is expected")
    return found


def _samples(folder: Path) -> list[Sample]:
    found = []
    for file in folder.glob("sample_*_meta.json"):
        number = int(file.name.split("_")[1])
        pictures = [_picture(folder / f"sample_{number}_{what}.jpg") for what in ("input", "pred")]
        found.append(Sample(number, _json(file), *pictures))
    return sorted(found, key=lambda sample: sample.number)


def _picture(file: Path) -> Image.Image | None:
    """The picture, not larger than the report needs; None where there is none that can be read."""
    try:
        with Image.open(file) as image:
            picture = image.convert("RGB")
    except OSError:
        return None
    picture.thumbnail((LARGEST, LARGEST))
    return picture


def _wandb(log: Path) -> str | None:
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    found = re.findall(r"https://wandb\.ai/[\w./%~-]+/runs/\w+", text)
    return found[-1] if found else None


def metrics_of(evaluation: dict[str, Any]) -> dict[str, float]:
    """The figures of an evaluation that are single finite numbers, the primary one first."""
    primary = evaluation["primary_metric"] if isinstance(evaluation.get("primary_metric"), dict) else {}
    named = {str(primary.get("name")): primary.get("value"), **evaluation}
    return {
        name: float(value)
        for name, value in named.items()
        if _is_number(value) and math.isfinite(value) and name not in NO_METRICS
    }


def is_share(name: str, values: list[float]) -> bool:
    """Whether a metric lies between 0 and 1 by its nature, so that such metrics share an axis."""
    return not UNBOUNDED.search(name) and all(0 <= value <= 1 for value in values)


def points(state: dict[str, Any], name: str) -> tuple[list[float], list[float]]:
    """Steps and values of a logged quantity; entries that are no finite number are left out."""
    found = [
        (entry["step"], entry[name])
        for entry in state.get("log_history") or []
        if _is_number(entry.get(name)) and math.isfinite(entry[name]) and _is_number(entry.get("step"))
    ]
    return [step for step, _ in found], [value for _, value in found]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def per_class(results: Results) -> list[tuple[str, float | None, float | None]]:
    """Name, value before and value after of each class that the evaluation tells apart."""
    after = results.evaluation.get("per_class")
    before = (results.baseline or {}).get("per_class")
    if not isinstance(after, dict):
        return []
    before = before if isinstance(before, dict) else {}
    names = list(dict.fromkeys([*after, *before]))
    return [(str(name), before.get(name), after.get(name)) for name in names]


def facts(results: Results) -> list[tuple[str, str]]:
    """What the head of the report says about the run."""
    config, evaluation = results.config, results.evaluation
    method = str(config.get("training_method") or "sft").upper()
    gpu = f"{config['gpu_count']} × {config.get('gpu_name')}" if config.get("gpu_count") else "none"
    rows = [
        ("Model", str(config.get("model_id"))),
        ("Data set", results.dataset),
        ("Task", str(config.get("task")).replace("-", " ")),
        ("Method", f"{method} with LoRA" if config.get("use_lora") else method),
        ("Evaluated rows", words(evaluation.get("n_eval"))),
        ("Evaluated checkpoint", str(evaluation.get("checkpoint", "unknown"))),
        ("Trained steps", words(results.state.get("global_step") or "not recorded")),
        ("GPU", gpu),
        ("Date", results.date),
    ]
    return [(name, clean(value)) for name, value in rows]


def settings(results: Results) -> list[tuple[str, str]]:
    """The settings that have a value, of a workaround its id alone."""
    shown = []
    for name, value in results.config.items():
        if value in (None, [], {}, "") or name in NOT_SHOWN:
            continue
        if name == "applicable_workarounds":
            value = [one.get("id") for one in value]  # noqa: PLW2901
        shown.append((clean(str(name)), clean(words(value))))
    return shown


def figure(value: float | None) -> str:
    """A figure for a person: four decimals, or four digits where it is very small or large."""
    if value is None:
        return "not measured"
    plain = value == 0 or 0.001 <= abs(value) < 100_000
    return (f"{value:.4f}" if plain else f"{value:.4g}").replace("-", "−")


def words(value: Any) -> str:
    """A value for a person: turns of a conversation line by line, mappings as `name value, …`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        if {"role", "content"} <= set(value):
            return f"{value['role']}: {words(value['content'])}"
        label = [words(value["label"])] if "label" in value else []
        return ", ".join([*label, *(f"{k} {words(one)}" for k, one in value.items() if k != "label")])
    if isinstance(value, list):
        between = "\n" if any(isinstance(one, dict | list) for one in value) else ", "
        return between.join(words(one) for one in value)
    return "none" if value is None else str(value)


def clean(text: str) -> str:
    """The text without characters that no page may hold, such as control characters of a model's reply."""
    return "".join(character if _allowed(ord(character)) else "\ufffd" for character in text)


def _allowed(code: int) -> bool:
    if code in (0x9, 0xA):
        return True
    control = code < 0x20 or 0x7F <= code < 0xA0
    no_character = 0xD800 <= code < 0xE000 or 0xFDD0 <= code < 0xFDF0 or code & 0xFFFE == 0xFFFE
    return not (control or no_character)


def short(text: str, length: int) -> str:
    """The text on one line, cut where it is longer than `length`."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"
