"""A hub on 127.0.0.1 that serves data sets: what the real client asks of it to read one, and nothing more."""

import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote

from tests.serving import serving

SHA = "a" * 40


class DatasetHub:
    """`sets` holds the files of each data set by path; `gated` those that are shown to nobody."""

    def __init__(self):
        self.sets, self.gated, self.requests, self.url = {}, set(), [], ""


def entry(path, content):
    return {"type": "file", "path": path, "size": len(content), "oid": SHA}


def listing(files, folder, recursive):
    """What the hub says of a folder: its files, and folders as entries of their own."""
    inside = [path for path in files if path.startswith(f"{folder}/" if folder else "")]
    if recursive:
        return [entry(path, files[path]) for path in inside]
    depth = len(folder.split("/")) if folder else 0
    right_here = [path for path in inside if path.count("/") == depth]
    folders = sorted({"/".join(path.split("/")[: depth + 1]) for path in inside} - set(right_here))
    return [{"type": "directory", "path": path, "oid": SHA, "size": 0} for path in folders] + [
        entry(path, files[path]) for path in right_here
    ]


class Handler(BaseHTTPRequestHandler):
    """Answers for `hub`, which a subclass sets."""

    protocol_version = "HTTP/1.1"
    hub: DatasetHub

    def log_message(self, *_):
        pass

    def answer(self, content, status=200, **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        headers = {"Content-Length": str(len(content)), "ETag": f'"{SHA}"', "X-Repo-Commit": SHA} | headers
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self):
        path = unquote(self.path.split("?")[0])
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.hub.requests.append(f"{self.command} {self.path}")
        found = re.match(r"(/api)?/datasets/([^/]+/[^/]+)(?:/(.*))?$", path)
        if found is None or found[2] not in self.hub.sets:
            self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        elif found[2] in self.hub.gated and (not found[1] or found[3]):
            self.answer({"error": "Access is restricted"}, 401, X_Error_Code="GatedRepo")
        elif found[1]:
            self.describe(found[2], found[3] or "", body)
        else:
            self.send_file(self.hub.sets[found[2]], found[3] or "")

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        self.do_GET()

    def describe(self, name, rest, body):
        files = self.hub.sets[name]
        if rest.startswith("tree/"):
            folder = rest.partition("/")[2].partition("/")[2]
            self.answer(listing(files, folder, "recursive=true" in self.path.lower()))
        elif rest.startswith("paths-info/"):
            asked = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
            self.answer([entry(path, files[path]) for path in asked if path in files])
        elif not rest or rest.startswith("revision/"):
            siblings = [{"rfilename": path} for path in files]
            gated = "manual" if name in self.hub.gated else False
            self.answer({"id": name, "sha": SHA, "siblings": siblings, "private": False, "gated": gated})
        else:
            self.answer({"error": "not served"}, 404)

    def send_file(self, files, rest):
        content = files.get(rest.removeprefix("resolve/").partition("/")[2])
        if content is None:
            self.answer(b"", 404, X_Error_Code="EntryNotFound")
            return
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked:
            start, end = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
            self.answer(content[start : end + 1], 206, Content_Range=f"bytes {start}-{end}/{len(content)}")
        else:
            self.answer(content, Accept_Ranges="bytes")


@contextmanager
def dataset_hub():
    """A hub that answers as long as the block lasts."""
    hub = DatasetHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OfHub", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield hub
