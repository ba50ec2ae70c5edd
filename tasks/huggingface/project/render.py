"""A project as files: scripts as they stand in `files/` (there a package), the rest from templates.

Every tunable stands in config.yaml. A project holds one task module, as `task.py`, and the modules that its
scripts import; nothing of this repository.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from tasks.artifacts import write_text
from tasks.errors import InputError, listed
from tasks.huggingface.commands import how_to_run
from tasks.huggingface.compat import of_type, runtime_environment

HERE = Path(__file__).parent
FILES = HERE / "files"
SCRIPTS = ("prepare_data.py", "train.py", "run_eval.py", "infer.py")
TESTS = (
    "tests/conftest.py",
    *(f"tests/test_{what}.py" for what in ("dataset", "collator", "model", "smoke")),
)
TEMPLATES = {
    "Dockerfile.j2": "Dockerfile",
    "requirements.txt.j2": "requirements.txt",
    "README.md.j2": "README.md",
    "dockerignore.j2": ".dockerignore",
    "gitignore.j2": ".gitignore",
    "env.example.j2": ".env.example",
}
TASK_MODULES = {
    "image-classification": "task_image_classification",
    "object-detection": "task_object_detection",
    "semantic-segmentation": "task_semantic_segmentation",
    "instance-segmentation": "task_universal_segmentation",
    "panoptic-segmentation": "task_universal_segmentation",
    "depth-estimation": "task_depth_estimation",
    "image-text-to-text": "task_image_text_to_text",
    "text-generation": "task_text_generation",
}
METHOD_MODULES = {"dpo": "task_dpo", "grpo": "task_grpo"}
LANGUAGE_TASKS = ("image-text-to-text", "text-generation")
COMMON = ("accelerate", "datasets", "numpy", "pillow", "pyyaml", "transformers")
VISION = ("pycocotools", "scipy", "timm")  # average precision, DETR's matching, backbones of published models
LANGUAGE = ("num2words", "peft", "sentencepiece")  # SmolVLM's processor, LoRA, tokenizers of older models
REQUIRED = ("model_id", "model_short_name", "task", "auto_model_class")

LICENSE = """\
# Copyright (c) 2026, NVIDIA CORPORATION. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""


def config_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Every key of config.yaml, in its order: `values` over the defaults of the task.

    Raises:
        InputError: a key is not one of config.yaml's, a required one is missing, or the task is not known.
    """
    sections, tasks, lora = _defaults()
    config = {key: value for section in sections.values() for key, value in section.items()}
    unknown = sorted(set(values) - set(config))
    if unknown:
        raise InputError(f"config.yaml has no key {listed(unknown)}; see {HERE / 'defaults.yaml'}")
    missing = [key for key in REQUIRED if not values.get(key)]
    if missing:
        raise InputError(f"config.yaml: set {listed(missing)}")
    if values["task"] not in tasks:
        raise InputError(f"config.yaml: task {values['task']!r} is not one of {listed(sorted(tasks))}")
    config |= tasks[values["task"]]
    method = values.get("training_method") or "sft"
    if method in METHOD_MODULES:
        config |= _of_method(method, bool(values.get("use_lora", config["use_lora"])))
    if values.get("use_lora", config["use_lora"]):
        config |= lora
    if values.get("warmup_steps") is not None:
        config["warmup_ratio"] = None
    return config | dict(values)


def _of_method(method: str, lora: bool) -> dict[str, Any]:
    """DPO of a whole model moves in far smaller steps; GRPO's loss says nothing about which model is best."""
    rate = {} if lora else {"learning_rate": 5.0e-7}
    if method == "grpo":
        return {"eval_strategy": "no", "metric_for_best_model": None, "greater_is_better": None}
    return rate


def config_keys() -> list[str]:
    """The keys of config.yaml in their order."""
    return [key for section in _defaults()[0].values() for key in section]


@cache
def _defaults() -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]], dict[str, Any]]:
    sections = yaml.safe_load((HERE / "defaults.yaml").read_text(encoding="utf-8"))
    tasks, lora = sections.pop("tasks"), sections.pop("lora defaults")
    return sections, tasks, lora


def config_text(config: Mapping[str, Any]) -> str:
    """config.yaml: the keys by section, each under its heading."""
    parts = ["# Every setting of this project. The scripts read it and set nothing themselves.\n"]
    for heading, keys in _defaults()[0].items():
        chosen = {key: config[key] for key in keys}
        parts.append(f"# {heading}\n{yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True, width=100)}")
    return "\n".join(parts)


def render_project(config: Mapping[str, Any], folder: Path, *, only_missing: bool = False) -> list[Path]:
    """Write every file of the project that `config` describes, and name those that were written.

    Args:
        config: as `config_of` gives it; values may have been changed since, keys not.
        folder: where; it is made, and files of an earlier rendering are written again.
        only_missing: leave the files that are there as they are.

    Raises:
        InputError: a key is missing or unknown, or a workaround forbids a line of the Dockerfile.
    """
    config = config_of(config)
    texts = {name: LICENSE + "\n" + text for name, text in _modules(config).items()}
    texts["config.yaml"] = config_text(config)
    if config["emit_unit_tests"]:  # or pytest would look for settings in the folders above the project
        texts["tests/pytest.ini"] = (FILES / "tests/pytest.ini").read_text(encoding="utf-8")
    for template, name in TEMPLATES.items():
        texts[name] = _environment().get_template(template).render(**_context(config, texts))
    _check(config, texts)
    return [
        write_text(folder / name, text)
        for name, text in texts.items()
        if not (only_missing and (folder / name).is_file())
    ]


def _modules(config: Mapping[str, Any]) -> dict[str, str]:
    """The project's Python files by name: scripts, `task.py`, and what they import of `files/`."""
    wanted = [*SCRIPTS, *(["merge_lora.py"] if config["use_lora"] else [])]
    if config["emit_report"]:
        wanted.append("report.py")
    if config.get("local_dataset_path"):
        wanted.append("local_loaders.py")
    if config["emit_unit_tests"]:
        wanted += TESTS
    texts: dict[str, str] = {}
    while wanted:
        name = wanted.pop(0)
        if name not in texts:
            texts[name] = beside_scripts((FILES / _source(name, config)).read_text(encoding="utf-8"))
            wanted += _modules_of(name, texts[name])
    return texts


def beside_scripts(text: str) -> str:
    """The text of a module without its package: in a project its neighbours lie beside it."""
    return re.sub(r"^from \.(\w+) import", r"from \1 import", text, flags=re.MULTILINE)


def _source(name: str, config: Mapping[str, Any]) -> str:
    """The file of `files/` that a file of the project is: two are the task's own."""
    module = task_module(config)
    of_task = {"task.py": f"{module}.py", "tests/kind.py": f"tests/{module.replace('task_', 'kind_')}.py"}
    return of_task.get(name, name)


def task_module(config: Mapping[str, Any]) -> str:
    """The module of `files/` that becomes `task.py`."""
    method = config.get("training_method") or "sft"
    return METHOD_MODULES.get(method) or TASK_MODULES[config["task"]]


def _modules_of(name: str, text: str) -> list[str]:
    """The files of the project that one of its files imports: of its own folder, or of the project's."""
    places = [place for module in _imports(text) for place in (Path(name).with_name(module), Path(module))]
    files = {f"{place}.py" for place in places}
    return sorted(file for file in files if file in {"task.py", "tests/kind.py"} or (FILES / file).is_file())


def _imports(text: str) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    return names


def _context(config: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    records = config["applicable_workarounds"]
    return {
        "config": config,
        "purposes": _purposes(texts),
        "packages": _packages(config, records),
        "first_blocks": of_type(records, "dockerfile_first"),
        "blocks": of_type(records, "dockerfile_block"),
        "environment": runtime_environment(records),
        "pins": [
            {"requirement": pin, "id": one["id"], "reason": one["reason"]}
            for one in of_type(records, "requirements_pin")
            for pin in one["content"]
        ],
        "how_to_run": how_to_run(config),
    }


def _packages(config: Mapping[str, Any], records: list[dict[str, Any]]) -> list[str]:
    """What the scripts import and the models need, less what a workaround pins or leaves out."""
    family = LANGUAGE if config["task"] in LANGUAGE_TASKS else VISION
    wanted = {*COMMON, *family, *(["trl"] if config.get("training_method") in METHOD_MODULES else [])}
    if config["report_to"] == "wandb":
        wanted.add("wandb")
    if config["emit_report"]:
        wanted.add("matplotlib")
    if config["emit_unit_tests"]:
        wanted.add("pytest")
    pinned = {pin for one in of_type(records, "requirements_pin") for pin in one["content"]}
    omitted = {name for one in of_type(records, "requirements_omit") for name in one["content"]}
    return sorted(wanted - omitted - {re.split(r"[^\w.-]", pin)[0].lower() for pin in pinned})


def _purposes(texts: Mapping[str, str]) -> dict[str, str]:
    """The first sentence of each script, and what the other files are."""
    of_scripts = {
        name: (ast.get_docstring(ast.parse(text)) or "").split("\n")[0].split(": `")[0].rstrip(".:")
        for name, text in sorted(texts.items(), key=lambda one: "/" in one[0])  # tests come last
        if name.endswith(".py")
    }
    return {
        "config.yaml": "Every setting",
        "Dockerfile": "The image",
        "requirements.txt": "Packages",
    } | of_scripts


def _check(config: Mapping[str, Any], texts: Mapping[str, str]) -> None:
    """The project is whole: headers, code that parses, and no line that a workaround forbids."""
    for name, text in texts.items():
        if name.endswith(".py"):
            if not text.startswith(LICENSE):
                raise InputError(f"{name}: does not begin with the licence notice")
            compile(text, name, "exec")
    for record in of_type(config["applicable_workarounds"], "dockerfile_lint"):
        if record["content"] in texts["Dockerfile"]:
            raise InputError(f"Dockerfile: holds {record['content']!r}, see workaround {record['id']}")


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("tasks.huggingface.project"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - no page: files of a project
    )
