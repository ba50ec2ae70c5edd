"""A language model as proposer of trials: opt-in, at an endpoint that the user names.

What leaves this machine is the names and boxes of the searched dimensions, the values of the trials with
their scores and states, and the name and direction of the metric. Nothing else is sent: no path, no
message, no spec.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import httpx
from pydantic import Field

from blocks.network import offline_variable
from tasks.automl.space import Parameter, Space
from tasks.automl.trial import Row, SweepMetric
from tasks.errors import DeftError, InputError, listed
from tasks.spec import SpecModel

SYSTEM = (
    "You propose hyper-parameters for the next training of a neural network. The user gives the dimensions "
    "with their ranges, the metric, and the trials so far. Answer with one JSON object alone: a value for "
    "every dimension by its name, each inside its range, in a combination that has not been tried."
)
FENCED = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)
CHAT = "/chat/completions"


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
        self._url = _address(settings.endpoint)
        self._is_local = _is_loopback(self._url.host)
        if not self._is_local:
            _check_online(self._url.host)
        self._headers = _headers(settings.api_key_env)

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
        body = {
            "model": config.model,
            "messages": messages,
            "temperature": config.temperature,
            "max_tokens": config.max_tokens,
        }
        try:
            # A proxy of the environment must not carry what is meant for this machine.
            with httpx.Client(timeout=config.timeout_seconds, trust_env=not self._is_local) as client:
                response = client.post(self._url, json=body, headers=self._headers)
            response.raise_for_status()
            answer = response.json()["choices"][0]["message"]["content"]
        except httpx.HTTPStatusError as error:
            # The body is not quoted: endpoints are known to repeat the key in it.
            raise self._failed(f"status {error.response.status_code}") from None
        except httpx.TimeoutException:
            raise self._failed(f"no answer within {config.timeout_seconds:g} s") from None
        except httpx.HTTPError as error:
            raise self._failed(f"cannot be reached ({type(error).__name__})") from None
        except (ValueError, LookupError, TypeError, RecursionError):
            raise self._failed("an answer that is not of the chat API") from None
        if not isinstance(answer, str):
            raise self._failed("an answer without text")
        return answer

    def _failed(self, what: str) -> ProposerFailed:
        return ProposerFailed(f"language model at {self._url.netloc.decode()}: {what}; see llm.endpoint")

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


def _address(endpoint: str) -> httpx.URL:
    """Where questions go; what was given is not quoted, for it may hold a key."""
    try:
        url = httpx.URL(endpoint.strip())
    except httpx.InvalidURL:
        raise InputError("llm.endpoint is no address; give one such as http://localhost:8000/v1") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError("llm.endpoint is no address; give one such as http://localhost:8000/v1")
    if url.userinfo:
        raise InputError("llm.endpoint holds a user name or password; name a variable in llm.api_key_env")
    path = url.path.rstrip("/")
    return url if path.endswith(CHAT) else url.copy_with(path=path + CHAT)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_online(host: str) -> None:
    offline = offline_variable()
    if offline:
        raise InputError(
            f"llm.endpoint {host} is another machine and {offline} is set; name an endpoint on this one, "
            "or choose another algorithm"
        )


def _headers(variable: str | None) -> Mapping[str, str]:
    if variable is None:
        return {}
    key = os.environ.get(variable, "").strip()
    if not key:
        # The name is not quoted: people write the key itself there.
        raise InputError("llm.api_key_env names an environment variable that is not set; set it")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InputError(
            "the key in the variable of llm.api_key_env holds characters that no header can carry"
        )
    return {"Authorization": f"Bearer {key}"}
