"""Step 1: whether a model can be fine-tuned here, for which task, and what is known of it."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.huggingface.compat import text_part
from tasks.huggingface.hub import ModelPage, ModelRejected, refusal
from tasks.huggingface.kinds import TASKS, denied, detect_task

LABELS_SHOWN = 10


@dataclass(frozen=True)
class Qualification:
    """A model that was accepted.

    Attributes:
        task: a key of `kinds.TASKS`; none where a person has to choose among `choices`.
        signal: what decided the task.
        choices: tasks to choose from, such as instance or panoptic; empty where `task` is sure.
        config: the model's config with the defaults of transformers, as plain values.
        facts: as `model_facts` gives them, for `meta/model.json`.
        notes: fallbacks that were taken here, for `config.yaml`; the page has its own.
    """

    task: str | None
    signal: str
    auto_model_class: str
    choices: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict, repr=False)
    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def qualify(model: ModelPage, *, task_type: str | None = None, training_method: str = "sft") -> Qualification:
    """Accept a model for a task.

    Args:
        model: what `hub.look_up` found.
        task_type: the person's word, which beats what the config says.
        training_method: `sft`, `dpo` or `grpo`.

    Raises:
        ModelRejected: deny list, config not loadable, no task, a task that the type has no class for,
            or a training method that the task does not have.
    """
    why = denied(model.config)
    model_type = str(model.config.get("model_type", ""))
    if why:
        raise ModelRejected(f"{model.model_id}: {model_type} is {why}; this flow trains vision, VLM and LLM")
    if task_type is not None and task_type not in TASKS:
        raise ModelRejected(f"task_type {task_type}: not one of {', '.join(TASKS)}")
    config, notes = loaded_config(model)
    found = detect_task(
        model.config,
        explicit=task_type,
        tags=model.tags,
        pipeline_tag=model.pipeline_tag,
        card=model.card,
        model_id=model.model_id,
    )
    task = found.task or next(iter(found.choices), None)
    if task is None:
        raise ModelRejected(
            f"{model.model_id}: no task by its architectures {model.config.get('architectures')}, model type "
            f"{model_type or 'none'}, tags or card; it is none of {', '.join(TASKS)}, or name its task_type"
        )
    kind = TASKS[task]
    if training_method != "sft" and kind.family == "cv":
        raise ModelRejected(
            f"training_method {training_method} is for language models; {task} is trained by sft"
        )
    notes += _class_notes(model.model_id, model_type, task)
    facts, more = model_facts(model, task, config)
    return Qualification(
        task=found.task,
        signal=found.signal,
        auto_model_class=kind.auto_class,
        choices=found.choices,
        config=model.config if config is None else {**model.config, **config.to_dict()},
        facts=facts,
        notes=(*notes, *more),
    )


def loaded_config(model: ModelPage) -> tuple[Any, tuple[str, ...]]:
    """The config as an object of transformers, with its defaults; none, and a note, where that is not here.

    Raises:
        ModelRejected: transformers does not know the model type, or does not take the config.
    """
    if importlib.util.find_spec("transformers") is None:
        return None, ("transformers is not installed here: the config was read as plain JSON",)
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    model_type = str(model.config.get("model_type"))
    try:
        config = CONFIG_MAPPING[model_type].from_dict(copy.deepcopy(model.config))
    except KeyError as error:
        remote = " and its own code is not run here" if "auto_map" in model.config else ""
        raise ModelRejected(
            f"{model.model_id}: transformers {transformers.__version__} does not know model type "
            f"{model_type}{remote}; choose another model"
        ) from error
    except Exception as error:
        raise refusal(model.model_id, error) from error
    return config, ()


def _class_notes(model_id: str, model_type: str, task: str) -> tuple[str, ...]:
    """Nothing, where transformers has a class of this task for the type; a note, where it cannot be asked."""
    if importlib.util.find_spec("transformers") is None:
        return ()
    if importlib.util.find_spec("torch") is None:  # without it transformers hides its tables
        return (f"whether {model_type} fits {task} is open: torch is not installed here",)
    from transformers.models.auto import modeling_auto

    kind = TASKS[task]
    known = getattr(modeling_auto, kind.mapping, None)
    if known is None:
        return (f"this transformers has no table {kind.mapping}: whether {model_type} fits {task} is open",)
    if model_type not in known:
        others = [
            name for name, one in TASKS.items() if model_type in getattr(modeling_auto, one.mapping, ())
        ]
        raise ModelRejected(
            f"{model_id}: {kind.auto_class} does not take model type {model_type}, so it cannot be trained "
            f"for {task}; it can for {', '.join(others) or 'no task of this flow'}"
        )
    return ()


def model_facts(model: ModelPage, task: str, config: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What `meta/model.json` records, and notes on what could not be found.

    Attributes of the text tower are read through `get_text_config()`: at the top level of some VLMs
    `num_key_value_heads` is none.
    """
    text = config.get_text_config() if config is not None else text_part(model.config)

    def of_text(*names: str) -> Any:
        return next((value for name in names if (value := _attribute(text, name)) is not None), None)

    whole = model.config if config is None else config
    labels = _attribute(whole, "id2label") or {}
    parameters, source, notes = count_parameters(model, task, config)
    facts = {
        "model_id": model.model_id,
        "task": task,
        "model_type": model.config.get("model_type"),
        "architectures": model.config.get("architectures") or [],
        "hidden_size": of_text("hidden_size", "d_model", "hidden_sizes"),
        "layers": of_text("num_hidden_layers", "encoder_layers", "depths"),
        "attention_heads": of_text("num_attention_heads", "encoder_attention_heads"),
        "key_value_heads": of_text("num_key_value_heads"),
        "text_model_type": _attribute(text, "model_type"),
        "image_size": _vision(whole, "image_size"),
        "patch_size": _vision(whole, "patch_size"),
        "num_labels": len(labels) or None,
        "id2label": {str(key): labels[key] for key in list(labels)[:LABELS_SHOWN]},
        "processor_class": _processor_class(model.processor),
        "parameters": parameters,
        "parameters_from": source,
        "gated": model.gated,
        "url": model.url,
        "fetched_at": model.fetched_at,
    }
    return facts, notes


def count_parameters(
    model: ModelPage, task: str, config: Any
) -> tuple[int | None, str | None, tuple[str, ...]]:
    """Number of parameters, where it is from, and notes; no weight is loaded.

    The model is built on torch's `meta` device, which holds shapes alone; else the hub's own count.
    """
    why = "torch is not installed here"
    if config is not None and importlib.util.find_spec("torch") is not None:
        try:
            return _on_meta(config, TASKS[task].auto_class), "shapes on the meta device", ()
        except Exception as error:  # noqa: BLE001 - a model's own code; the count is a fact, no condition
            why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    if model.parameters:
        return model.parameters, "the hub's count of the safetensors files", ()
    return None, None, (f"parameters are unknown: {why}, and the hub has no count",)


def _on_meta(config: Any, auto_class: str) -> int:
    import torch
    import transformers

    bare = copy.deepcopy(config)
    if getattr(bare, "use_pretrained_backbone", False):
        bare.use_pretrained_backbone = False  # it would fetch the backbone's weights
    with torch.device("meta"):
        built = getattr(transformers, auto_class).from_config(bare)
    return sum(weights.numel() for weights in built.parameters())


def _attribute(config: Any, name: str) -> Any:
    return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)


def _vision(config: Any, name: str) -> Any:
    own = _attribute(config, name)
    tower = _attribute(config, "vision_config")
    return own if own is not None or tower is None else _attribute(tower, name)


def _processor_class(processor: Mapping[str, Any]) -> str | None:
    names = ("processor_class", "image_processor_type", "feature_extractor_type", "tokenizer_class")
    return next((str(processor[name]) for name in names if processor.get(name)), None)
