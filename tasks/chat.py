"""Questions to a language model at an OpenAI-compatible endpoint that the user names.

Nothing is sent unless somebody named the endpoint. While this machine is offline only endpoints on it are
asked. Errors quote neither the key nor what the endpoint answered, which may hold the key.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from blocks.network import offline_variable
from tasks.errors import DeftError, InputError

CHAT = "/chat/completions"


class ChatFailed(DeftError):
    """The endpoint gave no answer."""


class Chat:
    """A model at an endpoint; checked before anything is sent."""

    def __init__(
        self,
        endpoint: str,
        model: str,
        *,
        api_key_env: str | None,
        timeout_seconds: float,
        section: str,
        instead: str,
    ) -> None:
        """Check what can be checked without asking.

        Args:
            endpoint: base address of the API, such as http://localhost:8000/v1, or of its chat itself.
            model: its name there.
            api_key_env: name of the environment variable that holds the key, if one is needed.
            timeout_seconds: to wait for the connection and for each part of the answer.
            section: where a person finds these settings, for messages: `llm` of `llm.endpoint`.
            instead: what a person may do without a network, for the message.

        Raises:
            InputError: the endpoint is no address, holds a password, or lies outside this machine while it
                is offline; or the environment variable of the key is not set.
        """
        self._model, self._timeout, self._section = model, timeout_seconds, section
        self._url = _address(endpoint, section)
        self._is_local = _is_loopback(self._url.host)
        if not self._is_local:
            _check_online(self._url.host, section, instead)
        self._headers = _headers(api_key_env, section)

    def ask(self, messages: Sequence[Mapping[str, Any]], *, temperature: float, max_tokens: int) -> str:
        """The text of the model's answer.

        Raises:
            ChatFailed: no answer in time, an error status, or an answer that is not of the chat API.
        """
        body = {
            "model": self._model,
            "messages": list(messages),
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        try:
            # A proxy of the environment must not carry what is meant for this machine.
            with httpx.Client(timeout=self._timeout, trust_env=not self._is_local) as client:
                response = client.post(self._url, json=body, headers=self._headers)
            response.raise_for_status()
            answer = response.json()["choices"][0]["message"]["content"]
        except httpx.HTTPStatusError as error:
            # The body is not quoted: endpoints are known to repeat the key in it.
            raise self._failed(f"status {error.response.status_code}") from None
        except httpx.TimeoutException:
            raise self._failed(f"no answer within {self._timeout:g} s") from None
        except httpx.HTTPError as error:
            raise self._failed(f"cannot be reached ({type(error).__name__})") from None
        except (ValueError, LookupError, TypeError, RecursionError):
            raise self._failed("an answer that is not of the chat API") from None
        if not isinstance(answer, str):
            raise self._failed("an answer without text")
        return answer

    def _failed(self, what: str) -> ChatFailed:
        place = self._url.netloc.decode()
        return ChatFailed(f"language model at {place}: {what}; see {self._section}.endpoint")


def _address(endpoint: str, section: str) -> httpx.URL:
    """Where questions go; what was given is not quoted, for it may hold a key."""
    none = f"{section}.endpoint is no address; give one such as http://localhost:8000/v1"
    try:
        url = httpx.URL(endpoint.strip())
    except httpx.InvalidURL:
        raise InputError(none) from None
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError(none)
    if url.userinfo:
        raise InputError(
            f"{section}.endpoint holds a user name or password; name a variable in {section}.api_key_env"
        )
    path = url.path.rstrip("/")
    return url if path.endswith(CHAT) else url.copy_with(path=path + CHAT)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_online(host: str, section: str, instead: str) -> None:
    offline = offline_variable()
    if offline:
        raise InputError(
            f"{section}.endpoint {host} is another machine and {offline} is set; name an endpoint on this "
            f"one, or {instead}"
        )


def _headers(variable: str | None, section: str) -> Mapping[str, str]:
    if variable is None:
        return {}
    key = os.environ.get(variable, "").strip()
    if not key:
        # The name is not quoted: people write the key itself there.
        raise InputError(f"{section}.api_key_env names an environment variable that is not set; set it")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InputError(
            f"the key in the variable of {section}.api_key_env holds characters that no header can carry"
        )
    return {"Authorization": f"Bearer {key}"}
