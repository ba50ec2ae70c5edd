"""The re-run recipe, `skills/run-SHORT/SKILL.md`: how somebody repeats the run, and what to expect."""

from __future__ import annotations

import math
import platform
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tasks.artifacts import existing_file, now, read_json, write_text
from tasks.errors import InputError, StageFailed, listed
from tasks.huggingface.commands import checkpoint_of, how_to_run, image_of
from tasks.huggingface.push import metric_table
from tasks.huggingface.recovery import attempts_in
from tasks.huggingface.results import EVALUATED, Metric, baseline_of, primary_metric
from tasks.reports.markdown import Raw, code, escaped, table

LICENCE = "Apache-2.0"
FIELDS = ("license", "compatibility", "metadata", "allowed-tools")
NOTICE = """<!--
Copyright (c) 2026, NVIDIA CORPORATION.  All rights reserved.

Licensed under the Apache License, Version 2.0 (the "License");
you may not use this file except in compliance with the License.
You may obtain a copy of the License at

    http://www.apache.org/licenses/LICENSE-2.0

Unless required by applicable law or agreed to in writing, software
distributed under the License is distributed on an "AS IS" BASIS,
WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
See the License for the specific language governing permissions and
limitations under the License.
-->"""
PLACEHOLDER = re.compile(
    r"<(?:short|model(?:_id|_short_name)?|dataset(?:_id)?|task|name|description|date|gpu(?:_name|_count)?"
    r"|driver(?:_version|_major)?|vram(?:_gb)?|metric|value|baseline|tuned|delta|hours|minutes|url|image"
    r"|checkpoint|placeholder|project|path|wall_time|n_eval|n_train|todo|fill[\w -]*)>",
    re.IGNORECASE,
)
"""Tokens of a template that nobody filled in; words of logs in the same brackets are in code spans."""
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
FRONT = re.compile(r"\A---\n(?P<yaml>.*?)\n---\n(?P<rest>.*)\Z", re.DOTALL)
SHARES = {"accuracy", "exact_match", "vqa_accuracy", "pixel_accuracy", "token_accuracy", "top5_accuracy",
          "reward_accuracy", "delta_1.25"}  # fmt: skip
NO_ISSUES = "No issues: every command ran without an error."
SNAPSHOT = ("model_id", "dataset_id", "local_dataset_path", "task", "training_method", "n_train", "n_eval",
            "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
            "learning_rate", "weight_decay", "lr_scheduler_type", "bf16", "use_lora", "lora_r", "lora_alpha",
            "seed")  # fmt: skip


def recipe_file(project: Path, config: Mapping[str, Any]) -> Path:
    """Where the recipe of a project lies."""
    return project / "skills" / f"run-{config['model_short_name']}" / "SKILL.md"


def variance(metric: Metric) -> str:
    """How far another run may be off by chance: for a share p of n rows, 1.96 sqrt(p (1 - p) / n)."""
    if metric.name not in SHARES or not metric.n_eval or not 0 <= metric.value <= 1:
        return f"n = {metric.n_eval}; repeat with another seed to see the spread"
    spread = 1.96 * math.sqrt(metric.value * (1 - metric.value) / metric.n_eval)
    return f"±{spread:.4f} (95 %, n = {metric.n_eval})"


def write_recipe(project: Path, config: Mapping[str, Any], facts: Mapping[str, Any]) -> Path:
    """Write the recipe of a finished run and check it.

    Args:
        project: folder of the project.
        config: what `config.yaml` says.
        facts: minutes of the training (`minutes`), and `driver_version` where known.

    Raises:
        StageFailed: the recipe breaks a rule; it says which, and nothing is written.
    """
    text = render_recipe(project, config, facts)
    findings = check_recipe(text, project, config)
    if findings:
        raise StageFailed(f"the recipe is not valid: {listed(findings)}")
    return write_text(recipe_file(project, config), text)


def render_recipe(project: Path, config: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The text of the recipe."""
    evaluated, baseline = primary_metric(project / EVALUATED), baseline_of(project, config)
    short = str(config["model_short_name"])
    before = f"{baseline.value:.4f}" if baseline else "not measured"
    count = config.get("gpu_count") or 0
    gpu = f"{count}x {config.get('gpu_name') or 'no GPU'}" if count else "a CPU"
    minutes = f"{float(facts.get('minutes') or 0):.1f} min"
    data = config.get("dataset_id") or config.get("local_dataset_path")
    description = (
        f"Fine-tune {config['model_id']} on {data} for {config['task']}: {evaluated.name} {before} -> "
        f"{evaluated.value:.4f}, training {minutes} on {gpu}."
    )
    compatibility = _compatibility(config)
    front = {
        "name": f"run-{short}",
        "description": description,
        "license": LICENCE,
        "compatibility": compatibility,
        "metadata": {"author": "NVIDIA CORPORATION", "version": "0.1"},
        "allowed-tools": "Read Bash",
    }
    results = table(
        ["Primary metric", "Baseline", "Fine-tuned", "Δ", "Expected variance"],
        [
            (
                evaluated.name,
                before,
                f"{evaluated.value:.4f}",
                f"{evaluated.value - baseline.value:+.4f}" if baseline else "—",
                variance(evaluated),
            )
        ],
    )
    snapshot = {name: config[name] for name in SNAPSHOT if config.get(name) is not None}
    sources = [f"- <{url}>" for url in config.get("research_sources") or []] or ["- none: the defaults"]
    provenance = [
        ("Date", now()),
        ("GPU", gpu if count else "none: a CPU"),
        ("Driver", facts.get("driver_version") or config.get("driver_major") or "none"),
        ("Version of transformers", _trained_with(project, config)),
        ("Ran on", f"{platform.system()} {platform.machine()}"),
        ("Logs", Raw(code("logs/smoke.log") + ", " + code("logs/train.log"))),
        ("Reports", Raw(code(str(EVALUATED)) + ", " + code("reports/inference_samples/"))),
    ]
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False, width=10**6)}---\n{NOTICE}\n\n# run-{short}\n\n"
        f"{escaped(description)}\n\n## Environment\n\n{escaped(compatibility)}\n"
        f"The image is {code(image_of(config))}, made from {code(config.get('ngc_image') or 'no image')}. "
        "Every command runs in the folder of the project.\n\n"
        f"## Run\n\n{how_to_run(config)}\n"
        f"The evaluated and pushed weights are {code(checkpoint_of(config))}.\n\n"
        f"## Expected results\n\n{results}\n\n{metric_table(project, config)}\n\n"
        f"## Config snapshot\n\n```yaml\n{yaml.safe_dump(snapshot, sort_keys=False)}```\n\n"
        f"## Troubleshooting\n\n{_troubles(project)}\n\n## Research sources\n\n" + "\n".join(sources) + "\n\n"
        f"## Provenance\n\n{table(['What', 'Value'], provenance)}\n"
    )


def _compatibility(config: Mapping[str, Any]) -> str:
    """What a host has to have: of the driver and the GPU, what the run had."""
    rest = f"about 40 GB of disk, credentials: {_credentials(config)}."
    if not config.get("gpu_count"):
        return f"Docker, or Python with torch and requirements.txt; no GPU is needed, {rest}"
    vram = config.get("vram_gb_per_gpu") or 0
    driver = config.get("driver_major") or 0
    return f"Docker with the NVIDIA Container Toolkit, driver >= {driver}, GPU memory >= {vram:g} GB, {rest}"


def _trained_with(project: Path, config: Mapping[str, Any]) -> str | None:
    """The version of transformers that wrote the trained model, as its config.json says."""
    file = project / checkpoint_of(config) / "config.json"
    return read_json(file).get("transformers_version") if file.is_file() else None


def _credentials(config: Mapping[str, Any]) -> str:
    monitoring = ", WANDB_API_KEY" if config.get("report_to") == "wandb" else ""
    return f"HF_TOKEN for a gated or private model or data set{monitoring}"


def _troubles(project: Path) -> str:
    attempts = attempts_in(project)
    if not attempts:
        return NO_ISSUES
    rows = [(one.command, code(one.message[:200]), one.why) for one in attempts]
    return table(["Command", "Symptom", "What was tried"], rows)


def check_recipe(text: str, project: Path, config: Mapping[str, Any]) -> list[str]:
    """Which rules of a recipe a text breaks: fields, notice, placeholders, figures, image, checkpoint."""
    found = FRONT.match(text)
    if not found:
        return ["the front matter between two lines of --- is missing"]
    try:
        front = yaml.safe_load(found["yaml"])
    except yaml.YAMLError as error:
        return [f"the front matter is not valid YAML: {' '.join(str(error).split())[:200]}"]
    if not isinstance(front, dict):
        return ["the front matter is no mapping"]
    findings = [
        f"field {name} is missing" for name in ("name", "description", *FIELDS) if not front.get(name)
    ]
    if front.get("name") != f"run-{config['model_short_name']}":
        findings.append(f"name is not run-{config['model_short_name']}")
    if not found["rest"].startswith("<!--\nCopyright (c)"):
        findings.append("the copyright notice does not follow the front matter as a comment")
    prose = CODE.sub("", text)
    findings += [f"{token} was not filled in" for token in sorted(set(PLACEHOLDER.findall(prose)))]
    for line in text.splitlines():  # a command that a person would copy
        if line.startswith(("docker ", "python ")):
            findings += [f"{token} was not filled in" for token in sorted(set(PLACEHOLDER.findall(line)))]
    return findings + _figures(text, project, config) + _images(text, config) + _checkpoints(text, config)


def _figures(text: str, project: Path, config: Mapping[str, Any]) -> list[str]:
    try:
        evaluated, baseline = primary_metric(project / EVALUATED), baseline_of(project, config)
    except InputError as error:
        return [str(error)]
    row = next((line for line in text.splitlines() if line.startswith(f"| {escaped(evaluated.name)} |")), "")
    wanted = [f"{evaluated.value:.4f}", *([f"{baseline.value:.4f}"] if baseline else [])]
    findings = [f"the table of results lacks {value}" for value in wanted if f" {value} " not in row]
    front = text.partition("\n---\n")[0]
    return findings + [f"the description lacks {value}" for value in wanted if value not in front]


def _images(text: str, config: Mapping[str, Any]) -> list[str]:
    image = image_of(config)
    others = sorted(set(re.findall(r"\brun-[a-z0-9._-]+:[a-z0-9._-]+", text)) - {image})
    findings = [f"image {one} is not {image}" for one in others]
    return findings if image in text else [*findings, f"image {image} is not named"]


def _checkpoints(text: str, config: Mapping[str, Any]) -> list[str]:
    model = shlex.quote(str(config["model_id"]))
    for form in (model.replace("'", "'\"'\"'"), model):  # inside of bash -lc '...', and alone
        text = text.replace(f"--checkpoint {form} ", "")
    given = set(re.findall(r"--checkpoint[ =](\S+)", text))
    findings = [f"--checkpoint {one} is none of this run" for one in sorted(given - {checkpoint_of(config)})]
    return (
        findings if checkpoint_of(config) in given else [*findings, "no command evaluates the trained model"]
    )


def read_recipe(project: Path, config: Mapping[str, Any]) -> str:
    """The recipe as it lies there; raises `InputError` where there is none."""
    return existing_file(recipe_file(project, config), "recipe").read_text(encoding="utf-8")
