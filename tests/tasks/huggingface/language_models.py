"""Tiny language models that the tests make and save, with a tokenizer that is trained here."""

import string
import sys
from pathlib import Path
from typing import Any

FILES = Path(__file__).parents[3] / "tasks" / "huggingface" / "project" / "files"

CHAT_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|end|>\n{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
COLOURS = ("red", "green", "blue")
IMAGE_TOKENS = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
TILE_TOKENS = tuple(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5))


def project_module(name: str) -> Any:
    """A file of the project, under the name by which its neighbours import it."""
    import importlib

    if str(FILES) not in sys.path:
        sys.path.append(str(FILES))
    return importlib.import_module(name)


def configuration(folder: Path, model: Path, **changes: object) -> dict[str, Any]:
    """What config.yaml holds for a short LoRA training in this folder."""
    settings = {
        "model_id": str(model), "model_short_name": "tiny", "task": "text-generation",
        "training_method": "sft",
        "local_data_dir": str(folder / "data"), "output_dir": str(folder / "checkpoints"), "n_train": 12,
        "use_lora": True, "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "lora_target_modules": None,
        "max_length": 128,
        "per_device_train_batch_size": 4, "per_device_eval_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-2, "warmup_steps": 0, "max_steps": 3, "seed": 0, "bf16": False,
        "report_to": "none",
        "gradient_checkpointing": False, "remove_unused_columns": False, "disable_tqdm": True,
        "logging_strategy": "steps", "logging_steps": 1, "eval_strategy": "no", "save_strategy": "no",
        "max_new_tokens": 6,
    }  # fmt: skip
    return settings | changes


def tokenizer(chat_template: str | None = CHAT_TEMPLATE):
    """Byte-level BPE of 360 tokens, without a padding token of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<|start|>", "<|end|>", *IMAGE_TOKENS, *TILE_TOKENS]
    text = [
        "user assistant system",
        "What colour is the image ?",
        *COLOURS,
        "one two three",
        string.printable,
    ]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        text * 4,
        trainers.BpeTrainer(
            vocab_size=360, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>")  # noqa: S106
    made.chat_template = chat_template
    return made


def text_settings(vocabulary: int) -> dict[str, object]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }


def llama(folder: Path, chat_template: str | None = CHAT_TEMPLATE) -> Path:
    """A Llama with grouped queries (4 heads, 2 for keys and values)."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tokenizer(chat_template)
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**text_settings(len(words)))).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def idefics3(folder: Path) -> Path:
    """An Idefics3: pictures are cut into tiles of 32 pixels, so their number differs from row to row."""
    import torch
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
    )

    words = tokenizer()
    torch.manual_seed(0)
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
    }
    text = {"model_type": "llama", **text_settings(len(words))}
    settings = Idefics3Config(
        vision_config=vision,
        text_config=text,
        scale_factor=2,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        pad_token_id=1,
    )
    Idefics3ForConditionalGeneration(settings).save_pretrained(folder)
    images = Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    made = Idefics3Processor(images, words, image_seq_len=4, chat_template=CHAT_TEMPLATE)
    made.save_pretrained(folder)
    return folder


def llava(folder: Path) -> Path:
    """A LLaVA over a CLIP tower: 16 image tokens to every picture."""
    import torch
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    words = tokenizer()
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        projection_dim=32,
    )
    settings = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**text_settings(len(words))),
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    LlavaForConditionalGeneration(settings).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    made = LlavaProcessor(
        images,
        words,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    made.save_pretrained(folder)
    return folder


def colour_rows(count: int, **columns: object) -> dict[str, list]:
    """Pictures of one colour, in three sizes and a shade of their own each, with question and answer."""
    from PIL import Image

    sizes = ((48, 32), (32, 64), (40, 40))
    names = [COLOURS[index % 3] for index in range(count)]

    def shade(index: int) -> tuple[int, ...]:
        return tuple(200 + index % 50 if band == index % 3 else (7 * index) % 60 for band in range(3))

    rows = {
        "image": [Image.new("RGB", sizes[(index // 3) % 3], shade(index)) for index in range(count)],
        "question": ["What colour is the image ?"] * count,
        "answer": names,
    }
    return rows | columns


def save_splits(folder: Path, train: dict[str, list], evaluation: dict[str, list]) -> Path:
    """Write data/train and data/eval as prepare_data.py does; pictures as an Image column."""
    from datasets import Dataset, Image

    for name, columns in (("train", train), ("eval", evaluation)):
        rows = Dataset.from_dict(columns)
        if "image" in columns:
            rows = rows.cast_column("image", Image())
        rows.save_to_disk(folder / name)
    return folder
