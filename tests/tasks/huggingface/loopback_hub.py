"""A hub on 127.0.0.1 that takes pushes: what the real client asks of it, and nothing more."""

import base64
import hashlib
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.serving import serving

TOKEN = "hf_" + "aB3" * 12
LFS = (".safetensors", ".bin", ".jpg", ".png", ".pdf")


class Hub:
    """Its repositories as files by path; `refuse` maps a part of an address to a status."""

    def __init__(self):
        self.repositories, self.private, self.blobs, self.requests = {}, {}, {}, []
        self.refuse, self.lose = {}, set()
        self.url = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def answer(self, value, status=200, headers=()):
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in [("Content-Length", str(len(content))), *headers]:
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(content)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def refused(self):
        self.hub.requests.append(f"{self.command} {self.path}")
        reasons = [status for part, status in self.hub.refuse.items() if part in self.path]
        if self.command != "PUT" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            reasons.append(401)  # the address of an upload is its own permission
        if reasons:
            self.body()
            self.answer({"error": "refused"}, reasons[0])
        return bool(reasons)

    def do_GET(self):
        if self.refused():
            return
        if self.path == "/api/whoami-v2":
            self.answer({"name": "anna", "type": "user", "auth": {"accessToken": {"role": "write"}}})
            return
        repository = "/".join(self.path.split("/")[3:5])
        files = self.hub.repositories.get(repository)
        if files is None:
            self.answer({"error": "Repository not found"}, 404, [("X-Error-Code", "RepoNotFound")])
            return
        names = [name for name in files if name not in self.hub.lose]
        self.answer(
            {
                "_id": "1",
                "id": repository,
                "modelId": repository,
                "sha": "a" * 40,
                "private": self.hub.private[repository],
                "siblings": [{"rfilename": name} for name in names],
            }
        )

    def do_PUT(self):
        if self.refused():
            return
        content = self.body()
        self.hub.blobs[hashlib.sha256(content).hexdigest()] = content
        self.answer(b"", headers=[("ETag", '"1"')])

    def do_POST(self):
        if self.refused():
            return
        content = self.body()
        if self.path == "/api/repos/create":
            self.create(json.loads(content))
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            names = [one["path"] for one in json.loads(content)["files"]]
            modes = [
                {
                    "path": name,
                    "uploadMode": "lfs" if name.endswith(LFS) else "regular",
                    "shouldIgnore": False,
                }
                for name in names
            ]
            self.answer({"files": modes})
        elif self.path.endswith("/info/lfs/objects/batch"):
            self.batch(json.loads(content))
        elif "/commit/" in self.path:
            self.commit(content)
        else:
            self.answer({"error": f"unknown {self.path}"}, 404)

    def create(self, wanted):
        name = f"{wanted.get('organization') or 'anna'}/{wanted['name']}"
        if name in self.hub.repositories:
            self.answer({"error": "exists", "url": f"{self.hub.url}/{name}"}, 409)
            return
        self.hub.repositories[name], self.hub.private[name] = (
            {},
            bool(wanted.get("private") or wanted.get("visibility") == "private"),
        )
        self.answer({"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def batch(self, wanted):
        objects = [
            {
                "oid": one["oid"],
                "size": one["size"],
                "actions": {"upload": {"href": f"{self.hub.url}/upload/{one['oid']}", "header": {}}},
            }
            for one in wanted["objects"]
        ]
        self.answer({"transfer": "basic", "objects": objects})

    def commit(self, content):
        repository = "/".join(self.path.split("/")[3:5])
        for line in content.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                self.hub.repositories[repository][value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "deletedFile":
                del self.hub.repositories[repository][value["path"]]
            elif entry["key"] == "lfsFile":
                self.hub.repositories[repository][value["path"]] = self.hub.blobs[value["oid"]]
        commit = {"commitOid": "a" * 40, "commitUrl": f"{self.hub.url}/{repository}/commit/{'a' * 40}"}
        self.answer({**commit, "success": True, "hookOutput": ""})


@contextmanager
def loopback_hub(monkeypatch):
    """A running hub that the client of this process talks to, with a token that the hub knows."""
    from huggingface_hub import constants, hf_api

    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    for module in (hf_api, constants):
        monkeypatch.setattr(module, "ENDPOINT", hub.url, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serving(server):
        yield hub
