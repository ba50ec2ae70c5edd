import os
import re
import subprocess
import sys

import pytest

from tasks.errors import DeftError
from tasks.run_folder import held, new_run_folder

HOLD = """
import sys, time
from pathlib import Path
from tasks.run_folder import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_folder_of_a_new_run_is_not_made(tmp_path):
    assert new_run_folder(tmp_path / "results").name.startswith("run_")
    assert not (tmp_path / "results").exists()


def test_a_folder_that_another_process_holds_is_refused_by_its_name(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with (
        pytest.raises(DeftError, match=rf"process {holder.pid} on .* works on {tmp_path}"),
        held(tmp_path / "run"),
    ):
        pass
    holder.kill()
    holder.wait()
    with held(tmp_path / "run"):
        assert f"process {os.getpid()} " in (tmp_path / "run" / ".lock.owner").read_text()
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_two_locks_of_one_folder_do_not_touch_each_other(tmp_path):
    with (
        held(tmp_path),
        held(tmp_path, ".other.lock"),
        pytest.raises(DeftError, match=re.escape(str(tmp_path))),
        held(tmp_path, ".other.lock"),
    ):
        pass
