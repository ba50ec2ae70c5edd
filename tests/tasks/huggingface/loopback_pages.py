"""A server on 127.0.0.1 that answers with fixed pages, and the read side of a hub made of them."""

import hashlib
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.serving import serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Served:
    """Pages by path: text, or `(status, headers)`; and the paths that were asked for."""

    def __init__(self):
        self.pages, self.asked, self.url = {}, [], ""

    def model(self, model_id, files, **facts):
        """A model repository as the hub shows it: its description and its files."""
        self.pages[f"/api/models/{model_id}"] = json.dumps(
            {"id": model_id, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files], **facts}
        )
        self.pages |= {f"/{model_id}/resolve/main/{name}": text for name, text in files.items()}

    def refuses(self, model_id, status, code):
        """The hub's answer for a repository that is gated, missing or broken."""
        headers = {"X-Error-Code": code} if code else {}
        self.pages[f"/api/models/{model_id}"] = (status, headers)

    def answer(self, path):
        page = self.pages.get(path.split("?")[0])
        if page is None:
            code = "EntryNotFound" if "/resolve/" in path else "RepoNotFound"
            return 404, {"X-Error-Code": code}, b""
        if isinstance(page, tuple):
            return *page, b""
        content = page.encode()
        return 200, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}, content  # noqa: S324


@contextmanager
def served():
    server = Served()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            server.asked.append(self.path)
            status, headers, content = server.answer(self.path)
            self.send_response(status)
            for name, text in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, text)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}"
    with serving(http):
        yield server
