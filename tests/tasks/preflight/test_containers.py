"""Sections 1 to 3 with a runtime that starts images: local inspection alone, against a stand-in daemon."""

import pytest

from blocks.versions import ANOMALYGEN, PYT, image_uri
from tasks.preflight.execution import summarise

NATIVE = "images.native.engine"


@pytest.fixture
def started(fake_docker, subject_of):
    """Makes a subject whose runtime starts images on the stand-in daemon."""

    def make(*images, **changes):
        environment = {**fake_docker.environment, **changes.pop("environment", {})}
        return subject_of(
            runtime_name="docker-runtime/gpu",
            starts_images=True,
            images={key: image_uri(key) for key in images},
            environment=environment,
            **changes,
        )

    return make


@pytest.fixture
def findings(look_at):
    """Answers by id, each looked for when it is asked for."""

    class Answers:
        def __init__(self, subject):
            self.subject = subject

        def __getitem__(self, check_id):
            return look_at(self.subject, check_id)

    return Answers


def test_only_reads_reach_the_daemon(started, fake_docker):
    fake_docker.local[image_uri(PYT)] = "amd64"
    summarise(started(PYT, NATIVE))
    assert fake_docker.requests
    assert {method for method, _ in fake_docker.requests} == {"GET"}
    assert {path.split("/")[-1] for _, path in fake_docker.requests} == {"version", "info", "json"}


def test_present_and_missing_images(started, fake_docker, findings):
    fake_docker.local[image_uri(PYT)] = "amd64"
    found = findings(started(PYT, ANOMALYGEN))
    assert [row[2] for row in found["images.present"].rows] == ["PRESENT", "MISSING"]
    assert found["images.present"].outcome == "ok"
    assert found["images.present"].text == f"to be pulled after approval: {ANOMALYGEN}"
    assert found["images.uris"].rows[0] == (PYT, image_uri(PYT))
    host = image_uri(PYT).split("/")[0]
    assert found["credentials.login"].rows == (("registry login after approval", host),)
    assert found["credentials.variables"].rows[0] == ("NGC_KEY", "UNSET", f"pull of {ANOMALYGEN}")
    assert found["host.docker"].rows[0][1].startswith("28.2.2 (amd64)")


def test_a_missing_image_blocks_offline(started, findings):
    found = findings(started(PYT, network_mode="airgap"))
    assert found["images.present"].outcome == "block"
    assert found["credentials.login"].outcome == "not_applicable"


def test_an_image_for_another_cpu_blocks(started, fake_docker, findings):
    fake_docker.local[image_uri(PYT)] = "arm64"
    found = findings(started(PYT))["images.architecture"]
    assert found.outcome == "block"
    assert PYT in found.text


def test_without_a_daemon_it_blocks(subject_of, findings):
    environment = {"PATH": "/nowhere", "DOCKER_HOST": "tcp://127.0.0.1:9"}
    found = findings(subject_of(starts_images=True, images={PYT: image_uri(PYT)}, environment=environment))
    assert found["host.docker"].outcome == "block"
    assert found["images.present"].outcome == "block"


def test_an_old_daemon_blocks(started, fake_docker, findings):
    fake_docker.version = "19.03.5"
    assert findings(started(PYT))["host.docker"].outcome == "block"


def test_a_daemon_without_the_nvidia_runtime_warns(started, fake_docker, findings):
    fake_docker.runtimes = ["runc"]
    assert findings(started(PYT))["host.docker"].outcome == "warn"
    assert findings(started(NATIVE))["host.docker"].outcome == "ok"


def test_the_gpu_of_another_machine_is_looked_at_later(started, findings):
    assert "another machine" in findings(started(PYT))["host.gpu"].text


def test_nvidias_image_needs_a_gpu_here_and_ours_does_not(subject_of, findings):
    environment = {"PATH": "/nowhere", "DOCKER_HOST": "unix:///no/such.sock"}
    for key, outcome in ((PYT, "block"), (NATIVE, "ok")):
        subject = subject_of(starts_images=True, images={key: image_uri(key)}, environment=environment)
        assert findings(subject)["host.gpu"].outcome == outcome


def test_nvidias_image_needs_a_backbone_file(started, findings):
    found = findings(started(PYT))
    assert found["data.backbone"].outcome == "block"
    assert findings(started(NATIVE))["data.backbone"].outcome == "ok"


def test_a_blank_in_a_path_blocks(started, workspace, findings):
    found = findings(started(NATIVE, phase1={"results_dir": workspace / "my results"}))
    assert found["data.paths"].outcome == "block"
    assert "has a blank" in found["data.paths"].text


@pytest.mark.parametrize(("limit", "outcome"), [("0.001", "ok"), ("1e9", "warn")])
def test_disk_space_against_its_limit(started, limit, outcome, findings):
    found = findings(started(NATIVE, environment={"MIN_DISK_GB": limit}))
    assert found["host.disk"].outcome == outcome


def test_the_gpu_probe_is_announced(started, findings):
    assert "after approval and pull" in findings(started(PYT))["images.gpu_probe"].text


def test_a_daemon_is_not_asked_by_an_inline_runtime(subject_of, fake_docker, findings):
    found = findings(subject_of(environment=fake_docker.environment))
    assert found["images.present"].outcome == "not_applicable"
    assert fake_docker.requests == []


def test_the_packages_of_the_engine_are_in_its_image(started, findings):
    assert findings(started(NATIVE))["host.packages"].outcome == "not_applicable"
