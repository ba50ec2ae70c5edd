"""What the language tasks share: conversations as text, tokens to learn, batches, generation, scores."""

import inspect
import logging
import math
import os
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

logger = logging.getLogger("project")

IGNORED = -100
Message = dict[str, Any]
Span = tuple[int, int]

# For a model whose authors ship no chat template. It is saved with the model, so that training and use agree.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].capitalize() }}:"
    "{% if message['content'] is string %} {{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %} IMAGE_TOKEN{% else %}"
    " {{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}END_TOKEN{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def prepare_processor(processor: Any) -> Any:
    """The processor or tokenizer with a padding token and a chat template; what it lacks is added and logged.

    Raises:
        ValueError: The tokenizer has no end token, so nothing could ever stop a reply.

    """
    tokenizer = tokenizer_of(processor)
    if tokenizer.eos_token is None:
        raise ValueError("the tokenizer has no eos_token: set one in its tokenizer_config.json")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
        logger.info("the tokenizer has no padding token: %s is used", tokenizer.pad_token)
    if not (getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)):
        image = str(getattr(processor, "image_token", ""))
        template = PLAIN_TEMPLATE.replace("IMAGE_TOKEN", image).replace("END_TOKEN", tokenizer.eos_token)
        processor.chat_template = template
        logger.warning(
            "the model has no chat template: turns are written as 'User: ...' and 'Assistant: ...'"
        )
    return processor


def load_tokenizer(config: dict[str, Any], source: str) -> Any:
    """The tokenizer of a model or a checkpoint, able to pad and to write a conversation."""
    from transformers import AutoTokenizer

    return prepare_processor(AutoTokenizer.from_pretrained(source))


def tokenizer_of(processor: Any) -> Any:
    """The tokenizer of a processor; a tokenizer is its own."""
    return getattr(processor, "tokenizer", processor)


def plain_content(content: Any) -> str:
    """The text of a message: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    return "\n".join(str(part["text"]) for part in content if part.get("text") is not None)


def text_turns(messages: Iterable[Mapping[str, Any]]) -> list[Message]:
    """Messages with plain text as their content: what templates of text models expect."""
    return [{"role": message["role"], "content": plain_content(message["content"])} for message in messages]


def up_to_reply(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages up to the assistant's last one.

    Raises:
        ValueError: The assistant says nothing.

    """
    last = max(
        (index for index, message in enumerate(messages) if message["role"] == "assistant"), default=-1
    )
    if last < 1:
        raise ValueError(
            f"a conversation of {len(messages)} messages without a reply of the assistant: drop the row"
        )
    return list(messages[: last + 1])


def completed_turns(prompt: Any, completion: Any) -> tuple[list[Message], list[Message]]:
    """Prompt and completion as turns: a string becomes what the user said or what the assistant answers."""
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else text_turns(prompt)
    answered = (
        [{"role": "assistant", "content": completion}]
        if isinstance(completion, str)
        else text_turns(completion)
    )
    return asked, answered


def prompt_text(processor: Any, messages: list[Message]) -> str:
    """The conversation as the model is given it, so that its reply comes next."""
    return str(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def rendered(processor: Any, messages: list[Message], first: int = 0) -> tuple[str, list[Span]]:
    """The conversation as the model sees it, and the character span of each of the assistant's replies.

    Replies before message `first` get no span. A reply that the template writes differently once the
    conversation goes on (some drop the reasoning of earlier turns) gets none either.

    Raises:
        ValueError: There is no reply to learn.

    """
    whole = processor.apply_chat_template(messages, tokenize=False)
    spans: list[Span] = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant" or index < first:
            continue
        asked = processor.apply_chat_template(messages[:index], tokenize=False)
        before = prompt_text(processor, messages[:index])
        after = processor.apply_chat_template(messages[: index + 1], tokenize=False)
        # What is put before a new reply only (`<think>`) is no part of the conversation. A reply without any
        # character of it shows where it begins.
        other = "\0" if isinstance(message["content"], str) else [{"type": "text", "text": "\0"}]
        turns = [*messages[:index], {**message, "content": other}]
        probe = processor.apply_chat_template(turns, tokenize=False)
        start = len(os.path.commonprefix([before, probe]))  # noqa: RUF071 - of characters
        if start >= len(asked) and whole.startswith(before[:start]) and whole.startswith(after):
            spans.append((start, len(after)))
    if not spans:
        raise ValueError(f"no reply of the assistant to learn in a conversation of {len(messages)} messages")
    return whole, spans


def special_tokens(processor: Any, text: str) -> bool:
    """Whether the tokenizer has to add its start token: not when the template has written it."""
    start = tokenizer_of(processor).bos_token
    return not (start and text.startswith(start))


def learned(processor: Any, text: str, spans: Sequence[Span]) -> tuple[list[int], list[int]]:
    """Token ids of the text and labels: the id inside a span, -100 elsewhere."""
    coded = tokenizer_of(processor)(
        text,
        add_special_tokens=special_tokens(processor, text),
        return_offsets_mapping=True,
        truncation=False,
    )
    labels = [
        token if any(low <= start < end <= high for low, high in spans) else IGNORED
        for token, (start, end) in zip(coded["input_ids"], coded["offset_mapping"], strict=True)
    ]
    return list(coded["input_ids"]), labels


def padded(tokenizer: Any, coded: Sequence[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
    """Pairs of ids and labels as one right-padded batch, padding ignored in the labels."""
    length = max(len(ids) for ids, _ in coded)
    ids = torch.full((len(coded), length), int(tokenizer.pad_token_id))
    labels = torch.full((len(coded), length), IGNORED)
    mask = torch.zeros((len(coded), length), dtype=torch.long)
    for row, (tokens, targets) in enumerate(coded):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, : len(tokens)] = torch.tensor(targets)
        mask[row, : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def to_model(model: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch on the model's device, pixels in the model's type, without token types if it knows none."""
    forward = (model.get_base_model() if hasattr(model, "get_base_model") else model).forward
    return {
        name: value.to(model.device, model.dtype if torch.is_floating_point(value) else value.dtype)
        for name, value in batch.items()
        if isinstance(value, torch.Tensor)
        and (name != "token_type_ids" or name in inspect.signature(forward).parameters)
    }


def token_scores(model: Any, batch: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each row: log probability of its labelled tokens, how many they are, how many are guessed."""
    inputs = to_model(model, batch)
    labels = inputs.pop("labels")[:, 1:]
    known = labels != IGNORED
    with torch.no_grad():
        logits = model(**inputs).logits[:, :-1][known].float()
    target = labels[known]
    sums = torch.zeros(labels.shape, device=logits.device)
    hits = torch.zeros(labels.shape, dtype=torch.long, device=logits.device)
    sums[known] = logits.log_softmax(-1).gather(-1, target.unsqueeze(-1)).squeeze(-1)
    hits[known] = (logits.argmax(-1) == target).long()
    return sums.sum(1).cpu(), known.sum(1).cpu(), hits.sum(1).cpu()


def language_metrics(model: Any, batches: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Mean loss per labelled token, its exponential, and the share of tokens that were the best guess.

    Raises:
        ValueError: No batch has a labelled token.

    """
    loss, tokens, right = 0.0, 0, 0
    for batch in batches:
        scores, count, hits = token_scores(model, batch)
        loss, tokens, right = loss - float(scores.sum()), tokens + int(count.sum()), right + int(hits.sum())
    if not tokens:
        raise ValueError("the evaluation rows hold no token to predict")
    mean = loss / tokens
    return {"eval_loss": mean, "perplexity": math.exp(min(mean, 700.0)), "token_accuracy": right / tokens}


def replies(
    model: Any, processor: Any, texts: list[str], images: list[list[Any]] | None, max_new_tokens: int
) -> list[str]:
    """What the model writes after each prompt (with its list of images), without sampling."""
    tokenizer = tokenizer_of(processor)
    side, tokenizer.padding_side = tokenizer.padding_side, "left"
    pictures = {} if images is None else {"images": images}
    special = special_tokens(processor, texts[0])
    try:
        batch = processor(
            text=texts, **pictures, padding=True, return_tensors="pt", add_special_tokens=special
        )
    finally:
        tokenizer.padding_side = side
    inputs = to_model(model, batch)
    with torch.no_grad():
        written = model.generate(
            **inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
    fresh = written[:, inputs["input_ids"].shape[1] :]
    return [str(text).strip() for text in tokenizer.batch_decode(fresh, skip_special_tokens=True)]


def normalised(text: str) -> str:
    """Lower case, no punctuation, single spaces: the form in which answers are compared."""
    return " ".join(re.sub(f"[{re.escape(string.punctuation)}]", " ", text.lower()).split())


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1 when the prediction is one of the references, after normalisation."""
    return float(normalised(prediction) in {normalised(reference) for reference in references})


def contains(prediction: str, references: Sequence[str]) -> float:
    """1 when a reference stands somewhere in the prediction, as whole words."""
    said = f" {normalised(prediction)} "
    return float(
        any(f" {normalised(reference)} " in said for reference in references if normalised(reference))
    )


def vqa_accuracy(prediction: str, references: Sequence[str]) -> float:
    """min(1, matches / 3) over the answers of several people (Antol et al. 2015, VQA).

    With fewer than three answers: exact match.
    """
    if len(references) < 3:
        return exact_match(prediction, references)
    said = normalised(prediction)
    return min(1.0, sum(said == normalised(reference) for reference in references) / 3)


def trainer_of(
    model: Any, processor: Any, train: Any, evaluation: Any, arguments: dict[str, Any], collator: Any
) -> Any:
    """A Trainer of transformers that learns tokens from rows which only the collator reads."""
    from transformers import Trainer, TrainingArguments

    return Trainer(
        model=model,
        args=TrainingArguments(**{**arguments, "remove_unused_columns": False, "label_names": ["labels"]}),
        train_dataset=train,
        eval_dataset=evaluation,
        data_collator=collator,
        processing_class=processor,
    )


def trainer_arguments(
    kind: Any, arguments: dict[str, Any], config: dict[str, Any], names: Iterable[str]
) -> Any:
    """A configuration of trl: the training arguments, and the settings of `names` that config.yaml has.

    A setting that this version of trl does not know is left out, and logged.
    """
    import dataclasses

    known = {field.name for field in dataclasses.fields(kind)}
    # Left unset, trl switches both on.
    arguments = {"bf16": False, "gradient_checkpointing": False, **arguments}
    wanted = {**arguments, **{name: config[name] for name in names if config.get(name) is not None}}
    dropped = sorted(set(wanted) - known)
    if dropped:
        logger.warning("%s does not know %s: left out", kind.__name__, ", ".join(dropped))
    return kind(**{name: value for name, value in wanted.items() if name in known})
