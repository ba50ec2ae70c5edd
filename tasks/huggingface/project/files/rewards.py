"""Rewards for GRPO: config.yaml names functions of this file under `reward_functions`. Add your own.

A reward is called with the replies (`completions`) and each column of the rows under its name, all of equal
length, and gives one number for each reply.
"""

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from difflib import SequenceMatcher
from typing import Any

from language import contains, normalised, plain_content

NUMBER = re.compile(r"(?:(?<!\w)-)?(?:\d[\d,]*)?\.?\d+")


def text_of(completion: Any) -> str:
    """The text of a reply: a string, or the last of its turns."""
    return completion if isinstance(completion, str) else plain_content(completion[-1]["content"])


def final_answer(text: str) -> Decimal | str:
    """What a text, or what follows `####` in it, comes down to: its last number, else its words."""
    said = text.rsplit("####", 1)[-1]
    numbers = NUMBER.findall(said)
    return Decimal(numbers[-1].replace(",", "")) if numbers else normalised(said)


def answer_match(completions: Sequence[Any], answer: Sequence[str | float], **columns: Any) -> list[float]:
    """1 where the reply comes down to the same answer as the row's."""
    return [
        float(final_answer(text_of(said)) == final_answer(str(right)))
        for said, right in zip(completions, answer, strict=True)
    ]


def contains_answer(completions: Sequence[Any], answer: Sequence[str | float], **columns: Any) -> list[float]:
    """1 where the answer stands somewhere in the reply."""
    return [contains(text_of(said), [str(right)]) for said, right in zip(completions, answer, strict=True)]


def answer_similarity(
    completions: Sequence[Any], answer: Sequence[str | float], **columns: Any
) -> list[float]:
    """How much of reply and answer agree, from 0 to 1: a slope to climb before the first match."""
    return [
        SequenceMatcher(None, text_of(said), str(right)).ratio()
        for said, right in zip(completions, answer, strict=True)
    ]


def named(names: Sequence[str]) -> list[Callable[..., list[float]]]:
    """The functions of these names.

    Raises:
        ValueError: This file has no function of that name.

    """
    missing = [name for name in names if not callable(globals().get(name))]
    if missing or not names:
        raise ValueError(
            f"reward_functions of config.yaml: rewards.py has no {missing or 'function chosen'}; add it there"
        )
    return [globals()[name] for name in names]
