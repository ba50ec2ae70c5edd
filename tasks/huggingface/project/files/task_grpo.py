"""Group relative policy optimisation (Shao et al. 2024): rows of `prompt`, and what the rewards need."""

import logging
import math
from typing import Any

import common
import rewards
from language import completed_turns, load_tokenizer, prompt_text, replies, trainer_arguments
from lora import base_and_adapter, load_text_model

logger = logging.getLogger("project")

SETTINGS = ("beta", "max_completion_length", "temperature", "reward_weights")
GENERATIONS = 8
COMPLETION_LENGTH = 256

load_processor, load_model = load_tokenizer, load_text_model


def dataset(config: dict[str, Any], processor: Any, split: str) -> Any:
    """Rows of `train` or `eval` with the prompt as turns; all other columns stay, for the rewards."""
    return common.saved_rows(config, split).map(asked)


def asked(row: dict[str, Any]) -> dict[str, Any]:
    """The prompt as turns."""
    return {"prompt": completed_turns(row["prompt"], "")[0]}


def collator(config: dict[str, Any], processor: Any) -> Any:
    """Rows stay a list: the trainer writes replies to their prompts."""

    def batch(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return rows

    return batch


def reward_functions(config: dict[str, Any]) -> list[Any]:
    """The rewards that config.yaml names."""
    return rewards.named(config.get("reward_functions") or ["answer_match"])


def generations(config: dict[str, Any], per_step: int) -> int:
    """Replies to each prompt: as configured, or the next smaller number that divides the replies of a step.

    Raises:
        ValueError: A step has fewer than two replies, so none could be better than another.

    """
    wanted = int(config.get("num_generations") or GENERATIONS)
    fitting = [count for count in range(2, min(wanted, per_step) + 1) if per_step % count == 0]
    if not fitting:
        raise ValueError(
            f"a step of {per_step} replies cannot be split into groups of 2 to {wanted}: change the batch"
        )
    if fitting[-1] != wanted:
        logger.warning(
            "num_generations %d does not divide %d replies a step: %d used", wanted, per_step, fitting[-1]
        )
    return fitting[-1]


def trainer(
    config: dict[str, Any], model: Any, processor: Any, train: Any, evaluation: Any, arguments: dict[str, Any]
) -> Any:
    """trl's GRPOTrainer."""
    import os

    from trl import GRPOConfig, GRPOTrainer

    world = int(os.environ.get("WORLD_SIZE", "1"))
    batch = int(arguments.get("per_device_train_batch_size", 4)) * world
    count = generations(config, batch * int(arguments.get("gradient_accumulation_steps", 1)))
    size = int(arguments.get("per_device_eval_batch_size", 4))
    extra = {
        "num_generations": count,
        "num_generations_eval": max(math.gcd(count, size * world), 1),
        "max_completion_length": COMPLETION_LENGTH,
    }
    base, adapter = base_and_adapter(model)
    return GRPOTrainer(
        model=base,
        reward_funcs=reward_functions(config),
        args=trainer_arguments(GRPOConfig, {**arguments, **extra}, config, SETTINGS),
        train_dataset=train,
        eval_dataset=evaluation,
        processing_class=processor,
        peft_config=adapter,
    )


def evaluate(
    config: dict[str, Any], model: Any, processor: Any, rows: Any, *, limit: int | None = None, **options: Any
) -> dict[str, Any]:
    """Mean of the weighted rewards, and of each, over one reply to every prompt, written without sampling."""
    model.eval()
    functions = reward_functions(config)
    weights = config.get("reward_weights") or [1.0] * len(functions)
    length = int(options.get("max_new_tokens") or config.get("max_completion_length") or COMPLETION_LENGTH)
    sums, count = [0.0] * len(functions), 0
    for batch in common.batches(rows, int(config["per_device_eval_batch_size"]), limit):
        said = replies(model, processor, prompts(processor, batch), None, length)
        count += len(batch)
        for index, function in enumerate(functions):
            sums[index] += sum(function(completions=said, **columns(batch)))
    metrics: dict[str, Any] = {
        f"reward_{f.__name__}": total / count for f, total in zip(functions, sums, strict=True)
    }
    mean = sum(weight * total for weight, total in zip(weights, sums, strict=True)) / count
    primary = {"name": "mean_reward", "value": mean, "higher_is_better": True}
    return {**metrics, "mean_reward": mean, "n_eval": count, "primary_metric": primary}


def prompts(processor: Any, rows: list[dict[str, Any]]) -> list[str]:
    """What the model is given."""
    return [prompt_text(processor, row["prompt"]) for row in rows]


def columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The rows by column, as rewards are given them."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def sample(
    config: dict[str, Any], model: Any, processor: Any, row: dict[str, Any], index: int
) -> tuple[None, None, Any]:
    """Prompt, reply and what it earns."""
    model.eval()
    length = int(config.get("max_completion_length") or COMPLETION_LENGTH)
    said = replies(model, processor, prompts(processor, [row]), None, length)
    earned = {f.__name__: f(completions=said, **columns([row]))[0] for f in reward_functions(config)}
    rest = {name: value for name, value in row.items() if name != "prompt"}
    return (
        None,
        None,
        {"prompt": prompts(processor, [row])[0], "prediction": said[0], "rewards": earned, "row": rest},
    )
