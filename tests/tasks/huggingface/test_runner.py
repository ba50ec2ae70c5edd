"""Commands as processes of this machine, and as containers of a real engine."""

import os
import signal
import subprocess
import threading
import time

import pytest

from tasks.artifacts import write_json
from tasks.errors import DeftError, InputError
from tasks.huggingface.commands import Command, build_line, commands_of, docker_line
from tasks.huggingface.containers import DockerRunner
from tasks.huggingface.runner import RUNNING, ProcessRunner, _began, fresh_log, on_visible
from tests.tasks.huggingface.finished_project import CONFIG

SCRIPT = """
import os, subprocess, sys, time
print("hello from", os.getcwd(), flush=True)
print(*(f"{n}={v}" for n, v in sorted(os.environ.items())), sep="\\n", flush=True)
if "--child" in sys.argv:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print("child", child.pid, flush=True)
if "--sleep" in sys.argv:
    for number in range(600):
        print("{'loss': 'nan', 'epoch': '%d'}" % number, flush=True)
        time.sleep(0.05)
print("to stderr", file=sys.stderr)
sys.exit(3 if "--fail" in sys.argv else 0)
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    return tmp_path


def command(*words, **more):
    return Command(name="train", arguments=("train.py", *words), log="logs/train.log", **more)


def run(project, one, limit=30, watch=None, runner=None):
    runner = runner or ProcessRunner()
    runner.prepare(project, CONFIG)
    return runner.run(one, project, CONFIG, limit_seconds=limit, watch=watch)


def test_log_status_and_folders(project):
    done = run(project, command())
    assert (done.status, done.stopped) == (0, None)
    assert done.log == project / "logs/train.log"
    assert f"hello from {project}" in done.text()
    assert "to stderr" in done.text()
    assert {"logs", "reports", "data", "checkpoints"} <= {one.name for one in project.iterdir()}
    assert run(project, command("--fail")).status == 3
    assert "hello" in (project / "logs/train.1.log").read_text()


def test_environment_without_secrets(project, monkeypatch):
    for name in ("PREFECT_API_KEY", "AWS_SECRET_ACCESS_KEY", "NGC_KEY", "WANDB_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "sesame")
    text = run(project, command(environment={"WANDB_MODE": "disabled"})).text()
    assert "HF_TOKEN=sesame" in text
    assert "WANDB_MODE=disabled" in text
    assert f"HF_HOME={project}/.cache/huggingface" in text or "HF_HOME" in os.environ
    assert text.count("sesame") == 1
    assert "WANDB_API_KEY=sesame" in run(project, command(passed=("WANDB_API_KEY",))).text()


def child_of(done):
    return int(next(line for line in done.text().splitlines() if line.startswith("child")).split()[1])


def gone(process):
    for _ in range(50):
        try:
            with open(f"/proc/{process}/stat") as stat:  # noqa: PTH123
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False


def test_time_limit_ends_it_and_its_children(project):
    done = run(project, command("--sleep", "--child"), limit=1.5)
    assert done.stopped == "its time was over"
    assert done.status != 0
    assert done.seconds < 30
    assert gone(child_of(done))


def test_watch_ends_it(project):
    done = run(project, command("--sleep"), watch=lambda text: "loss is nan" if "nan" in text else None)
    assert done.stopped == "loss is nan"
    assert done.seconds < 30


def test_stop_from_outside(project):
    runner = ProcessRunner()
    threading.Timer(1, runner.stop).start()
    done = run(project, command("--sleep"), runner=runner)
    assert done.status != 0
    with pytest.raises(DeftError, match="being ended"):
        run(project, command(), runner=runner)


def test_without_gpus(project):
    assert "CUDA_VISIBLE_DEVICES=\n" in run(project, command(), runner=ProcessRunner(gpus=False)).text()
    settings = DockerRunner("r1", user="1:1").settings(command(), project, CONFIG | {"gpu_count": 0})
    assert "device_requests" not in settings
    assert "--gpus" not in docker_line(command(), CONFIG | {"gpu_count": 0})


def test_a_command_that_its_killed_run_left_is_ended(project):
    left = subprocess.Popen(["sleep", "60"], start_new_session=True)
    began = _began(left.pid)
    write_json(project / RUNNING, {"pid": left.pid, "began": "1"})
    run(project, command())
    assert left.poll() is None, "another process that has its number by now"
    write_json(project / RUNNING, {"pid": left.pid, "began": began})
    run(project, command())
    assert left.wait(5) == -signal.SIGKILL
    assert not (project / RUNNING).exists()


def test_no_such_python(project, tmp_path):
    with pytest.raises(InputError, match="no Python"):
        ProcessRunner(tmp_path / "none").prepare(project, CONFIG)


def test_a_python_without_the_package_that_the_training_reports_to(project, caplog):
    (project / "requirements.txt").write_text("# some\nnumpy<3\nno-such-package\nnot.there>=1\n")
    ProcessRunner().prepare(project, CONFIG)
    assert caplog.messages[-1].endswith("lacks of requirements.txt: no-such-package, not.there")
    with pytest.raises(InputError, match="lacks no-such-package; pip"):
        ProcessRunner().prepare(project, CONFIG | {"report_to": "no-such-package"})
    (project / "requirements.txt").write_text("numpy\n")
    ProcessRunner().prepare(project, CONFIG | {"emit_unit_tests": True})


@pytest.mark.parametrize(("named", "processes"), [(None, 4), ("0", 1), ("2,3", 2), ("", 1), ("0,1,2,3,4", 4)])
def test_one_process_for_each_gpu_that_is_seen(monkeypatch, named, processes):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert on_visible(command(processes=4)).processes == processes


def test_logs_are_kept(tmp_path):
    for number in range(3):
        fresh_log(tmp_path / "a.log").write_text(str(number))
    assert [(tmp_path / f"a{part}.log").read_text() for part in ("", ".1", ".2")] == ["2", "0", "1"]


def test_the_list_of_commands():
    names = list(commands_of(CONFIG))
    assert names == ["prepare", "smoke", "baseline", "train", "evaluate", "infer"]
    lora = commands_of(CONFIG | {"use_lora": True, "skip_baseline": True, "gpu_count": 4, "max_steps": 30})
    assert list(lora) == ["prepare", "smoke", "train", "merge", "evaluate", "infer"]
    assert lora["train"].argv()[:4] == ["python", "-m", "torch.distributed.run", "--nproc_per_node=4"]
    assert lora["train"].argv()[-2:] == ["--max_steps", "30"]
    assert lora["train"].shm_size == "32g"
    assert lora["merge"].shm_size is None
    assert "checkpoints/merged" in lora["evaluate"].arguments
    report = commands_of(CONFIG | {"emit_report": True})
    assert list(report)[-2:] == ["infer", "report"]
    assert report["report"].passed == ()
    tests = commands_of(CONFIG | {"emit_unit_tests": True})
    assert list(tests)[:3] == ["prepare", "smoke", "tests"]
    assert tests["tests"].argv()[:5] == ["python", "-m", "pytest", "-q", "tests"]
    local = commands_of(CONFIG | {"dataset_id": None, "local_dataset_path": "/data/screws"})
    assert "-v /data/screws:/data/screws:ro" in docker_line(local["prepare"], CONFIG)
    with pytest.raises(InputError, match="model_id"):
        commands_of({})


def test_lines_for_a_person():
    assert build_line(CONFIG) == (
        "docker build -t run-tiny-vit-screws:latest --build-arg NGC_IMAGE=nvcr.io/nvidia/pytorch:25.01-py3 ."
    )
    line = docker_line(commands_of(CONFIG)["smoke"], CONFIG)
    for part in ("--rm", "--gpus all", "--shm-size=16g", "--entrypoint /bin/bash", "-e HF_TOKEN ",
                 '--user "$(id -u):$(id -g)"', "-e WANDB_MODE=disabled", "-e HF_HOME=/workspace/.cache",
                 "pipefail", "tee logs/smoke.log"):  # fmt: skip
        assert part in line


def test_container_settings(project, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "sesame")
    runner = DockerRunner("r1", user="1000:1000")
    one = commands_of(CONFIG | {"local_dataset_path": str(project)})["prepare"]
    settings = runner.settings(one, project, CONFIG)
    assert settings["user"] == "1000:1000"
    assert settings["shm_size"] == "16g"
    assert settings["environment"]["HF_TOKEN"] == os.environ["HF_TOKEN"]
    assert settings["environment"]["HF_HOME"] == "/workspace/.cache/huggingface"
    assert "sesame" not in " ".join(settings["command"])
    assert settings["volumes"][str(project)]["mode"] == "ro"
    assert settings["device_requests"][0]["Capabilities"] == [["gpu"]]
    with pytest.raises(InputError, match="root"):
        DockerRunner("r1", user="0:0")


@pytest.fixture
def container_project(project, docker_engine, python_base):
    config = CONFIG | {"model_short_name": "runner-test", "ngc_image": python_base}
    (project / "Dockerfile").write_text(
        'ARG NGC_IMAGE\nFROM ${NGC_IMAGE}\nENTRYPOINT ["/bin/bash","-c"]\nWORKDIR /workspace\n'
    )
    project.chmod(0o777)
    yield project, config
    docker_engine.images.remove("run-runner-test:latest", force=True)


@pytest.mark.slow
def test_a_container_of_the_built_image(container_project):
    project, config = container_project
    runner = DockerRunner("r1", user="1000:1000", gpus=False)
    runner.prepare(project, config)
    for name in ("logs", "reports", "data", "checkpoints"):
        (project / name).chmod(0o777)

    def of(*words, **more):
        return runner.run(command(*words), project, config, limit_seconds=more.pop("limit", 60), **more)

    done = of("--fail")
    assert done.status == 3, done.text()
    assert "hello from /workspace" in done.text()
    assert "HOME=/workspace" in done.text()
    assert done.log.stat().st_uid == 1000
    late = of("--sleep", limit=3)
    assert (late.stopped, late.status) == ("its time was over", 128 + signal.SIGTERM)
    watched = of("--sleep", watch=lambda text: "nan" if "nan" in text else None)
    assert watched.stopped == "nan"


@pytest.mark.slow
def test_a_build_that_fails(container_project):
    project, config = container_project
    file = project / "Dockerfile"
    text = file.read_text()
    DockerRunner("r1", user="1000:1000").prepare(project, config)
    file.write_text(text + "RUN false\n")
    with pytest.raises(DeftError, match="was not built"):
        DockerRunner("r1", user="1000:1000").prepare(project, config)
