import json
import stat

from blocks.containers.habits import Image
from blocks.containers.jobs import Job, attempt_log, record_file, say_canceled

IMAGE = Image("images.native.engine", "deft/engine:1", "sha256:dd")
TOKEN = "hf_" + "a1B2" * 9


def job(tmp_path):
    container = {
        "command": ["gap_analysis", "vcn_aoi", f"token={TOKEN}"],
        "mounts": [
            {"Source": "/srv/ws", "Target": "/ws", "ReadOnly": False},
            {"Source": "/pool", "Target": "/pool", "ReadOnly": True},
        ],
        "environment": {"HF_TOKEN": TOKEN, "A": "value-of-a"},
    }
    return Job.of("deft-1", IMAGE, container, tmp_path / "vcn_aoi.log")


def test_the_record_holds_names_of_variables_and_no_secret(tmp_path):
    record = job(tmp_path)
    record.write()
    text = (tmp_path / "jobs/vcn_aoi.json").read_text()
    assert TOKEN not in text
    assert "value-of-a" not in text
    written = json.loads(text)
    assert written["environment"] == ["A", "HF_TOKEN"]
    assert written["mounts"] == ["/srv/ws:/ws", "/pool:/pool:ro"]
    assert (written["state"], written["digest"], written["exit_code"]) == ("PENDING", "sha256:dd", None)


def written(tmp_path):
    return json.loads((tmp_path / "jobs/vcn_aoi.json").read_text())


def test_states_from_begin_to_end(tmp_path):
    record = job(tmp_path)
    record.begun("c0ffee")
    assert (written(tmp_path)["state"], written(tmp_path)["container"]) == ("RUNNING", "c0ffee")
    ends = {
        "OK": "COMPLETE",
        "CANCELED": "CANCELED",
        "UNKNOWN": "UNKNOWN",
        "OOM": "ERROR",
        "TIMEOUT": "ERROR",
        "STAGE_FAIL": "ERROR",
    }
    for kind, state in ends.items():
        record.over(kind, 1, f"said {TOKEN}")
        over = written(tmp_path)
        assert (over["state"], over["kind"], over["exit_code"]) == (state, kind, 1)
        assert over["container"] == "c0ffee"
        assert TOKEN not in over["error"]


def test_writing_leaves_one_regular_file(tmp_path):
    record = job(tmp_path)
    record.write()
    record.begun("c0ffee")
    assert [file.name for file in (tmp_path / "jobs").iterdir()] == ["vcn_aoi.json"]
    assert stat.S_ISREG(record_file(tmp_path / "vcn_aoi.log").stat().st_mode)


def test_a_record_that_is_not_here_is_nobodys_error(tmp_path):
    say_canceled(tmp_path / "vcn_aoi.log")
    job(tmp_path).write()
    say_canceled(tmp_path / "vcn_aoi.log")
    assert written(tmp_path)["state"] == "CANCELED"


def test_names_of_the_logs_of_attempts(tmp_path):
    assert attempt_log(tmp_path / "train.log", 1) == tmp_path / "train.attempt1.log"
