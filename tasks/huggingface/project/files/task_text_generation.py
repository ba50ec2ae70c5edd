"""Supervised fine-tuning of a text model: rows of `messages`, `prompt` + `completion` or `text`."""

import logging
from typing import Any

import common
from language import (
    IGNORED,
    completed_turns,
    exact_match,
    language_metrics,
    learned,
    load_tokenizer,
    padded,
    plain_content,
    prompt_text,
    rendered,
    replies,
    text_turns,
    tokenizer_of,
    trainer_of,
    up_to_reply,
)
from lora import load_text_model

logger = logging.getLogger("project")

load_processor, load_model = load_tokenizer, load_text_model


def dataset(config: dict[str, Any], processor: Any, split: str) -> Any:
    """Rows of `train` or `eval` as they are: the collator makes tokens of them."""
    return common.saved_rows(config, split)


def learnable(config: dict[str, Any], processor: Any, rows: Any) -> Any:
    """The rows that have a token to learn within `max_length`; how many have none is logged.

    Raises:
        ValueError: No row is left.

    """
    kept = [
        i for i, row in enumerate(rows) if any(label != IGNORED for label in coded(config, processor, row)[1])
    ]
    if not kept:
        raise ValueError(
            f"no row has a token to learn within max_length {config.get('max_length')} of config.yaml"
        )
    if len(kept) < len(rows):
        logger.warning(
            "%d of %d rows left out: nothing to learn in max_length", len(rows) - len(kept), len(rows)
        )
    return rows.select(kept)


def coded(config: dict[str, Any], processor: Any, row: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Token ids and labels of a row, cut at `max_length`: replies are learned, or all of a `text`."""
    limit = config.get("max_length") or None
    end = tokenizer_of(processor).eos_token
    if row.get("text") is not None:
        text = row["text"] + end
        spans = [(0, len(text))]
    elif row.get("messages") is not None:
        text, spans = rendered(processor, text_turns(up_to_reply(row["messages"])))
    else:
        asked, answered = completed_turns(row["prompt"], row["completion"])
        text, spans = rendered(processor, asked + answered, first=len(asked))
    ids, labels = learned(processor, text, spans)
    return ids[:limit], labels[:limit]


def collator(config: dict[str, Any], processor: Any) -> Any:
    """Rows to a padded batch with labels."""

    def batch(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return padded(tokenizer_of(processor), [coded(config, processor, row) for row in rows])

    return batch


def trainer(
    config: dict[str, Any], model: Any, processor: Any, train: Any, evaluation: Any, arguments: dict[str, Any]
) -> Any:
    """A Trainer of transformers, on the rows that have something to learn."""
    rows = learnable(config, processor, train), learnable(config, processor, evaluation)
    return trainer_of(model, processor, *rows, arguments, collator(config, processor))


def evaluate(
    config: dict[str, Any], model: Any, processor: Any, rows: Any, *, limit: int | None = None, **options: Any
) -> dict[str, Any]:
    """Loss per token, perplexity, token accuracy; with `max_new_tokens` also exact match of the replies."""
    model.eval()
    size = int(config["per_device_eval_batch_size"])
    make = collator(config, processor)
    metrics: dict[str, Any] = language_metrics(
        model, (make(batch) for batch in common.batches(rows, size, limit))
    )
    length = options.get("max_new_tokens")
    if length:
        hits = [
            exact_match(said, [reference_of(row)])
            for batch in common.batches(rows, size, limit)
            for row, said in zip(batch, written(config, model, processor, batch, length), strict=True)
        ]
        metrics["exact_match"] = sum(hits) / len(hits)
    metrics["n_eval"] = len(rows) if limit is None else min(limit, len(rows))
    metrics["primary_metric"] = {
        "name": "eval_loss",
        "value": metrics["eval_loss"],
        "higher_is_better": False,
    }
    return metrics


def prompt_of(processor: Any, row: dict[str, Any]) -> str:
    """What the model is given: the conversation up to the last reply, or the first half of a `text`."""
    if row.get("text") is not None:
        words = row["text"].split(" ")
        return " ".join(words[: max(1, len(words) // 2)])
    if row.get("messages") is not None:
        asked = text_turns(up_to_reply(row["messages"]))[:-1]
    else:
        asked = completed_turns(row["prompt"], "")[0]
    return prompt_text(processor, asked)


def reference_of(row: dict[str, Any]) -> str:
    """What the row has where the model writes."""
    if row.get("text") is not None:
        words = row["text"].split(" ")
        return " ".join(words[max(1, len(words) // 2) :])
    if row.get("messages") is not None:
        return plain_content(up_to_reply(row["messages"])[-1]["content"])
    return "\n".join(turn["content"] for turn in completed_turns("", row["completion"])[1])


def written(
    config: dict[str, Any], model: Any, processor: Any, rows: list[Any], max_new_tokens: int
) -> list[str]:
    """The model's replies to the rows."""
    return replies(model, processor, [prompt_of(processor, row) for row in rows], None, max_new_tokens)


def sample(
    config: dict[str, Any], model: Any, processor: Any, row: dict[str, Any], index: int
) -> tuple[None, None, Any]:
    """Prompt, reference and what the model writes."""
    model.eval()
    said = written(config, model, processor, [row], int(config.get("max_new_tokens") or 128))[0]
    return (
        None,
        None,
        {"prompt": prompt_of(processor, row), "reference": reference_of(row), "prediction": said},
    )
