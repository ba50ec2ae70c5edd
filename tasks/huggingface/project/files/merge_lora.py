"""Puts a LoRA adapter into its base model: the result loads like any other model, without peft."""

import argparse
import logging
from pathlib import Path
from typing import Any

import common

logger = logging.getLogger("project")


def merge(base_model: str, adapter: Path, output: Path) -> None:
    """Write base model + adapter as one model, with processor, to `output`.

    The sum is made in float32; the weights are written in the type that the base model has on disk.

    Raises:
        FileNotFoundError: `adapter` holds no adapter.

    """
    import torch
    import transformers
    from peft import PeftModel

    if not (adapter / "adapter_config.json").is_file():
        raise FileNotFoundError(
            f"{adapter} holds no adapter_config.json: name the folder that a LoRA training wrote"
        )
    settings = transformers.AutoConfig.from_pretrained(base_model)
    options = common.dtype_argument(torch.float32)
    base = auto_class(settings).from_pretrained(base_model, **options)
    merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload(safe_merge=True)
    stored = getattr(settings, next(iter(options)), None) or torch.float32
    output.mkdir(parents=True, exist_ok=True)
    merged.to(stored).save_pretrained(output)
    processor_of(settings, adapter, base_model).save_pretrained(output)
    common.make_readable(output)
    logger.info("merged %s into %s: %s, %s", adapter, base_model, output, stored)


def auto_class(settings: Any) -> Any:
    """The class that loads a model of this configuration: one with a vision tower reads images too."""
    import transformers

    if getattr(settings, "vision_config", None) is not None:
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModelForCausalLM


def processor_of(settings: Any, adapter: Path, base_model: str) -> Any:
    """The processor that was saved with the adapter; without one, the base model's."""
    import transformers

    text_only = auto_class(settings) is transformers.AutoModelForCausalLM
    reader: Any = transformers.AutoTokenizer if text_only else transformers.AutoProcessor
    saved = (adapter / "tokenizer_config.json").is_file()
    return reader.from_pretrained(str(adapter) if saved else base_model)


def main() -> None:
    """Command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--base_model", required=True, help="model id or folder that the adapter was trained on"
    )
    parser.add_argument(
        "--adapter", required=True, type=Path, help="folder of the adapter (checkpoints/final)"
    )
    parser.add_argument("--output", required=True, type=Path, help="folder to write (checkpoints/merged)")
    options = parser.parse_args()
    merge(options.base_model, options.adapter, options.output)


if __name__ == "__main__":
    main()
