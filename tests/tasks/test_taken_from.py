from pathlib import Path

import pytest

from tasks.taken_from import TakenFrom, taken_from


@pytest.mark.parametrize("folder", ["/runs/a", "/a folder, with words", "results/run_1"])
def test_what_is_written_is_read(tmp_path, folder):
    log = tmp_path / "stage.log"
    said = TakenFrom(Path(folder), "brave-otter")
    log.write_text(f"before\n{said}\nafter\n")
    assert taken_from(log) == said


def test_computed_here_or_without_a_log(tmp_path):
    (tmp_path / "stage.log").write_bytes(b"\xff searched\n")
    assert taken_from(tmp_path / "stage.log") is None
    assert taken_from(tmp_path / "none.log") is None
