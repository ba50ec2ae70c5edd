"""Step 3: the recipe of a training, slot by slot, each with the page that says so or a logged fallback."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tasks.artifacts import now
from tasks.huggingface.extraction import Said, paper_links, read_prose, read_source, script_links
from tasks.huggingface.hub import ModelPage
from tasks.huggingface.kinds import TASKS
from tasks.huggingface.pages import Pages, PageUnavailable
from tasks.huggingface.research_page import short
from tasks.huggingface.searching import training_scripts
from tasks.spec import read_mapping

logger = logging.getLogger("deft")

SCAFFOLD = Path(__file__).with_name("scaffold.yaml")
SLOTS = (
    "model_class",
    "processor_class",
    "train_transforms",
    "eval_transforms",
    "collator",
    "compute_metrics",
    "hyperparameters",
    "load_kwargs",
)
NEEDED = ("lr", "batch", "epochs", "scheduler", "weight_decay")
CONFIG_KEYS = {
    "lr": "learning_rate",
    "batch": "per_device_train_batch_size",
    "epochs": "num_train_epochs",
    "scheduler": "lr_scheduler_type",
    "weight_decay": "weight_decay",
}
LIMITS = {"lr": (1e-9, 0.1), "batch": (1, 4096), "epochs": (1, 1000), "weight_decay": (0.0, 1.0)}
"""Outside of them a number is no such hyperparameter, such as an argument's name or a number of steps."""
LORA_LIMITS = {"r": (1, 1024), "lora_alpha": (1, 4096), "lora_dropout": (0.0, 0.9)}
SCHEDULERS = (
    "linear",
    "cosine",
    "constant",
    "constant_with_warmup",
    "polynomial",
    "inverse_sqrt",
    "cosine_with_restarts",
)
"""Those that need no arguments of their own."""
ATTENTION = ("eager", "sdpa")
"""Those that need no package of their own."""
LARGEST_BATCH = 256
"""A larger batch is that of many GPUs together; it is recorded, and not put into `config.yaml`."""

Kind = Literal["card", "example", "author", "docs", "paper", "search"]
API_ORDER: tuple[Kind, ...] = ("card", "example", "author", "docs", "paper", "search")
METHOD_ORDER: tuple[Kind, ...] = ("card", "author", "example", "docs", "paper", "search")
"""On conflict: for calls of the library its own example counts more, for the method the author's script."""
METHOD_SLOTS = ("train_transforms", "eval_transforms", "collator", "compute_metrics", "hyperparameters")


@dataclass(frozen=True)
class Source:
    """A page that answered, and what it says."""

    kind: Kind
    url: str
    said: Said


def research(model: ModelPage, task: str, pages: Pages, training_method: str = "sft") -> dict[str, Any]:
    """The recipe: `slots`, `lora`, `research_sources`, `reference`, `notes` and what was `tried`.

    A slot is `{value, source_url, note}` or `{value, fallback: true, note}`; hyperparameters have such a
    record of each in `parts`. Nothing that a page says is run. Slots that are code are for a person to read:
    the project has transforms, collator and metrics of its own, as their notes say.

    Args:
        model: what step 1 found, whose card is the first source.
        task: a key of `kinds.TASKS`.
        pages: fetches from the network, a mirror or files, or says why not.
        training_method: `sft`, `dpo` or `grpo`.
    """
    scaffold = _scaffold(task if training_method == "sft" else training_method)
    sources, notes = _sources(model, scaffold, pages)
    fallback = _fallback_values(task, scaffold)
    slots = {
        name: _slot(name, sources, fallback[name], task, notes) for name in SLOTS if name != "hyperparameters"
    }
    if _missing_hyperparameters(sources):
        sources += _papers(model, pages)
    if _missing_hyperparameters(sources):
        sources += _searched(model, pages)
    slots["hyperparameters"] = _hyperparameters(sources, fallback["hyperparameters"], notes)
    _compare(slots, task, notes)
    for note in notes:
        logger.info("recipe: %s", note)
    return {
        "model_id": model.model_id,
        "task": task,
        "training_method": training_method,
        "researched_at": now(),
        "slots": {name: slots[name] for name in SLOTS},
        "lora": next(
            (
                {"value": one.said.lora, "source_url": one.url, "kind": one.kind}
                for one in _ordered(sources, "hyperparameters")
                if one.said.lora
            ),
            None,
        ),
        "research_sources": list(dict.fromkeys(one.url for one in sources)),
        "reference": _reference(sources, pages),
        "notes": notes,
        "tried": [
            {"url": model.url, "time": model.fetched_at, "outcome": "ok" if model.card else "no model card"},
            *pages.attempts,
        ],
    }


def config_values(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What a source named, by the keys of `config.yaml`: hyperparameters, attention, LoRA.

    They come after what the person said and before the defaults. Not among them: what fell back, what a
    search alone says, and LoRA that neither the card nor its author's script speaks of.
    """
    slots = recipe["slots"]
    found = {
        CONFIG_KEYS[name]: part["value"]
        for name, part in slots["hyperparameters"]["parts"].items()
        if not part.get("fallback")
        and part["kind"] != "search"
        and (name != "batch" or part["value"] <= LARGEST_BATCH)
    }
    loading = slots["load_kwargs"]
    if not loading.get("fallback") and loading["value"].get("attn_implementation") in ATTENTION:
        found["attn_implementation"] = loading["value"]["attn_implementation"]
    lora = recipe["lora"]
    return found | (_lora_values(lora["value"]) if lora and lora["kind"] in ("card", "author") else {})


def _lora_values(said: Mapping[str, Any]) -> dict[str, Any]:
    """The literal values of a `LoraConfig`; code, such as a call that finds the modules, is none."""
    found = {
        f"lora_{name.removeprefix('lora_')}": said[name]
        for name, limits in LORA_LIMITS.items()
        if _within(said.get(name), *limits)
    }
    modules = said.get("target_modules")
    if isinstance(modules, list) and modules and all(isinstance(name, str) for name in modules):
        found["lora_target_modules"] = modules
    return found


@cache
def _scaffold(name: str) -> dict[str, Any]:
    content: dict[str, Any] = read_mapping(SCAFFOLD, "scaffold of recipes")["tasks"][name]
    return content


def _sources(model: ModelPage, scaffold: Mapping[str, Any], pages: Pages) -> tuple[list[Source], list[str]]:
    """Priorities 1 to 4: card, example, author's scripts, documentation."""
    notes: list[str] = []
    sources = [Source("card", model.url, read_source(model.card, "README.md"))] if model.card else []
    if not model.card:
        notes.append(f"no model card at {model.url}")
    addresses: list[tuple[Kind, Sequence[str]]] = [
        ("example", scaffold["example"]),
        ("author", script_links(model.card)),
        ("docs", scaffold["docs"]),
    ]
    for kind, urls in addresses:
        for url in urls:
            try:
                page = pages.get(url)
            except PageUnavailable as error:
                notes.append(f"{url}: {error}")
                continue
            sources.append(Source(kind, url, read_source(page.text, url)))
    return sources, notes


def _papers(model: ModelPage, pages: Pages) -> list[Source]:
    """Priority 5, where hyperparameters are still unclear: the first paper that can be read."""
    for url in paper_links(model.card, model.tags):
        try:
            page = pages.get(url)
        except PageUnavailable:
            continue  # it stands among the attempts
        return [Source("paper", url, Said(hyperparameters=read_prose(page.text)))]
    return []


def _searched(model: ModelPage, pages: Pages) -> list[Source]:
    """Priority 6, the last resort: scripts of strangers."""
    sources = []
    for url in training_scripts(str(model.config.get("model_type") or ""), pages):
        try:
            sources.append(Source("search", url, read_source(pages.get(url).text, url)))
        except PageUnavailable:
            continue  # it stands among the attempts
    return sources


def _ordered(sources: Sequence[Source], slot: str) -> list[Source]:
    order = METHOD_ORDER if slot in METHOD_SLOTS else API_ORDER
    return sorted(sources, key=lambda one: order.index(one.kind))


def _slot(name: str, sources: Sequence[Source], fallback: Any, task: str, notes: list[str]) -> dict[str, Any]:
    found = [
        (one, one.said.slots[name])
        for one in _ordered(sources, name)
        if name in one.said.slots and _fits(name, one.said.slots[name], task)
    ]
    if not found:
        note = f"fallback to scaffold — no live source for {name}"
        notes.append(note)
        return {"value": fallback, "fallback": True, "note": note}
    source, value = found[0]
    note = f"priority: {source.kind}{_differing(found)}"
    if name == "load_kwargs":
        note += "; the project takes attn_implementation alone"
    elif value != fallback:
        note += f"; recorded, the project uses: {fallback}"
    return {"value": value, "source_url": source.url, "note": note}


def _differing(found: Sequence[tuple[Source, Any]]) -> str:
    """What the later sources say otherwise than the first."""
    others = [f"{short(said)} by {one.url}" for one, said in found[1:] if said != found[0][1]]
    return f"; differs: {'; '.join(others)}" if others else ""


def _fits(name: str, value: Any, task: str) -> bool:
    """A class for another task than this one says nothing: a card may show several."""
    kind = TASKS[task]
    return name != "model_class" or value == kind.auto_class or str(value).endswith(kind.suffixes)


def _missing_hyperparameters(sources: Sequence[Source]) -> bool:
    return any(not any(_sound(name, one) for one in sources) for name in ("lr", "batch", "epochs"))


def _sound(name: str, source: Source) -> bool:
    value = source.said.hyperparameters.get(name)
    if name == "scheduler":
        return value in SCHEDULERS
    return _within(value, *LIMITS[name]) and (name != "batch" or isinstance(value, int))


def _within(value: Any, least: float, most: float) -> bool:
    """Whether a value of a page is a number in a range; code, for one, is text."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _hyperparameters(
    sources: Sequence[Source], fallback: Mapping[str, Any], notes: list[str]
) -> dict[str, Any]:
    parts: dict[str, dict[str, Any]] = {}
    for name in NEEDED:
        found = [
            (one, one.said.hyperparameters[name])
            for one in _ordered(sources, "hyperparameters")
            if _sound(name, one)
        ]
        if not found:
            notes.append(f"fallback to scaffold — no live source for hyperparameters.{name}")
            parts[name] = {"value": fallback[name], "fallback": True}
        else:
            source, value = found[0]
            note = f"priority: {source.kind}{_differing(found)}"
            parts[name] = {"value": value, "source_url": source.url, "kind": source.kind, "note": note}
            if source.kind == "search":
                notes.append(f"{name} {value} is what a search found at {source.url}: the default is kept")
    if parts["batch"]["value"] > LARGEST_BATCH:
        notes.append(f"batch {parts['batch']['value']} is that of many GPUs: the default is kept")
    urls = list(dict.fromkeys(part["source_url"] for part in parts.values() if "source_url" in part))
    fallen = [name for name, part in parts.items() if part.get("fallback")]
    note = f"fallback for {', '.join(fallen)}" if fallen else "all from sources"
    record: dict[str, Any] = {"value": {name: part["value"] for name, part in parts.items()}}
    record |= {"source_url": urls[0]} if urls else {"fallback": True}
    return record | {"note": note, "parts": parts}


def _fallback_values(task: str, scaffold: Mapping[str, Any]) -> dict[str, Any]:
    kind = TASKS[task]
    lora = kind.family != "cv"
    return {
        "model_class": kind.auto_class,
        "processor_class": kind.processor_class,
        "collator": kind.collator,
        "load_kwargs": {"dtype": "bfloat16" if lora else "float32"},
        **scaffold["slots"],
    }


def _compare(slots: Mapping[str, Any], task: str, notes: list[str]) -> None:
    """What a person should know of the found values: the project does not take them as they stand."""
    kind = TASKS[task]
    found = slots["model_class"]["value"]
    if found != kind.auto_class:
        notes.append(f"the source loads {found}; the project loads the same by {kind.auto_class}")
    keywords = slots["load_kwargs"]["value"]
    if isinstance(keywords, Mapping) and keywords.get("trust_remote_code"):
        notes.append("the source sets trust_remote_code: code of the repository is not run without approval")


def _reference(sources: Sequence[Source], pages: Pages) -> str:
    """The reference implementation for the preflight: its address, or why there is none."""
    order: tuple[Kind, ...] = ("author", "example", "card", "docs")
    for kind in order:
        found = next((one for one in sources if one.kind == kind and _says_something(one.said)), None)
        if found:
            return found.url
    why = next((one["outcome"] for one in pages.attempts if one["outcome"] != "ok"), "no page has a recipe")
    return f"scaffold fallback: {why}"


def _says_something(said: Said) -> bool:
    return bool(said.slots or said.hyperparameters)
