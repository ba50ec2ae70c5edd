import pytest
from pydantic import ValidationError

from blocks.containers.settings import ContainerSettings


@pytest.mark.parametrize(
    "mount",
    [
        "/",
        "/proc",
        "/sys/fs",
        "/dev",
        "/etc",
        "/run",
        "/var",
        "/var/run",
        "/var/run/docker.sock",
        "/var/lib/docker/volumes",
        "/usr",
        "data",
        "/data/../etc",
        "/data:/host",
        "/data:rw",
    ],
)
def test_mounts_that_no_container_may_see_are_refused(mount):
    with pytest.raises(ValidationError, match="mount"):
        ContainerSettings(mounts=[mount])
    with pytest.raises(ValidationError, match="mount"):
        ContainerSettings(mounts=["/data"], host_paths={"/data": mount})


def test_a_link_to_such_a_folder_is_refused(tmp_path):
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(ValidationError, match="of the host"):
        ContainerSettings(mounts=[str(tmp_path / "link")])


def test_a_file_is_no_mount(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValidationError, match="not a folder"):
        ContainerSettings(mounts=[str(tmp_path / "file")])


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"mounts": []},
        {"shm_size": "much"},
        {"memory": "4 apples"},
        {"gpus": "0;1"},
        {"user": "me"},
        {"cpus": 0},
        {"time_limit_minutes": -1},
        {"network": "container:x"},
        {"host_paths": {"data": "/srv"}},
    ],
)
def test_values_out_of_range_are_refused(values):
    with pytest.raises(ValidationError):
        ContainerSettings(**({"mounts": ["/data"], **values} if values else {}))


def test_ordinary_mounts_are_fine():
    assert ContainerSettings(mounts=["/data", "/srv/pool:ro", "/usr/local/data", "/home/a b"]).mounts
