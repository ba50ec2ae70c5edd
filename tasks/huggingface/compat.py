"""The registry of workarounds: which known incompatibilities a run has, and what mends each.

`compat.yaml` holds the entries; their detections name the predicates of this module, so that nothing is
evaluated from text. A rule on a version that is not known does not apply.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from tasks.errors import InputError
from tasks.spec import explained, read_mapping

logger = logging.getLogger("deft")

REGISTRY = Path(__file__).with_name("compat.yaml")
WATCHED = ("torch", "transformers", "tokenizers", "trl", "peft", "numpy", "huggingface_hub")
FixType = Literal[
    "config_override",
    "dataset_template",
    "dockerfile_block",
    "dockerfile_first",
    "dockerfile_lint",
    "naming_rule",
    "requirements_omit",
    "requirements_pin",
    "runtime_env",
]


@dataclass(frozen=True)
class Situation:
    """What predicates look at.

    Attributes:
        config: the model's `config.json`.
        task: a key of `kinds.TASKS`.
        training_method: `sft`, `dpo` or `grpo`.
        versions: of packages where the project will run, known in step 2; unknown ones are absent.
        processor: the model's processor files, merged.
        repo_files: names of the files of the model's repository.
        run: the values of `config.yaml` so far.
        hardware: `release` of the image (such as `25.12`), its `pytorch_version` and `numpy`; none in step 1,
            and without a release where no image is used.
    """

    config: Mapping[str, Any]
    task: str
    training_method: str = "sft"
    versions: Mapping[str, str] = field(default_factory=dict)
    processor: Mapping[str, Any] = field(default_factory=dict)
    repo_files: Collection[str] = ()
    run: Mapping[str, Any] = field(default_factory=dict)
    hardware: Mapping[str, Any] | None = None

    def version_of(self, package: str) -> Version | None:
        """A package's version; none where it is not known. The image's PyTorch counts for torch."""
        text = self.versions.get(package)
        if package == "torch" and self.hardware and self.hardware.get("pytorch_version"):
            text = str(self.hardware["pytorch_version"])
        return _version(text)

    @property
    def text(self) -> Mapping[str, Any]:
        """The part of the config that describes the text tower."""
        return text_part(self.config)

    @property
    def release(self) -> tuple[int, ...] | None:
        """Year and month of the image."""
        found = re.match(r"(\d\d)\.(\d\d)", str((self.hardware or {}).get("release") or ""))
        return (int(found[1]), int(found[2])) if found else None


def _version(text: str | None) -> Version | None:
    try:
        return Version(text) if text else None
    except InvalidVersion:
        return None


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a model's config that describes its text tower: the whole, where there is no other."""
    for key in ("text_config", "llm_config", "language_config"):
        if isinstance(config.get(key), Mapping):
            return dict(config[key])
    return config


def _before_2_6(torch: Version | None) -> bool:
    # NVIDIA's 2.6.0a0 is before 2.6: transformers compares the whole version, too.
    return torch is not None and torch < Version("2.6")


def _within(package: str, least: str, below: str) -> Callable[[Situation], bool]:
    def check(situation: Situation) -> bool:
        found = situation.version_of(package)
        # A build such as 5.0.0rc1 counts as its release: it holds that release's changes.
        return found is not None and Version(least) <= Version(found.base_version) < Version(below)

    return check


def _llama_text_tower(situation: Situation) -> bool:
    named = situation.config.get("model_type") in ("idefics3", "mllama", "llava", "llava_next")
    return named or situation.text.get("model_type") == "llama"


def _grouped_queries(situation: Situation) -> bool:
    heads, shared = (situation.text.get(name) for name in ("num_attention_heads", "num_key_value_heads"))
    return bool(heads and shared and shared < heads)


def _only_bin(situation: Situation) -> bool:
    weights = [name for name in situation.repo_files if name.startswith(("pytorch_model", "model"))]
    return any(name.endswith(".bin") for name in weights) and not any(
        name.endswith(".safetensors") for name in weights
    )


def _trains_with_trl(situation: Situation) -> bool:
    return situation.training_method in ("dpo", "grpo") or situation.task == "text-generation"


PREDICATES: dict[str, Callable[[Situation], bool]] = {
    "always": lambda situation: True,
    "base_has_numpy_1": lambda situation: str((situation.hardware or {}).get("numpy", "")).startswith("1"),
    "depth": lambda situation: situation.task == "depth-estimation",
    "grouped_query_attention": _grouped_queries,
    "image_24_09": lambda situation: situation.release == (24, 9),
    "image_25_03_or_later": lambda situation: (situation.release or (0, 0)) >= (25, 3),
    "images_and_text": lambda situation: situation.task == "image-text-to-text",
    "llama_text_tower": _llama_text_tower,
    "ngc_base": lambda situation: situation.release is not None,
    "only_bin_weights": _only_bin,
    "splitting_processor": lambda situation: bool(situation.processor.get("do_image_splitting")),
    "tiling_model": lambda situation: (
        situation.config.get("model_type") in ("idefics2", "idefics3", "mllama")
    ),
    "torch_before_2_6": lambda situation: _before_2_6(situation.version_of("torch")),
    "torch_is_cpu_build": lambda situation: "+cpu" in situation.versions.get("torch", ""),
    "trains_with_trl": _trains_with_trl,
    "transformers_4_51_or_later": _within("transformers", "4.51", "1000"),
    "transformers_4_51_to_4": _within("transformers", "4.51", "5"),
    "transformers_5_or_later": _within("transformers", "5", "1000"),
    "transformers_before_5": _within("transformers", "0", "5"),
    "warmup_ratio_set": lambda situation: situation.run.get("warmup_ratio") is not None,
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Detect(_Strict):
    """Names of predicates: all of `all` and, if there are any, one of `any`."""

    all: list[str] = []
    any: list[str] = []

    @model_validator(mode="after")
    def _known(self) -> Detect:
        unknown = sorted({*self.all, *self.any} - set(PREDICATES))
        if unknown or not (self.all or self.any):
            raise ValueError(f"needs names of predicates; unknown: {', '.join(unknown) or 'none, but empty'}")
        return self

    def holds(self, situation: Situation) -> bool:
        """Whether the situation is one that the entry is for."""
        needed = all(PREDICATES[name](situation) for name in self.all)
        return needed and (not self.any or any(PREDICATES[name](situation) for name in self.any))


class Fix(_Strict):
    """What mends it, and where that is put."""

    type: FixType
    content: str | list[str] | dict[str, Any]


class Workaround(_Strict):
    """An entry of the registry."""

    id: str
    title: str
    symptom: str
    root_cause: str
    detect: Detect
    fix: Fix
    references: list[str]
    needs_hardware: bool = False


class _Registry(_Strict):
    workarounds: list[Workaround]


@cache
def workarounds(registry: Path = REGISTRY) -> tuple[Workaround, ...]:
    """The entries of the registry.

    Raises:
        InputError: the file is not what it must be, such as an unknown predicate.
    """
    try:
        return tuple(_Registry.model_validate(read_mapping(registry, "registry of workarounds")).workarounds)
    except ValidationError as error:
        raise InputError(f"registry of workarounds {registry}: {explained(error)}") from error


def walk(situation: Situation, skip: Collection[str] = ()) -> list[dict[str, Any]]:
    """The records of the workarounds that apply, for `applicable_workarounds` of `config.yaml`.

    Without hardware (step 1) the rules that need neither it nor a version are walked, with it (step 2) the
    others; what step 1 found is not looked for again. Each application, and each veto, is logged.

    Args:
        situation: of this run.
        skip: ids that the person does not want (`skip_workarounds`).

    Returns:
        `{id, fix_type, reason, content}` of each.

    Raises:
        InputError: `skip` names an id that the registry does not have.
    """
    entries = workarounds()
    unknown = sorted(set(skip) - {one.id for one in entries})
    if unknown:
        known = ", ".join(sorted({one.id for one in entries}))
        raise InputError(f"skip_workarounds: no workaround {', '.join(unknown)}; there are {known}")
    records = []
    for one in entries:
        if one.needs_hardware != (situation.hardware is not None) or not one.detect.holds(situation):
            continue
        if one.id in skip:
            logger.warning("workaround %s applies and is left out, as skip_workarounds says", one.id)
            continue
        logger.info("workaround %s (%s): %s", one.id, one.fix.type, one.title)
        one_of = f" and one of {', '.join(one.detect.any)}" if one.detect.any else ""
        because = (" and ".join(one.detect.all) + one_of).removeprefix(" and ")
        records.append(
            {
                "id": one.id,
                "fix_type": one.fix.type,
                "reason": f"{one.root_cause} ({because})",
                "content": one.fix.content,
            }
        )
    return records


def of_type(records: Iterable[Mapping[str, Any]], fix_type: FixType) -> list[Mapping[str, Any]]:
    """The records of one type, in their order."""
    return [record for record in records if record["fix_type"] == fix_type]


def overridden(run: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The values of `config.yaml` with the overrides; `{from: key}` stands for the value of another key."""
    values = dict(run)
    for record in of_type(records, "config_override"):
        for key, value in record["content"].items():
            if isinstance(value, Mapping):
                values[key] = values.pop(value["from"], values.get(key))
            else:
                values[key] = value
    return values


def runtime_environment(records: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The variables that each command of the project is to have."""
    chosen = of_type(records, "runtime_env")
    return {key: str(value) for one in chosen for key, value in one["content"].items()}


def versions_here() -> dict[str, str]:
    """Versions of the packages that rules look at, as installed beside this code."""
    found = {}
    for name in WATCHED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def versions_when_built(torch: str | None) -> dict[str, str]:
    """Versions in an image that is still to be built on one with this torch; none, where that is not known.

    The core stack is not pinned, so pip takes the newest transformers: of 5, or, where its rule says that
    the torch is too old for that, the last of 4.
    """
    return {"transformers": "4.57" if _before_2_6(_version(torch)) else "5.0"}
