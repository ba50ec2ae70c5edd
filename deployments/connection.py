"""HTTP to a Prefect server: password, CSRF token, and patience while the server is away or busy."""

from __future__ import annotations

import base64
import logging
import math
import os
import time
from collections.abc import Collection
from typing import Any, NamedTuple, Self
from urllib.parse import unquote
from uuid import uuid4

import httpx

from tasks.errors import DeftError, InputError

logger = logging.getLogger("deft.flow")

BUSY = (429, 502, 503, 504)
UNREAD = (429, 503)
"""Answers of a server that has not done what was asked, so that it can be asked again in any case."""
UNREAD_ERRORS = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

FIRST_CONTACT_SECONDS = 5.0
REQUEST_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.3
LONGEST_PAUSE_SECONDS = 10.0


def configured() -> tuple[str | None, str | None]:
    """Address and `user:password` of the server: of the environment, else of Prefect's profile."""
    url, auth = os.environ.get("PREFECT_API_URL"), os.environ.get("PREFECT_API_AUTH_STRING")
    if not url:
        from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL

        url, auth = PREFECT_API_URL.value(), auth or PREFECT_API_AUTH_STRING.value()
    return url, auth


def basic(auth: str) -> dict[str, str]:
    """The header that carries `user:password`."""
    return {"Authorization": f"Basic {base64.b64encode(auth.encode()).decode()}"}


class ServerAway(DeftError):
    """The server did not answer for as long as we had patience."""


class Answer(NamedTuple):
    """What the server answered: HTTP status and content."""

    status: int
    content: Any


class Connection:
    """Requests to the API of one server, each asked again while the server is away or busy.

    The password is sent in a header, and is in no message.

    Args:
        url: address of the API, such as `http://host:4200/api`; a `user:password@` in it serves as `auth`.
        auth: `user:password`, as in PREFECT_API_AUTH_STRING.
        patience: how many seconds a server that has answered before may be away.

    Raises:
        InputError: `url` is none.
    """

    def __init__(self, url: str, auth: str | None = None, *, patience: float = 300.0) -> None:
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL:
            address = httpx.URL()
        if address.scheme not in ("http", "https") or not address.host:
            raise InputError(
                "the Prefect server's address must be like http://host:4200/api: set PREFECT_API_URL"
            )
        auth = auth or unquote(address.userinfo.decode())
        self.place = str(address.copy_with(userinfo=b"")).rstrip("/")
        self._patience = patience
        self._reached = False
        self._name = str(uuid4())
        self._csrf: dict[str, str] | None = None
        self._http = httpx.Client(base_url=self.place, headers=basic(auth) if auth else {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        refusals: Collection[int] = (),
        repeatable: bool = True,
        until: float = math.inf,
    ) -> Answer:
        """The answer to one request.

        Args:
            method: GET, POST...
            path: below the address of the API.
            body: sent as JSON.
            refusals: HTTP statuses of errors that the caller explains.
            repeatable: twice does what once does, so it is sent again even if the server may have done it.
            until: moment of `time.monotonic()` at which patience ends in any case.

        Raises:
            ServerAway: no answer in time.
            DeftError: the server does not let us in, is no Prefect server, or refuses.
        """
        begun = time.monotonic()
        pause = FIRST_PAUSE_SECONDS
        while True:
            wanted = 0.0
            try:
                response = self._once(method, path, body, until)
            except httpx.TransportError as error:
                trouble = f"cannot be reached ({error or type(error).__name__})"
                unread = isinstance(error, UNREAD_ERRORS)
            else:
                self._reached = True
                if response.status_code not in BUSY:
                    return self._answer(response, path, refusals)
                trouble = f"answers {response.status_code}"
                unread = response.status_code in UNREAD
                wanted = _wanted_pause(response)
            if not (repeatable or unread):
                raise DeftError(
                    f"Prefect server {self.place} {trouble}: whether it did {path} is not known; look"
                )
            patience = self._patience if self._reached else min(self._patience, FIRST_CONTACT_SECONDS)
            left = min(begun + patience, until) - time.monotonic()
            if left <= 0:
                hint = "see that it runs, and that PREFECT_API_URL is its address"
                raise ServerAway(f"Prefect server {self.place} {trouble}: {hint}")
            if self._reached and pause == FIRST_PAUSE_SECONDS:
                logger.warning("Prefect server %s %s: asking again", self.place, trouble)
            time.sleep(min(max(pause, wanted), left))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _once(self, method: str, path: str, body: Any, until: float) -> httpx.Response:
        """One request; with a new CSRF token if the server does not take the one we have."""
        timeout = max(1.0, min(REQUEST_SECONDS, until - time.monotonic()))
        for renewed in (False, True):
            if method != "GET" and self._csrf is None:
                given = self._http.get("/csrf-token", params={"client": self._name}, timeout=timeout)
                if given.status_code not in (200, 404, 422):
                    return given
                self._csrf = self._token(given)
            headers = self._csrf if method != "GET" else None
            response = self._http.request(method, path, json=body, headers=headers, timeout=timeout)
            if renewed or response.status_code != 403 or "CSRF" not in response.text:
                break
            self._csrf = None
        return response

    def _token(self, given: httpx.Response) -> dict[str, str]:
        if given.status_code != 200:
            return {}  # a server without this protection
        token = self._content(given)["token"]
        return {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": self._name}

    def _answer(self, response: httpx.Response, path: str, refusals: Collection[int]) -> Answer:
        status = response.status_code
        if status == 401:
            text = f"Prefect server {self.place} does not let us in"
            raise DeftError(f"{text}: set PREFECT_API_AUTH_STRING to its user:password")
        if response.is_success or status in refusals:
            return Answer(status, self._content(response))
        text = f"Prefect server {self.place} answers {status} to {path} ({reason(response.text)})"
        if status in (403, 404, 405):
            text += ": PREFECT_API_URL must be the server's address with /api behind it"
        raise DeftError(text)

    def _content(self, response: httpx.Response) -> Any:
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            raise DeftError(
                f"{self.place} is no Prefect API: PREFECT_API_URL is the server's address with /api behind it"
            ) from None


def _wanted_pause(response: httpx.Response) -> float:
    """Seconds for which the server wants to be left alone."""
    try:
        return float(response.headers.get("Retry-After", "0"))
    except ValueError:
        return 0.0


def reason(content: Any) -> str:
    """Why the server refuses, in one line: its text, or each wrong field by its path."""
    if isinstance(content, dict):
        wrong = content.get("exception_detail")
        if isinstance(wrong, list):
            return "; ".join(f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}" for item in wrong)
        content = content.get("detail") or content.get("exception_message") or content
    return " ".join(str(content).split())
