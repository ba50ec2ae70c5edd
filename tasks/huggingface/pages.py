"""Public pages, each with its URL and the time of fetching: from the network, or from a mirror of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from blocks.network import offline_variable
from tasks.artifacts import now
from tasks.errors import DeftError

MIRROR = "DEFT_PAGES_MIRROR"
"""Variable that names a mirror such as `file:///mirror`: `https://host/path` is then `<mirror>/host/path`."""
TIMEOUT = 10.0
LARGEST = 5_000_000
"""Bytes of a page that are read; a longer one is cut there."""


class PageUnavailable(DeftError):
    """A page could not be had; the message says why."""


@dataclass(frozen=True)
class Page:
    """A page as it was fetched.

    Attributes:
        url: where it lives for a person, also when a mirror answered.
        text: decoded as UTF-8.
        fetched_at: ISO time, UTC.
    """

    url: str
    text: str
    fetched_at: str


@dataclass
class Pages:
    """Fetches pages and remembers each attempt, for the record of a recipe.

    Attributes:
        environment: variables that say whether the network is off and where the mirror is.
        attempts: `{url, time, outcome}` of each attempt, in order; outcome is `ok` or a reason.
    """

    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    attempts: list[dict[str, str]] = field(default_factory=list)

    def get(self, url: str) -> Page:
        """The page at an `http`, `https` or `file` URL.

        Raises:
            PageUnavailable: offline, no answer, another status than 200, or no such file.
        """
        time = now()
        try:
            text = self._text(url)
        except PageUnavailable as error:
            self.attempts.append({"url": url, "time": time, "outcome": str(error)})
            raise
        self.attempts.append({"url": url, "time": time, "outcome": "ok"})
        return Page(url, text, time)

    def _text(self, url: str) -> str:
        place = self._mirrored(url)
        if place.startswith("file://"):
            return _from_file(Path(unquote(urlsplit(place).path)))
        off = offline_variable(self.environment)
        if off and place == url:
            raise PageUnavailable(f"the network is switched off by {off}")
        return _from_network(place)

    def _mirrored(self, url: str) -> str:
        base = self.environment.get(MIRROR, "").rstrip("/")
        if not base or url.startswith("file://"):
            return url
        parts = urlsplit(url)
        query = f"?{parts.query}" if parts.query else ""
        return f"{base}/{parts.netloc}{parts.path}{query}"


def _from_file(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(LARGEST).decode("utf-8", errors="replace")
    except OSError as error:
        raise PageUnavailable(f"{file}: {error.strerror}") from error


def _from_network(url: str) -> str:
    try:
        with httpx.stream("GET", url, timeout=TIMEOUT, follow_redirects=True) as answer:
            if answer.status_code != httpx.codes.OK:
                raise PageUnavailable(f"HTTP status {answer.status_code}")
            content = b""
            for part in answer.iter_bytes():
                content += part
                if len(content) >= LARGEST:
                    break
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PageUnavailable(f"no answer: {type(error).__name__}: {error}") from error
    return content[:LARGEST].decode("utf-8", errors="replace")
