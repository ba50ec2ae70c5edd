"""A chat endpoint on loopback that says what a test wants it to say."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Endpoint(ThreadingHTTPServer):
    """Gives its answers in order, the last one for ever, and keeps what was asked."""

    def __init__(self, *answers):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.asked, self.paths, self.headers = list(answers), [], [], []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.paths.append(self.path)
        self.server.headers.append(self.headers)
        answers = self.server.answers
        status, text = answers.pop(0) if len(answers) > 1 else answers[0]
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


@contextmanager
def serving(*answers) -> Iterator[Endpoint]:
    """An endpoint while a test lasts."""
    server = Endpoint(*answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
