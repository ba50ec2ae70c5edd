from pathlib import Path

import pytest

from tasks.dataset.building import new_folder
from tasks.errors import InputError


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(InputError, match="not an empty folder"), new_folder(tmp_path):
        raise AssertionError("not reached")


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a/b") as filling:
        (filling / "file").touch()
    assert (tmp_path / "a/b/file").is_file()


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "b") as filling:
        (filling / "nowhere/file").touch()
    assert list(tmp_path.iterdir()) == []
