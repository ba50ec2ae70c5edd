import os
from pathlib import Path

import pytest

from blocks.containers.attempts import make_results, result_folders
from blocks.containers.plan import Launcher
from blocks.runtime import ActionRequest


def request(folder, *results):
    return ActionRequest(
        category="embedding",
        argv=["image_embeddings"],
        image="",
        log_file=folder / "out/logs/a.log",
        results=[folder / one for one in results],
    )


def test_the_outermost_folders_and_those_of_files(tmp_path):
    asked = request(tmp_path, "out", "out/train", "out/train/model.onnx", "other/a.parquet")
    assert result_folders(asked) == [tmp_path / "other", tmp_path / "out"]
    assert result_folders(request(tmp_path)) == [tmp_path / "out/logs"]


def test_a_folder_with_a_point_in_its_name_is_a_folder(tmp_path):
    (tmp_path / "run_1.5").mkdir()
    assert result_folders(request(tmp_path, "run_1.5")) == [tmp_path / "run_1.5"]


def test_folders_are_made_before_docker_would(tmp_path):
    launcher = Launcher(os.getuid(), os.getgid(), (), Path("/"), offline=False)
    make_results(request(tmp_path, "out", "other/a.parquet"), f"{os.getuid()}:{os.getgid()}", launcher)
    assert (tmp_path / "out/logs").is_dir()
    assert (tmp_path / "other").is_dir()
    assert not (tmp_path / "other/a.parquet").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_root_gives_what_is_its_own_and_nothing_else(tmp_path):
    (tmp_path / "out").mkdir()
    for name, owner in (("mine", 0), ("theirs", 777)):
        (tmp_path / "out" / name).touch()
        os.chown(tmp_path / "out" / name, owner, owner)
    (tmp_path / "elsewhere").touch()
    (tmp_path / "out/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/neighbour").touch()
    launcher = Launcher(0, 0, (), Path("/"), offline=False)
    make_results(request(tmp_path, "out", "other/a.parquet"), "123:124", launcher)
    owners = {
        str(path.relative_to(tmp_path)): path.lstat().st_uid
        for path in tmp_path.rglob("*")
        if path.name != "logs"
    }
    assert owners == {
        "out": 123,
        "out/mine": 123,
        "out/theirs": 777,
        "out/link": 123,
        "elsewhere": 0,
        "other": 123,
        "other/neighbour": 0,
    }
