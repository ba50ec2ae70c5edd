"""The checks of `deft doctor`: on hosts with nothing, with everything, and with programs that misbehave."""

import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import gettempdir
from types import SimpleNamespace

import pytest
import yaml

from blocks.versions import image_uri
from tasks.preflight import doctor_docker, doctor_host, doctor_machine, hardware
from tasks.preflight.doctor import CHECKS, Report, examine, for_native, verdict, write_report
from tasks.preflight.doctor_docker import judged
from tasks.preflight.doctor_host import IMAGES, Host
from tests.serving import serving

NOTHING = {"PATH": "/nowhere", "DOCKER_HOST": "tcp://127.0.0.1:9"}
GOOD = {
    "nvidia-smi": "echo 'NVIDIA H100, 81559, 580.65.06'",
    "nvcc": "echo 'Cuda compilation tools, release 13.0, V13.0.88'",
    "nvidia-ctk": "echo 'NVIDIA Container Toolkit CLI version 1.19.0'",
    "docker": "echo 'Docker version 28.2.2, build e6534b4'",
}
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def programs(tmp_path):
    """Puts programs on a path of their own; gives the environment."""

    def place(**scripts) -> dict[str, str]:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name, script in scripts.items():
            file = folder / name.replace("_", "-")
            file.write_text(f"#!/bin/sh\n{script}\n")
            file.chmod(0o755)
        return {"PATH": f"{folder}:/usr/bin:/bin", "DOCKER_HOST": "tcp://127.0.0.1:9"}

    return place


@pytest.fixture
def everything(programs, fake_docker, tmp_path):
    """A host that has all that NVIDIA's images need."""
    (tmp_path / "results").mkdir()
    for key in IMAGES["nvidia"]:
        fake_docker.local[image_uri(key)] = "amd64"
    environment = {**programs(**GOOD), "DOCKER_HOST": fake_docker.environment["DOCKER_HOST"]}
    return Host(workspace=tmp_path, engine="nvidia", environment=environment)


def rows(report: Report):
    return {one.id: one for one in report.checks}


def row(host, check_id):
    return rows(examine(host))[check_id]


# --- hosts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["native", "nvidia"])
def test_on_a_host_with_nothing_every_check_reports(tmp_path, engine):
    report = examine(Host(workspace=tmp_path, engine=engine, environment=NOTHING))
    found = rows(report)
    assert set(CHECKS) <= set(found)
    assert len(found) == len(CHECKS) + len(IMAGES[engine])
    assert {found[one].status for one in ("gpu.host", "nvidia.toolkit", "docker.daemon", "docker.cli")} == {
        "error"
    }
    assert all(one.detail for one in report.checks)
    assert all("Traceback" not in one.detail and "\n" not in one.detail for one in report.checks)


def test_without_docker_and_gpu_the_native_engine_can_run(tmp_path):
    report = examine(Host(workspace=tmp_path, environment=NOTHING))
    assert report.stopped_by == []
    assert verdict(report) == (
        "the native engine: can run here, in this process (InlineRuntime), without Docker or GPU"
    )


def test_without_docker_and_gpu_nvidias_images_cannot_and_the_native_engine_is_offered(tmp_path):
    report = examine(Host(workspace=tmp_path, engine="nvidia", environment=NOTHING))
    assert {"gpu.host", "docker.daemon", "image.tao_toolkit.pyt"} <= set(report.stopped_by)
    assert verdict(report).startswith("NVIDIA's images: cannot run here, because of ")
    assert "can run here" in verdict(for_native(report))


def test_on_a_host_with_everything_nvidias_images_can_run(everything, fake_docker):
    report = examine(everything)
    assert report.stopped_by == []
    found = rows(report)
    good = ("gpu.host", "gpu.driver", "cuda.toolkit", "nvidia.toolkit", "docker.cli", "docker.daemon")
    assert [found[one].status for one in (*good, "docker.nvidia_runtime", "images.architecture")] == [
        "ok"
    ] * 8
    assert found["gpu.host"].detail == "NVIDIA H100, 81559 MiB"
    assert found["image.tao_toolkit.pyt"].detail.startswith("PRESENT ")
    assert {method for method, _ in fake_docker.requests} == {"GET"}


def test_nothing_is_left_behind(everything):
    before = sorted(everything.workspace.rglob("*"))
    examine(everything)
    assert sorted(everything.workspace.rglob("*")) == before


def test_report_is_written_whole(everything, tmp_path):
    report = examine(everything)
    value = json.loads(write_report(tmp_path / "host_preflight.json", report).read_text())
    assert value["can_run"] is True
    assert {frozenset(one) for one in value["checks"]} == {
        frozenset({"id", "level", "status", "detail", "remedy"})
    }
    assert [one["id"] for one in value["checks"]] == [one.id for one in report.checks]


def test_no_secret_is_in_the_report(everything, tmp_path):
    planted = dict.fromkeys(doctor_machine.CREDENTIALS, "planted-secret")
    host = Host(
        workspace=tmp_path,
        engine="nvidia",
        environment={**everything.environment, **planted},
        api_url="http://me:planted-secret@127.0.0.1:9/api",
        api_headers={"Authorization": "planted-secret"},
    )
    report = examine(host)
    assert "planted-secret" not in report.model_dump_json()
    assert "planted-secret" not in repr(host)
    assert "NGC_KEY set" in rows(report)["credentials"].detail


# --- programs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "check_id", "script", "status"),
    [
        ("nvidia-ctk", "nvidia.toolkit", "echo 'CLI version 1.18.2'", "error"),
        ("nvidia-ctk", "nvidia.toolkit", "echo nonsense", "unknown"),
        ("nvidia-ctk", "nvidia.toolkit", "exit 3", "unknown"),
        ("nvidia-ctk", "nvidia.toolkit", "head -c 4000 /dev/urandom | tr -d 0-9", "unknown"),
        ("nvcc", "cuda.toolkit", "echo 'release 12.8, V12.8.1'", "warn"),
        ("docker", "docker.cli", "echo 'Docker version 19.03.5'", "error"),
        ("nvidia-smi", "gpu.driver", "echo 'RTX A6000, 49140, 570.1'", "error"),
        ("nvidia-smi", "gpu.driver", "echo 'RTX A6000, 49140, [N/A]'", "unknown"),
        ("nvidia-smi", "gpu.host", "echo 'RTX A6000, plenty, 580.1'", "unknown"),
        ("nvidia-smi", "gpu.host", "echo no devices >&2; exit 9", "unknown"),
        ("nvidia-smi", "gpu.host", "true", "error"),
    ],
)
def test_programs_that_are_old_or_talk_nonsense(programs, tmp_path, name, check_id, script, status):
    environment = programs(**{**GOOD, name: script})
    assert row(Host(workspace=tmp_path, environment=environment), check_id).status == status


def test_program_that_hangs_is_killed_with_all_that_it_started(programs, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_host, "PROGRAM_TIMEOUT", 0.5)
    monkeypatch.setattr(hardware, "SMI_TIMEOUT", 0.5)
    hang = f"sleep 300 & echo $! > {tmp_path}/child; wait"
    host = Host(workspace=tmp_path, environment=programs(nvidia_ctk=hang, nvidia_smi="exec sleep 300"))
    started = time.monotonic()
    found = rows(examine(host))
    assert time.monotonic() - started < 20
    assert found["nvidia.toolkit"].status == found["gpu.host"].status == "unknown"
    assert "gave no answer in 0.5 s" in found["nvidia.toolkit"].detail
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/status")
    assert not child.exists() or "Z (zombie)" in child.read_text()


def test_file_that_is_no_program(programs, tmp_path):
    environment = programs(nvcc="")
    (tmp_path / "bin" / "nvcc").write_bytes(b"\x7fELF\0\0")
    assert row(Host(workspace=tmp_path, environment=environment), "cuda.toolkit").status == "unknown"


# --- the machine ------------------------------------------------------------------------------------


def test_too_little_room(tmp_path):
    host = Host(workspace=tmp_path, engine="nvidia", environment={**NOTHING, "MIN_DISK_GB": "1e9"})
    found = row(host, "results.disk")
    assert (found.status, found.level) == ("warn", "warn")
    assert "MIN_DISK_GB" in found.remedy


def test_limit_that_is_no_number_is_said(tmp_path):
    host = Host(workspace=tmp_path, environment={**NOTHING, "MIN_DISK_GB": "much"})
    assert row(host, "results.disk").status == "unknown"


def test_small_memory_and_shared_memory_warn(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_machine, "LEAST_SHM", 2**60)
    monkeypatch.setattr(doctor_machine, "SUGGESTED_MEMORY_GB", 10**9)
    found = rows(examine(Host(workspace=tmp_path, environment=NOTHING)))
    assert found["memory"].status == found["shm"].status == "warn"
    assert "remount" in found["shm"].remedy


def test_workspace_that_is_not_there_stops_any_engine(tmp_path):
    report = examine(Host(workspace=tmp_path / "no", environment=NOTHING))
    assert report.stopped_by == ["results.writable"]


def test_read_only_results_stop_any_engine():
    # Mode bits do not hold root back; nobody, root included, can make a file in /proc.
    report = examine(Host(workspace=Path("/proc"), environment=NOTHING))
    assert report.stopped_by == ["results.writable"]
    assert rows(report)["results.writable"].remedy.startswith("sudo chown ")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_folder_of_another_user(tmp_path):
    inside = (folder for folder in tmp_path.parents if folder.is_relative_to(gettempdir()))
    for folder in (tmp_path, *inside):
        if folder != Path(gettempdir()):
            folder.chmod(0o755)
    (tmp_path / "results").mkdir(mode=0o755)
    code = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from pathlib import Path; from tasks.preflight.doctor import examine, Host\n"
        f"import os; os.setgid(65534); os.setuid(65534)\n"
        f"host = Host(Path({str(tmp_path)!r}), environment={NOTHING!r})\n"
        "print(examine(host).model_dump_json())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = {one["id"]: one for one in json.loads(done.stdout)["checks"]}
    assert found["results.writable"]["status"] == "error"
    assert "Permission denied" in found["results.writable"]["detail"]
    assert found["results.owner"]["status"] == "warn"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_what_a_container_left_as_another_user_is_named(tmp_path):
    left = tmp_path / "results" / "run_1"
    left.mkdir(parents=True)
    os.chown(left, 10000, 10000)
    found = row(Host(workspace=tmp_path, environment=NOTHING), "results.owner")
    assert (found.status, "run_1" in found.detail) == ("warn", True)
    assert "chown -R" in found.remedy


def test_offline_needs_no_credentials_and_says_by_what(tmp_path):
    found = rows(examine(Host(workspace=tmp_path, environment={**NOTHING, "AIR_GAPPED": "1"})))
    assert found["network.mode"].detail == "airgap, by AIR_GAPPED"
    assert found["credentials"].detail == "not needed offline"


# --- Docker -----------------------------------------------------------------------------------------


def test_missing_images_are_planned_online_and_stop_offline(everything, fake_docker):
    fake_docker.local.clear()
    report = examine(everything)
    assert rows(report)["image.tao_toolkit.pyt"].status == "warn"
    assert rows(report)["image.tao_toolkit.pyt"].remedy.startswith("docker pull ")
    assert rows(report)["credentials"].remedy.startswith("export NGC_KEY")
    assert report.stopped_by == ["image.native.engine"]
    assert rows(report)["image.native.engine"].remedy == "deft image"
    offline = Host(everything.workspace, "nvidia", environment={**everything.environment, "AIR_GAPPED": "1"})
    assert "image.tao_toolkit.pyt" in examine(offline).stopped_by


def test_old_daemon_without_nvidia_runtime_and_images_of_another_cpu(everything, fake_docker):
    fake_docker.version, fake_docker.runtimes = "19.03.5", ["runc"]
    fake_docker.local[image_uri(IMAGES["nvidia"][0])] = "arm64"
    stopped = examine(everything).stopped_by
    assert stopped == ["docker.daemon", "docker.nvidia_runtime", "images.architecture"]


def test_daemon_that_talks_nonsense(everything, fake_docker):
    fake_docker.version = "newest"
    assert row(everything, "docker.daemon").status == "unknown"


def test_versions_file_without_an_image_is_named(everything, tmp_path, monkeypatch):
    versions = tmp_path / "versions.yaml"
    versions.write_text("images: {}\n")
    monkeypatch.setenv("TAO_VERSIONS_FILE", str(versions))
    found = rows(examine(everything))
    assert found["docker.daemon"].status == "ok"
    assert found["image.tao_toolkit.pyt"].status == "unknown"
    assert "has no image under images.tao_toolkit.pyt" in found["image.tao_toolkit.pyt"].detail


def test_socket_that_is_open_to_all_warns(tmp_path):
    socket = tmp_path / "docker.sock"
    socket.touch()
    host = Host(workspace=tmp_path, environment={**NOTHING, "DOCKER_HOST": f"unix://{socket}"})
    socket.chmod(0o666)
    assert row(host, "docker.socket").status == "warn"
    socket.chmod(0o660)
    assert row(host, "docker.socket").status == "ok"
    socket.unlink()
    assert row(host, "docker.socket").status == "error"


def test_without_probe_no_container_is_started(everything):
    found = rows(examine(everything))
    assert {(found[one].level, found[one].status) for one in ("gpu.container", "gpu.arch")} == {
        ("info", "unknown")
    }


def test_probe_that_cannot_be_made_stops_nvidias_images(everything):
    host = Host(everything.workspace, "nvidia", probe=True, environment=everything.environment)
    assert examine(host).stopped_by == ["gpu.container", "gpu.arch"]


def test_image_without_kernels_for_the_gpu_is_understood():
    found = judged(1, "CUDA error: no kernel image is available for execution on the device")
    assert found.status == "error"
    assert "native engine" in found.remedy
    assert judged(0, "GPU 0: NVIDIA H100").status == "ok"


def test_probe_on_a_real_daemon_leaves_no_container(docker_engine, python_base, tmp_path, monkeypatch):
    versions = tmp_path / "versions.yaml"
    versions.write_text(yaml.safe_dump({"images": {"native": {"engine": python_base}}}))
    monkeypatch.setenv("TAO_VERSIONS_FILE", str(versions))
    found = rows(examine(Host(workspace=tmp_path, probe=True)))
    assert found["docker.daemon"].status == "ok"
    assert found["docker.socket"].status in ("ok", "warn")
    assert found["image.native.engine"].detail.startswith(f"PRESENT {python_base}, ")
    assert found["docker.disk"].status in ("ok", "warn", "unknown")
    # This image has no nvidia-smi and no torch: with or without a GPU neither probe can succeed.
    assert found["gpu.container"].status == found["gpu.arch"].status == "error"
    label = {"label": f"deft.doctor={doctor_docker.PROBE}"}
    assert docker_engine.containers.list(all=True, filters=label) == []


# --- Prefect ----------------------------------------------------------------------------------------


class _Api(BaseHTTPRequestHandler):
    """Answers of a Prefect server; `server.answers` maps a path to status and body."""

    def do_GET(self):
        status, body = self.server.answers.get(self.path.removeprefix("/api/"), (404, {}))
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def api(tmp_path):
    """A stand-in for the API of a Prefect server, and a host that is told of it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Api)
    server.answers = {}
    url = f"http://127.0.0.1:{server.server_port}/api"
    with serving(server):
        yield SimpleNamespace(
            answers=server.answers, host=Host(workspace=tmp_path, environment=NOTHING, api_url=url)
        )


def deployment(number, *, active=True, paused=False):
    return {"id": number, "name": f"nightly-{number}", "paused": paused, "schedules": [{"active": active}]}


def test_server_that_is_not_set(tmp_path):
    found = rows(examine(Host(workspace=tmp_path, environment=NOTHING)))
    assert (found["prefect.server"].status, found["prefect.schedules"].status) == ("warn", "unknown")


@pytest.mark.parametrize(
    ("answer", "status"),
    [((200, "3.8.8"), "ok"), ((200, "2.19.0"), "warn"), ((401, {}), "error"), ((500, {}), "error")],
)
def test_server_by_its_answer(api, answer, status, monkeypatch):
    monkeypatch.setattr("tasks.preflight.doctor_server.version", lambda _: "3.8.8")
    api.answers["admin/version"] = answer
    assert row(api.host, "prefect.server").status == status


def test_server_that_is_something_else(api):
    api.answers["admin/version"] = (200, b"<html>")
    assert row(api.host, "prefect.server").status == "unknown"


def test_schedule_without_runs_to_come_is_an_error(api):
    api.answers["deployments/filter"] = (
        200,
        [deployment("1"), deployment("2"), deployment("3", active=False), deployment("4", paused=True)],
    )
    api.answers["flow_runs/filter"] = (200, [{"deployment_id": "1"}])
    found = row(api.host, "prefect.schedules")
    assert found.status == "error"
    assert "nightly-2" in found.detail
    assert "nightly-1" not in found.detail
    api.answers["flow_runs/filter"] = (200, [{"deployment_id": "1"}, {"deployment_id": "2"}])
    assert row(api.host, "prefect.schedules").status == "ok"


def test_real_server(prefect_server, tmp_path):
    from prefect.settings import PREFECT_API_URL

    host = Host(workspace=tmp_path, environment=NOTHING, api_url=PREFECT_API_URL.value())
    found = rows(examine(host))
    assert found["prefect.server"].status == "ok"
    assert found["prefect.schedules"].status in ("ok", "error")
