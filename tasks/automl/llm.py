"""A language model as proposer of trials: opt-in, at an endpoint that the user names.

What leaves this machine is the names and boxes of the searched dimensions, the values of the trials with
their scores and states, and the name and direction of the metric. Nothing else is sent: no path, no
message, no spec.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from tasks.automl.space import Parameter, Space
from tasks.automl.trial import Row, SweepMetric
from tasks.chat import Chat, ChatFailed
from tasks.errors import DeftError, listed
from tasks.spec import SpecModel

SYSTEM = (
    "You propose hyper-parameters for the next training of a neural network. The user gives the dimensions "
    "with their ranges, the metric, and the trials so far. Answer with one JSON object alone: a value for "
    "every dimension by its name, each inside its range, in a combination that has not been tried."
)
FENCED = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


class LlmSettings(SpecModel):
    """The model that is asked. Endpoint and model have no default: nothing is sent that nobody asked for.

    Attributes:
        endpoint: base address of an OpenAI-compatible API, such as http://localhost:8000/v1.
        model: its name there.
        api_key_env: name of the environment variable that holds the key, if one is needed.
        temperature: of the answer.
        max_tokens: of the answer.
        timeout_seconds: to wait for the connection and for each part of the answer.
        on_error: whether the sampler proposes when the model does not, or the sweep stops.
    """

    endpoint: str = Field(min_length=1)
    model: str = Field(min_length=1)
    api_key_env: str | None = None
    temperature: float = Field(0.7, ge=0, le=2)
    max_tokens: int = Field(4096, ge=1)
    timeout_seconds: float = Field(60.0, gt=0)
    on_error: Literal["fallback", "stop"] = "fallback"


class ProposerFailed(DeftError):
    """The language model gave no proposal that can be trained."""


class LlmProposer:
    """Asks the model for the values of one trial at a time."""

    def __init__(self, settings: LlmSettings, space: Space, metric: SweepMetric) -> None:
        """Check what can be checked before anything is sent.

        Raises:
            InputError: the endpoint is no address, holds a password, or lies outside this machine while it
                is offline; or the environment variable of the key is not set.
        """
        self.settings = settings
        self._space, self._metric = space, metric
        self._chat = Chat(
            settings.endpoint,
            settings.model,
            api_key_env=settings.api_key_env,
            timeout_seconds=settings.timeout_seconds,
            section="llm",
            instead="choose another algorithm",
        )

    def propose(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Values for the next trial, all inside the box; a bad answer is asked to be repaired once.

        Raises:
            ProposerFailed: the endpoint does not answer, or the second answer is no good either.
        """
        messages = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": json.dumps(self._question(rows))},
        ]
        answer = self._ask(messages)
        try:
            return self._checked(answer, rows)
        except ProposerFailed as error:
            repair = f"That cannot be used: {error}. Answer again with one whole JSON object alone."
            messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": repair}]
        return self._checked(self._ask(messages), rows)

    def _question(self, rows: Sequence[Row]) -> dict[str, Any]:
        names = self._space.distributions
        return {
            "metric": {"name": self._metric.name, "direction": self._metric.direction},
            "dimensions": [_described(one) for one in self._space.searched],
            "trials": [
                {
                    "values": {name: row.params[name] for name in names if name in row.params},
                    "score": row.outcome.score if row.outcome and row.state == "complete" else None,
                    "state": row.state,
                }
                for row in rows
                if row.source != "rerun"
            ],
        }

    def _ask(self, messages: list[dict[str, str]]) -> str:
        config = self.settings
        try:
            return self._chat.ask(messages, temperature=config.temperature, max_tokens=config.max_tokens)
        except ChatFailed as error:
            raise ProposerFailed(str(error)) from None

    def _checked(self, answer: str, rows: Sequence[Row]) -> dict[str, Any]:
        values = _parsed(answer)
        names = self._space.distributions
        faults = [f"{name} is no dimension" for name in values if name not in names]
        params = {}
        for one in self._space.searched:
            if one.name not in values:
                faults.append(f"{one.name} is missing")
            elif (value := _typed(one, values[one.name])) is None:
                faults.append(f"{one.name} = {json.dumps(values[one.name])[:80]} is not {_range(one)}")
            else:
                params[one.name] = value
        if not faults and any(row.params == params for row in rows):
            faults = ["this combination has been tried"]
        if faults:
            raise ProposerFailed(f"the language model's proposal: {listed(faults, most=10)}")
        return params


def _described(one: Parameter) -> dict[str, Any]:
    if one.type == "choice":
        return {"name": one.name, "type": "choice", "choices": list(one.choices)}
    scale = "logarithmic" if one.log else "linear"
    return {"name": one.name, "type": one.type, "low": one.low, "high": one.high, "scale": scale}


def _range(one: Parameter) -> str:
    if one.type == "choice":
        return f"one of {json.dumps(one.choices)}"
    return f"{'a whole number' if one.type == 'int' else 'a number'} from {one.low:g} to {one.high:g}"


def _typed(one: Parameter, value: Any) -> Any:
    """The value as the dimension has it; None where it is of another type or outside. Never moved."""
    if one.type == "choice":
        return next((known for known in one.choices if known == value and _is_like(known, value)), None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if one.type == "int" and isinstance(value, float) and not value.is_integer():
        return None
    inside = one.distribution()._contains(value)
    return (int(value) if one.type == "int" else float(value)) if inside else None


def _is_like(known: Any, value: Any) -> bool:
    return isinstance(known, bool) == isinstance(value, bool)


def _parsed(answer: str) -> dict[str, Any]:
    """The JSON object of an answer, with or without a fence or words around it."""
    text = answer.rpartition("</think>")[2]
    fenced = FENCED.search(text)
    text = fenced[1] if fenced else text
    try:
        found = json.loads(text[text.index("{") : text.rindex("}") + 1])
    except (ValueError, RecursionError):
        raise ProposerFailed("the language model's answer holds no JSON object") from None
    return dict(found)
