"""Chat endpoints on loopback that say what a test wants them to say."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.serving import serving


class Endpoint(ThreadingHTTPServer):
    """Gives its answers in order, the last one `for_ever` or once, and keeps what was asked."""

    def __init__(self, *answers, for_ever):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.for_ever = list(answers), for_ever
        self.asked, self.paths, self.headers = [], [], []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.paths.append(self.path)
        self.server.headers.append(self.headers)
        answers = self.server.answers
        stays = self.server.for_ever and len(answers) == 1
        status, text = answers[0] if stays else answers.pop(0)
        if status == "wait":
            time.sleep(text)
            return
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def said(content):
    """The answer of a model: a text, or a value as JSON."""
    text = content if isinstance(content, str) else json.dumps(content)
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


@pytest.fixture
def serve(monkeypatch) -> Iterator[Callable[..., Endpoint]]:
    """Starts endpoints that stand while the test lasts; the network counts as on."""
    for name in ("HF_HUB_OFFLINE", "AIR_GAPPED"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as servers:
        yield lambda *answers, for_ever=False: servers.enter_context(
            serving(Endpoint(*answers, for_ever=for_ever))
        )
