"""Direct preference optimisation (Rafailov et al. 2023): rows of `prompt`, `chosen`, `rejected`."""

import logging
from contextlib import nullcontext
from typing import Any

import common
from language import (
    completed_turns,
    learned,
    load_tokenizer,
    padded,
    prompt_text,
    rendered,
    replies,
    token_scores,
    tokenizer_of,
    trainer_arguments,
)
from lora import base_and_adapter, load_text_model

logger = logging.getLogger("project")

BETA = 0.1
SETTINGS = ("beta", "max_length")

load_processor, load_model = load_tokenizer, load_text_model


def dataset(config: dict[str, Any], processor: Any, split: str) -> Any:
    """Rows of `train` or `eval` with prompt, chosen and rejected as turns, if the replies differ."""
    rows = common.saved_rows(config, split)
    pairs = rows.map(preference, remove_columns=rows.column_names)
    kept = pairs.filter(lambda pair: pair["chosen"] != pair["rejected"])
    if len(kept) < len(pairs):
        logger.warning("%s: %d pairs of equal replies left out", split, len(pairs) - len(kept))
    return kept


def preference(row: dict[str, Any]) -> dict[str, Any]:
    """The pair as turns: what both replies have in common at their start belongs to the prompt."""
    asked, chosen = completed_turns(row.get("prompt") or [], row["chosen"])
    _, rejected = completed_turns([], row["rejected"])
    if (
        not isinstance(row["chosen"], str) and len(chosen) > 1
    ):  # whole conversations, as in ultrafeedback_binarized
        alike = 0
        while alike < min(len(chosen), len(rejected)) - 1 and chosen[alike] == rejected[alike]:
            alike += 1
        asked, chosen, rejected = chosen[:alike], chosen[alike:], rejected[alike:]
    return {"prompt": asked, "chosen": chosen, "rejected": rejected}


def collator(config: dict[str, Any], processor: Any) -> Any:
    """Pairs to one padded batch with labels on the replies: first all that were chosen, then all rejected."""
    limit = config.get("max_length") or None

    def batch(rows: list[dict[str, Any]]) -> dict[str, Any]:
        coded = []
        for side in ("chosen", "rejected"):
            for row in rows:
                text, spans = rendered(processor, row["prompt"] + row[side], first=len(row["prompt"]))
                ids, labels = learned(processor, text, spans)
                coded.append((ids[:limit], labels[:limit]))
        return padded(tokenizer_of(processor), coded)

    return batch


def trainer(
    config: dict[str, Any], model: Any, processor: Any, train: Any, evaluation: Any, arguments: dict[str, Any]
) -> Any:
    """trl's DPOTrainer: it makes its own tokens, and its reference is the model without the adapter."""
    from trl import DPOConfig, DPOTrainer

    base, adapter = base_and_adapter(model)
    return DPOTrainer(
        model=base,
        args=trainer_arguments(DPOConfig, arguments, config, SETTINGS),
        train_dataset=train,
        eval_dataset=evaluation,
        processing_class=processor,
        peft_config=adapter,
    )


def evaluate(
    config: dict[str, Any], model: Any, processor: Any, rows: Any, *, limit: int | None = None, **options: Any
) -> dict[str, Any]:
    """Reward accuracy, mean margin and loss, against `model_id` as the reference.

    A reward is beta times the log probability of a reply, less the reference's. A tie counts half, so that
    the untrained model stands at 0.5. `preference_accuracy` needs no reference: how often the chosen reply is
    the more probable one.
    """
    import torch

    model.eval()
    adapted = hasattr(model, "disable_adapter")
    reference = (
        model
        if adapted
        else load_model(config, config["model_id"], for_training=False).to(model.device).eval()
    )
    beta = float(config.get("beta") or BETA)
    make = collator(config, processor)
    margins, preferred = [], []
    for batch in common.batches(rows, int(config["per_device_eval_batch_size"]), limit):
        pairs = make(batch)
        chosen, rejected = token_scores(model, pairs)[0].chunk(2)
        with model.disable_adapter() if adapted else nullcontext():
            chosen_before, rejected_before = token_scores(reference, pairs)[0].chunk(2)
        margins.append(beta * ((chosen - chosen_before) - (rejected - rejected_before)))
        preferred.append((chosen > rejected).float())
    margin, likelier = torch.cat(margins), torch.cat(preferred)
    accuracy = float((margin > 0).float().mean() + 0.5 * (margin == 0).float().mean())
    return {
        "reward_accuracy": accuracy,
        "reward_margin": float(margin.mean()),
        "eval_loss": float(-torch.nn.functional.logsigmoid(margin).mean()),
        "preference_accuracy": float(likelier.mean()),
        "n_eval": len(margin),
        "primary_metric": {"name": "reward_accuracy", "value": accuracy, "higher_is_better": True},
    }


def sample(
    config: dict[str, Any], model: Any, processor: Any, row: dict[str, Any], index: int
) -> tuple[None, None, Any]:
    """Prompt, both replies, and what the model writes."""
    model.eval()
    prompt = prompt_text(processor, row["prompt"])
    said = replies(model, processor, [prompt], None, int(config.get("max_new_tokens") or 128))[0]
    return (
        None,
        None,
        {"prompt": prompt, "chosen": row["chosen"], "rejected": row["rejected"], "prediction": said},
    )
