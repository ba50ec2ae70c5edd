"""A registry that wants a login, behind an engine of three answers."""

import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tasks.errors import InputError, StageFailed
from tasks.huggingface.containers import build_image
from tests.serving import serving
from tests.tasks.huggingface.finished_project import CONFIG

REFUSAL = "unauthorized: authentication required"


class Engine(BaseHTTPRequestHandler):
    """Builds for who is logged in to the registry of the base image."""

    def do_GET(self):
        self.answer({"ApiVersion": "1.41"} if self.path == "/version" else {"Id": "sha256:abc", "Config": {}})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.endswith("/auth"):
            self.server.logins.append(json.loads(body))
            return self.answer({"Status": "Login Succeeded"})
        known = json.loads(base64.b64decode(self.headers.get("X-Registry-Config", "e30=")))
        built = known.get("nvcr.io", {}).get("password") == "sesame"
        return self.answer({"stream": "Successfully built abc\n"} if built else {"error": self.server.error})

    def answer(self, value):
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def engine(tmp_path, monkeypatch):
    (tmp_path / "logs").mkdir()
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    old = base64.b64encode(b"$oauthtoken:expired").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"nvcr.io": {"auth": old}}}))
    monkeypatch.delenv("NGC_KEY", raising=False)
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Engine)) as server:
        server.logins, server.error = [], REFUSAL
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
        yield server


def test_a_registry_that_refuses_is_asked_again_with_the_key(engine, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"NGC_KEY \(to pull the image"):
        build_image(tmp_path, CONFIG)
    assert not engine.logins
    monkeypatch.setenv("NGC_KEY", "sesame")
    assert build_image(tmp_path, CONFIG) == "sha256:abc"
    assert [(one["username"], one["serveraddress"]) for one in engine.logins] == [("$oauthtoken", "nvcr.io")]
    assert "sesame" not in (tmp_path / "logs/build.log").read_text()


@pytest.mark.parametrize(
    ("base", "error"), [("docker.io/library/python:3.12", REFUSAL), (CONFIG["ngc_image"], "no space left")]
)
def test_another_failure_needs_no_key(engine, tmp_path, monkeypatch, base, error):
    monkeypatch.setenv("NGC_KEY", "sesame")
    engine.error = error
    with pytest.raises(StageFailed, match=f"was not built: {error}"):
        build_image(tmp_path, CONFIG | {"ngc_image": base})
    assert not engine.logins
