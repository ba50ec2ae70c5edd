"""Language models with and without a LoRA adapter: how they are loaded, wrapped and measured."""

import logging
import re
from pathlib import Path
from typing import Any

import torch

import common

logger = logging.getLogger("project")

PROJECTIONS = r"\.(q|k|v|o|gate|up|down)_proj"
# The tower that writes is called text_model in Idefics3 and SmolVLM, language_model elsewhere. The vision
# tower has projections of the same names, and stays frozen.
TEXT_TOWER = r".*(language_model|text_model).*" + PROJECTIONS
ANY_TOWER = r".*" + PROJECTIONS
LARGE_SHARE = 0.05


def load_language_model(auto_class: Any, config: dict[str, Any], source: str, *, for_training: bool) -> Any:
    """The model of `source`: a model id, a folder with a whole model, or a folder with an adapter.

    Under an adapter lies the model of `config["model_id"]`. For a training with `use_lora` a whole model is
    wrapped, and a checkpoint's adapter goes on learning. Weights are float32, except for the frozen base of a
    bf16 training.

    Raises:
        ValueError: No module of the model has a name that the LoRA targets match.

    """
    lora = bool(config.get("use_lora")) and for_training
    half = lora and bool(config.get("bf16"))
    options: dict[str, Any] = dict(common.dtype_argument(torch.bfloat16 if half else torch.float32))
    if config.get("attn_implementation"):
        options["attn_implementation"] = config["attn_implementation"]
    adapter = is_adapter(source)
    model = auto_class.from_pretrained(config["model_id"] if adapter else source, **options)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, source, is_trainable=for_training)
    elif lora:
        model = with_adapter(model, config)
    if for_training and config.get("gradient_checkpointing") and (adapter or lora):
        # Outputs of a frozen embedding have no gradient: checkpointed blocks would learn nothing.
        model.enable_input_require_grads()
    return model


def load_text_model(config: dict[str, Any], source: str, *, for_training: bool) -> Any:
    """The model that reads and writes text, with an adapter where `use_lora` says so."""
    from transformers import AutoModelForCausalLM

    return load_language_model(AutoModelForCausalLM, config, source, for_training=for_training)


def is_adapter(source: str) -> bool:
    """Whether the folder holds a LoRA adapter, not a whole model."""
    return (Path(source) / "adapter_config.json").is_file()


def target_modules(model: Any, config: dict[str, Any]) -> str | list[str]:
    """What LoRA adapts: `lora_target_modules` of the configuration, or the projections of the text tower.

    Raises:
        ValueError: Nothing in the model matches; names the layers that it has.

    """
    chosen: str | list[str] | None = config.get("lora_target_modules")
    if not chosen:
        chosen = TEXT_TOWER if getattr(model.config, "vision_config", None) is not None else ANY_TOWER
    names = [name for name, _ in model.named_modules()]
    if isinstance(chosen, str):
        found = any(re.fullmatch(chosen, name) for name in names)
    else:
        found = any(name == target or name.endswith(f".{target}") for name in names for target in chosen)
    if not found:
        layers = {
            name.split(".")[-1]
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear)
        }
        raise ValueError(
            f"lora_target_modules {chosen!r} matches no module of {type(model).__name__}: set it in "
            f"config.yaml to some of its linear layers ({', '.join(sorted(layers))})"
        )
    return chosen


def with_adapter(model: Any, config: dict[str, Any]) -> Any:
    """The model with a fresh adapter: everything else is frozen."""
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=int(config["lora_r"]),
        lora_alpha=int(config["lora_alpha"]),
        lora_dropout=float(config["lora_dropout"]),
        bias="none",
        task_type="CAUSAL_LM",
        target_modules=target_modules(model, config),
    )
    wrapped = get_peft_model(model, settings)
    learning, everything = wrapped.get_nb_trainable_parameters()
    share = learning / everything
    logger.info("LoRA: %d of %d parameters learn (%.2f %%)", learning, everything, 100 * share)
    if share > LARGE_SHARE:
        logger.warning(
            "LoRA: %.1f %% of the parameters learn: check lora_target_modules and lora_r", 100 * share
        )
    return wrapped


def base_and_adapter(model: Any) -> tuple[Any, Any]:
    """The model without its adapter, and the adapter's settings (None without one), for a trainer of trl.

    trl takes the base as its reference only if it wraps the model itself; of a model that comes wrapped it
    keeps a second adapter, in every checkpoint too. A resumed training reads the adapter's weights from its
    checkpoint.
    """
    if not hasattr(model, "peft_config"):
        return model, None
    settings = model.peft_config["default"]
    settings.inference_mode = False
    return model.unload(), settings
