import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.artifacts import (
    Artifact,
    existing_file,
    log_text,
    only_grown,
    read_json,
    sha256_of_all,
    timestamp_folder,
    write_atomically,
    write_csv,
    write_json,
    write_text,
)
from tasks.errors import InputError


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    file = write_text(tmp_path / "a.txt", "old")

    def fail(stream):
        stream.write(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_atomically(file, fail)
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_json_has_no_number_that_is_not_finite(tmp_path):
    file = write_json(tmp_path / "a.json", {"far": float("nan"), "list": [1.5, float("inf")], "ü": tmp_path})
    assert json.loads(file.read_text()) == {"far": None, "list": [1.5, None], "ü": str(tmp_path)}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_json_keeps_every_finite_float(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("json")
    assert read_json(write_json(folder / "a.json", [value])) == [value]


def test_json_error_names_the_place(tmp_path):
    file = write_text(tmp_path / "a.json", "{")
    with pytest.raises(InputError, match=r"not valid JSON.*line 1"):
        read_json(file)


def test_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        existing_file(tmp_path)


def test_csv_quotes_and_leaves_absent_values_empty(tmp_path):
    file = write_csv(tmp_path / "a.csv", ["x", "y"], [{"x": 'a,"b'}, {"x": 1, "y": 2}])
    assert file.read_bytes() == b'x,y\n"a,""b",\n1,2\n'


def test_artifact_knows_when_it_was_altered_or_deleted(tmp_path):
    artifact = Artifact.of(write_text(tmp_path / "a.txt", "one"))
    assert artifact.intact()
    write_text(artifact.path, "two!")
    assert not artifact.intact()
    artifact.path.unlink()
    assert not artifact.intact()


def test_copied_artifact_keeps_a_relative_link(tmp_path):
    write_text(tmp_path / "model_epoch_000.pth", "weights")
    link = tmp_path / "latest.pth"
    link.symlink_to("model_epoch_000.pth")
    copy = Artifact.of(link).copied_to(tmp_path / "other" / "latest.pth")
    assert str(copy.path.readlink()) == "model_epoch_000.pth"


def test_digest_of_many_files_depends_on_content_and_order(tmp_path):
    a, b = write_text(tmp_path / "a", "1"), write_text(tmp_path / "b", "2")
    assert sha256_of_all([a, b]) != sha256_of_all([b, a])
    assert sha256_of_all([a]) != sha256_of_all([tmp_path / "absent"])


def test_timestamp_folder_is_never_one_that_exists(tmp_path):
    folders = []
    for _ in range(3):
        folder = timestamp_folder(tmp_path, form="%Y")
        folder.mkdir()
        folders.append(folder.name)
    year = folders[0]
    assert folders == [year, f"{year}_1", f"{year}_2"]


@given(st.binary(), st.binary())
def test_a_file_with_more_at_its_end_has_only_grown(tmp_path_factory, content, more):
    file = tmp_path_factory.mktemp("grown") / "a"
    file.write_bytes(content)
    sha256, size = hashlib.sha256(content).hexdigest(), len(content)
    assert only_grown(file, sha256, size)
    file.write_bytes(content + more)
    assert only_grown(file, sha256, size)
    if content:
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:] + more)
        assert not only_grown(file, sha256, size)
        file.write_bytes(content[:-1])
        assert not only_grown(file, sha256, size)
    file.unlink()
    assert not only_grown(file, sha256, size)


def test_text_of_a_log_that_is_absent_or_no_text(tmp_path):
    (tmp_path / "stage.log").write_bytes(b"\xff searched\n")
    assert log_text(tmp_path / "stage.log").endswith(" searched\n")
    assert log_text(tmp_path / "none.log") == ""
