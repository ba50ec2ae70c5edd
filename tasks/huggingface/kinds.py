"""The tasks that the flow trains, and which of them a model's config asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


Family = Literal["cv", "vlm", "llm"]


@dataclass(frozen=True)
class Kind:
    """A task: its classes in transformers, its metric, and how a config betrays it.

    Attributes:
        family: decides the requirements and which training methods there are.
        suffixes: of the names in `architectures`.
        model_types: that exist, or mostly exist, for this task alone.
        pipeline_tags: of the hub.
        mapping: name of transformers' table of the model types that `auto_class` takes.
    """

    family: Family
    auto_class: str
    processor_class: str
    collator: str
    primary_metric: str
    higher_is_better: bool
    suffixes: tuple[str, ...]
    model_types: tuple[str, ...]
    pipeline_tags: tuple[str, ...]
    mapping: str


_UNIVERSAL = Kind(
    "cv",
    "AutoModelForUniversalSegmentation",  # AutoModelForInstanceSegmentation refuses a Mask2Former config
    "AutoImageProcessor",
    "stacked pixels; mask_labels and class_labels as lists",
    "map",
    True,
    ("ForUniversalSegmentation", "ForInstanceSegmentation"),
    ("mask2former", "maskformer"),
    (),
    "MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES",
)

TASKS: dict[str, Kind] = {
    "image-classification": Kind(
        "cv",
        "AutoModelForImageClassification",
        "AutoImageProcessor",
        "DefaultDataCollator",
        "accuracy",
        True,
        ("ForImageClassification",),
        _words("vit swin convnext convnextv2 deit efficientnet mobilenet_v1 mobilenet_v2 resnet dinov2"),
        ("image-classification",),
        "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    ),
    "object-detection": Kind(
        "cv",
        "AutoModelForObjectDetection",
        "AutoImageProcessor",
        "padded to the largest height and width of the batch, with pixel_mask; labels stay a list",
        "map",
        True,
        ("ForObjectDetection",),
        _words("detr conditional_detr deformable_detr yolos rt_detr rt_detr_v2 d_fine dfine"),
        ("object-detection",),
        "MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES",
    ),
    "semantic-segmentation": Kind(
        "cv",
        "AutoModelForSemanticSegmentation",
        "AutoImageProcessor",
        "stacked pixels and labels",
        "mean_iou",
        True,
        ("ForSemanticSegmentation",),
        ("segformer", "upernet"),
        ("image-segmentation",),
        "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES",
    ),
    "instance-segmentation": _UNIVERSAL,
    "panoptic-segmentation": _UNIVERSAL,
    "depth-estimation": Kind(
        "cv",
        "AutoModelForDepthEstimation",
        "AutoImageProcessor",
        "stacked pixels and depth maps",
        "abs_rel",
        False,
        ("ForDepthEstimation",),
        ("glpn", "depth_anything", "zoedepth"),
        ("depth-estimation",),
        "MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES",
    ),
    "image-text-to-text": Kind(
        "vlm",
        "AutoModelForImageTextToText",
        "AutoProcessor",
        "one processor call per batch, labels masked outside of the answer",
        "exact_match",
        True,
        ("ForConditionalGeneration",),
        _words(
            "llava llava_next paligemma gemma3 idefics2 idefics3 smolvlm qwen2_vl qwen2_5_vl mllama internvl"
        ),
        ("image-text-to-text", "visual-question-answering"),
        "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    ),
    "text-generation": Kind(
        "llm",
        "AutoModelForCausalLM",
        "AutoTokenizer",
        "padded to the longest text of the batch, labels padded with -100",
        "eval_loss",
        False,
        ("ForCausalLM",),
        _words("llama mistral mixtral qwen2 qwen3 gemma gemma2 phi phi3"),
        ("text-generation",),
        "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    ),
}

UNIVERSAL_VARIANTS = ("instance-segmentation", "panoptic-segmentation")

DENIED: dict[str, tuple[str, ...]] = {
    "an audio model": ("wav2vec2", "hubert", "whisper", "encodec", "seamless_m4t", "bark", "musicgen"),
    "a text encoder": ("bert", "roberta", "xlm-roberta", "albert", "electra", "deberta"),
    "a language model of an old kind": ("gpt2", "gpt_neo", "gpt_neox", "bloom", "opt"),
    "a sequence-to-sequence model": ("t5", "mt5", "bart", "mbart", "pegasus"),
    "a document model": ("layoutlm", "layoutlmv2", "layoutlmv3"),
    "a model that takes its task as text beside each picture": ("oneformer",),
    "a contrastive model without a classification head": ("clip",),
}
_BY_PREFIX = ("wav2vec2", "deberta", "seamless_m4t", "musicgen")


def denied(config: Mapping[str, Any]) -> str | None:
    """Why the model type is on the deny list, such as `a text encoder`; none where it is not."""
    model_type = str(config.get("model_type", ""))
    if model_type == "clip" and any("ForImageClassification" in name for name in _architectures(config)):
        return None
    for why, names in DENIED.items():
        if model_type in names or any(
            model_type.startswith(prefix) for prefix in _BY_PREFIX if prefix in names
        ):
            return why
    return None


@dataclass(frozen=True)
class Detection:
    """The task that was found.

    Attributes:
        task: a key of `TASKS`; none where nothing decides it.
        signal: what decided: `task_type`, `architectures`, `model_type`, `pipeline_tag` or `card`.
        choices: tasks among which a person has to choose; empty where `task` is sure.
    """

    task: str | None
    signal: str
    choices: tuple[str, ...] = field(default=())


def detect_task(
    config: Mapping[str, Any],
    *,
    explicit: str | None = None,
    tags: Sequence[str] = (),
    pipeline_tag: str | None = None,
    card: str = "",
    model_id: str = "",
) -> Detection:
    """The task by the first signal that speaks: the person, architectures, model type, hub tags, card.

    The suffix of an architecture beats the model type, because one type exists with several heads.
    """
    if explicit is not None:
        return Detection(explicit, "task_type")
    found = (
        (_by_architecture(config), "architectures"),
        (_by_model_type(config), "model_type"),
        (_by_tags(tags, pipeline_tag), "pipeline_tag"),
        (_by_card(card), "card"),
    )
    for task, signal in found:
        if task in UNIVERSAL_VARIANTS:
            return _variant(signal, f"{model_id} {' '.join(tags)}")
        if task is not None:
            return Detection(task, signal)
    return Detection(None, "none")


def has_vision(config: Mapping[str, Any]) -> bool:
    """Whether a config holds a vision tower."""
    return any(config.get(key) for key in ("vision_config", "visual", "vision_tower"))


def _architectures(config: Mapping[str, Any]) -> list[str]:
    return [str(name) for name in config.get("architectures") or ()]


def _by_architecture(config: Mapping[str, Any]) -> str | None:
    return next(filter(None, (_by_class(name, has_vision(config)) for name in _architectures(config))), None)


def _by_class(name: str, vision: bool) -> str | None:
    """The task of a class name; a generator of text is one of images and text where it has a vision tower."""
    for task, kind in TASKS.items():
        if name.endswith(kind.suffixes):
            if kind.family == "llm" and vision:
                return "image-text-to-text"
            return task if kind.family != "vlm" or vision else None
    return None


def _by_model_type(config: Mapping[str, Any]) -> str | None:
    """The task that a type mostly has; a language model with a head of another kind was not made for it."""
    model_type = config.get("model_type")
    task = next((task for task, kind in TASKS.items() if model_type in kind.model_types), None)
    return None if task and TASKS[task].family != "cv" and _architectures(config) else task


def _by_tags(tags: Sequence[str], pipeline_tag: str | None) -> str | None:
    said = [tag for tag in (pipeline_tag, *tags) if tag]
    named = next((tag for tag in said if tag in TASKS), None)
    by_pipeline = (task for tag in said for task, kind in TASKS.items() if tag in kind.pipeline_tags)
    return named or next(by_pipeline, None)


def _by_card(card: str) -> str | None:
    """By the class that the card's import block names: `AutoModelFor...` or a class with a known suffix."""
    for name in re.findall(r"\b[A-Z]\w*For[A-Z]\w+", card):
        for task, kind in TASKS.items():
            if name == kind.auto_class or (kind.family != "vlm" and name.endswith(kind.suffixes)):
                return task
    return None


def _variant(signal: str, words: str) -> Detection:
    """Instance or panoptic, where the model's name or tags say exactly one of them.

    One that says semantic is not asked about: this flow has no semantic training for these models.
    """
    variants = (*UNIVERSAL_VARIANTS, "semantic-segmentation")
    named = [task for task in variants if task.split("-")[0] in words.lower()]
    if len(named) == 1:
        return Detection(named[0], signal)
    return Detection(None, signal, UNIVERSAL_VARIANTS)
