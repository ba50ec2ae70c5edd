"""A small sample workspace, a subject on it, and a stand-in for the Docker API that keeps its requests."""

import json
import shutil
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from tasks.dataset.sample import SampleSizes, write_sample_workspace
from tasks.deft.run import LoopSettings, RegressionGate
from tasks.preflight.execution import CHECK_MODULES
from tasks.preflight.look import Look
from tasks.preflight.registry import Answer, checks_for
from tasks.preflight.subject import LoopPhase, SpaceRow, Subject, SweepPhase
from tests.serving import serving

assert CHECK_MODULES  # importing them has registered their checks

SIZES = SampleSizes(
    training=40,
    validation=24,
    kpi=30,
    pool=36,
    training_defects=0.3,
    kpi_defects=0.4,
    pool_defects=0.4,
    crop=32,
)
SPACE = (
    SpaceRow(
        parameter="train.optim.lr", role="searched", range="1e-6 … 1e-4", scale="log", reason="fine-tuning"
    ),
    SpaceRow(parameter="train.num_epochs", role="pinned", range="= 1"),
    SpaceRow(parameter="train.optim.momentum", role="inert", reason="no effect with adamw"),
)
LOOP = LoopSettings(
    metric="FAR < 10% at Recall=100%",
    max_iterations=3,
    min_recall=1.0,
    top_k_per_label=50,
    topn=5,
    knn_metric="cosine",
    min_similarity=0.9,
    filter_by_label=True,
    max_new_rows=None,
    selection="nearest_defects",
    sdg_source="open",
    num_sdg=20,
    pregenerated_dir=None,
    project="board",
    paint_on="pass_sample",
    min_allocation_ratio=0.5,
    regression_gate=RegressionGate(),
    encoder="ChangeNet",
    encoder_path=None,
    num_epochs=None,
    seed=1,
).model_dump(mode="json")


@pytest.fixture(scope="session", name="sample")
def _sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "ws"
    write_sample_workspace(folder, seed=3, sizes=SIZES, lights=("SolderLight",), num_epochs=1)
    return folder


@pytest.fixture
def workspace(sample, tmp_path) -> Path:
    return shutil.copytree(sample, tmp_path / "ws")


def sweep(workspace: Path, **changes) -> SweepPhase:
    return SweepPhase(
        **{
            "algorithm": "bayesian",
            "trials": 6,
            "metric": "far_pct at recall 100 %",
            "direction": "minimise",
            "training_set": "train/base/training_set.csv",
            "validation_set": workspace / "train/base/validation_set.csv",
            "results_dir": workspace / "results",
            "spec_source": "specs/baseline_spec.yaml",
            "space": SPACE,
            **changes,
        }
    )


@pytest.fixture
def subject_of(workspace):
    """Makes the subject of a whole pipeline; `loop`, `phase1`, `phase3` change values of these phases."""

    def make(*, loop=None, phase1=None, phase3=None, **changes) -> Subject:
        settings = {**LOOP, **(loop or {})}
        return Subject(
            **{
                "workspace": workspace,
                "mode": "full",
                "profile": "aoi_changenet",
                "runtime_name": "inline",
                "starts_images": False,
                "parameters": {"phase1": {"trials": 6}, "loop": settings, "phase3": {"trials": 6}, "seed": 1},
                "phase1": sweep(workspace, **(phase1 or {})),
                "loop": LoopPhase(settings=settings, baseline="phase 1", results_dir=workspace / "results"),
                "phase3": sweep(workspace, **{"warm_start": "best of the loop", **(phase3 or {})}),
                "environment": {"PATH": "/nowhere"},
                **changes,
            }
        )

    return make


@pytest.fixture
def look_at():
    """Gives what the one check of an id answers on a subject."""

    def look(subject: Subject, check_id: str) -> Answer:
        (one,) = [one for one in checks_for(subject.mode, subject.profile) if one.id == check_id]
        return one.run(Look(subject))

    return look


@pytest.fixture
def found(subject_of, look_at):
    """Gives what the one check of an id answers on a changed subject."""
    return lambda check_id, **changes: look_at(subject_of(**changes), check_id)


@pytest.fixture
def edit_spec(workspace):
    """Changes the base spec in place."""

    def edit(change) -> None:
        file = workspace / "specs/baseline_spec.yaml"
        spec = yaml.safe_load(file.read_text())
        change(spec)
        file.write_text(yaml.safe_dump(spec, sort_keys=False))

    return edit


class FakeDocker(ThreadingHTTPServer):
    """Answers to the reads of the Docker API; `local` maps an image name to its CPU architecture."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.requests: list[tuple[str, str]] = []
        self.local: dict[str, str] = {}
        self.runtimes = ["nvidia", "runc"]
        self.version = "28.2.2"

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": "/nowhere", "DOCKER_HOST": f"tcp://127.0.0.1:{self.server_port}"}


class _Answers(BaseHTTPRequestHandler):
    server: FakeDocker

    def do_GET(self) -> None:
        path = unquote(self.path).split("?")[0]
        self.server.requests.append(("GET", path))
        if path.endswith("/version"):
            self._send(200, {"Version": self.server.version, "ApiVersion": "1.50", "Arch": "amd64"})
        elif path.endswith("/info"):
            self._send(200, {"Runtimes": {name: {} for name in self.server.runtimes}})
        else:
            name = path.partition("/images/")[2].removesuffix("/json")
            known = self.server.local.get(name)
            body = {"Id": f"sha256:{'ab' * 32}", "Architecture": known, "RepoTags": [name]}
            self._send(200 if known else 404, body if known else {"message": "No such image"})

    def do_POST(self) -> None:
        self.server.requests.append(("POST", self.path))
        self._send(500, {"message": "nothing may be changed"})

    do_PUT = do_DELETE = do_HEAD = do_POST  # noqa: N815 - names that http.server asks for

    def _send(self, status: int, body) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_) -> None:
        """Say nothing."""


@pytest.fixture
def fake_docker():
    with serving(FakeDocker()) as server:
        yield server
