"""The judge `vlm`: a vision language model at an OpenAI-compatible endpoint that the user names.

What leaves this machine, to that endpoint alone: the picture of a sample, its golden picture, its label, and
whether the classifier had it right. No path, no name, no score.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.chat import Chat, ChatFailed
from tasks.gap_analysis.spot_check.judges import MEANINGS, VERDICTS, Judge, Row, Verdict
from tasks.reports.pictures import data_uri

logger = logging.getLogger("deft")

SIDE = 384
"""Pixels of a picture as it is sent, both ways."""
PROMPT = (
    "You look at a crop of a printed circuit board from automatic optical inspection. It has a label: PASS, "
    "or the name of a defect. A classifier that compares it with a golden picture found it difficult. Say "
    "which one of four causes fits best:\n"
    + "\n".join(f"{word}: {meaning}" for word, meaning in MEANINGS.items())
    + "\nAnswer with these words of one cause alone, nothing else."
)
REPAIR = f"That is none of the four. Answer with one of these alone: {', '.join(VERDICTS)}."


class ModelJudge:
    """Asks the model for one sample at a time; where it gives no verdict, rules do."""

    def __init__(
        self, chat: Chat, model: str, rules: Judge, goldens: Mapping[str, Path], max_tokens: int
    ) -> None:
        self._chat, self._rules, self._goldens = chat, rules, goldens
        self._model, self._max_tokens = model, max_tokens
        self._down: str | None = None

    def __call__(self, row: Row) -> Verdict:
        """The model's verdict, or that of the rules with the reason why in its origin."""
        if self._down:
            return without_model(self._rules, self._down)(row)
        messages = _question(row, self._goldens)
        if messages is None:
            return without_model(self._rules, "no picture to show")(row)
        try:
            word = self._ask(messages)
        except ChatFailed as error:
            # Another sample would fare no better, and would wait as long.
            self._down = str(error)
            logger.warning("spot check: %s; rules judge the rest", error)
            return without_model(self._rules, self._down)(row)
        if word is None:
            logger.warning("spot check: two answers of %s were none of the four verdicts", self._model)
            return without_model(self._rules, "two answers were none of the four")(row)
        return Verdict(word, f"vlm {self._model}")

    def _ask(self, messages: list[dict[str, Any]]) -> str | None:
        """The verdict; a failed request is tried once more, a bad answer is asked to be repaired once."""
        try:
            answer = self._said(messages)
        except ChatFailed:
            return verdict_in(self._said(messages))
        word = verdict_in(answer)
        if word:
            return word
        said = [{"role": "assistant", "content": answer}, {"role": "user", "content": REPAIR}]
        return verdict_in(self._said(messages + said))

    def _said(self, messages: list[dict[str, Any]]) -> str:
        return self._chat.ask(messages, temperature=0.0, max_tokens=self._max_tokens)


def without_model(rules: Judge, why: str) -> Judge:
    """Rules in place of the model; their origin says why."""

    def judge(row: Row) -> Verdict:
        found = rules(row)
        return found._replace(origin=f"{found.origin} (vlm: {why})")

    return judge


def verdict_in(answer: str) -> str | None:
    """The verdict that an answer is, quotes, dots and thoughts aside; None where it is anything else."""
    text = answer.rpartition("</think>")[2].strip().strip("\"'`*.! \n").casefold()
    word = text.replace("_", " ").replace("-", " ")
    return word if word in VERDICTS else None


def _question(row: Row, goldens: Mapping[str, Path]) -> list[dict[str, Any]] | None:
    picture = data_uri(Path(row["first_filepath"]), SIDE)
    if picture is None:
        return None
    side = "on the wrong side of" if row["misclassified"] else "on the right side of, but close to,"
    content = [_text(f"Label: {row['label']}. It is {side} the threshold. The crop:"), _image(picture)]
    golden = goldens.get(row["first_filepath"])
    reference = data_uri(golden, SIDE) if golden else None
    if reference:
        content += [_text("The golden picture that it was compared with:"), _image(reference)]
    return [{"role": "system", "content": PROMPT}, {"role": "user", "content": content}]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(uri: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": uri}}
