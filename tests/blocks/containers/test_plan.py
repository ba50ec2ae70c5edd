import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.containers.habits import Image
from blocks.containers.plan import (
    SCRATCH,
    Launcher,
    Variant,
    binds,
    check,
    container_of,
    environment_of,
    name_of,
    outside,
)
from blocks.containers.settings import ContainerSettings
from blocks.runtime import ActionRequest

DATA_SERVICES = Image("images.tao_toolkit.data_services", "registry.test/ds:1", "sha256:aa")
PYT = Image("images.tao_toolkit.pyt", "registry.test/pyt:1", "sha256:bb")
ANOMALYGEN = Image("images.metropolis_sdg.paidf_anomalygen", "registry.test/ag:1", "sha256:cc")
NATIVE = Image("images.native.engine", "deft/engine:1", "sha256:dd")


@pytest.fixture
def launcher(tmp_path):
    return Launcher(uid=1000, gid=1000, groups=(1000, 44), folder=tmp_path / "ws", offline=False)


@pytest.fixture
def asked(tmp_path):
    (tmp_path / "ws/out").mkdir(parents=True)

    def request(category="gap_analysis", **changes):
        out = tmp_path / "ws/out"
        values = {
            "category": category,
            "argv": ["vcn_aoi", "-e", str(out / "vcn_aoi_spec.yaml")],
            "image": "",
            "log_file": out / "vcn_aoi.log",
            "key": "k1",
            "paths": {"inference_csv": tmp_path / "ws/inference.csv"},
            "results": [out],
        }
        return ActionRequest(**{**values, **changes})

    return request


@pytest.fixture
def settings(tmp_path):
    def made(**changes):
        return ContainerSettings(**{"mounts": [str(tmp_path / "ws")], **changes})

    return made


def planned(request, settings, image, launcher, credentials=None):
    variant = Variant.first(request, settings, image)
    return container_of(request, settings, image, launcher, variant, credentials or {})


def test_golden_container_of_our_own_engine(asked, settings, launcher, tmp_path):
    request = asked()
    container = planned(request, settings(), NATIVE, launcher)
    environment, log = container.pop("environment"), container.pop("log_config")
    assert container == {
        "image": "sha256:dd",
        "command": ["gap_analysis", *request.argv],
        "mounts": [
            {"Target": f"{tmp_path}/ws", "Source": f"{tmp_path}/ws", "Type": "bind", "ReadOnly": False}
        ],
        "working_dir": f"{tmp_path}/ws",
        "user": "1000:1000",
        "cap_add": [],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "group_add": ["1000", "44"],
        "init": True,
        "read_only": True,
        "tmpfs": {SCRATCH: "rw,exec,nosuid,nodev,mode=1777"},
        "network_mode": "bridge",
        "ipc_mode": "private",
        "shm_size": "8g",
        "mem_limit": None,
        "nano_cpus": None,
        "device_requests": [],
    }
    assert (environment["USER"], environment["HOME"]) == ("deft", SCRATCH)
    assert environment["TELEMETRY_OPT_OUT"] == "yes"
    assert log == {"Type": "json-file", "Config": {}}


@pytest.mark.parametrize(
    ("image", "category", "expected"),
    [
        (DATA_SERVICES, "gap_analysis", {"ipc_mode": "host", "shm_size": None, "read_only": False}),
        (PYT, "visual_changenet", {"ipc_mode": "private", "shm_size": "8g", "read_only": False}),
        (ANOMALYGEN, "anomalygen", {"ipc_mode": "host", "shm_size": None, "working_dir": None}),
        (NATIVE, "gap_analysis", {"ipc_mode": "private", "shm_size": "8g", "read_only": True}),
    ],
)
def test_golden_differences_by_image(image, category, expected, asked, settings, launcher):
    container = planned(asked(category), settings(), image, launcher)
    assert {name: container[name] for name in expected} == expected
    assert container["cap_drop"] == ["ALL"]
    assert "privileged" not in container


def test_changenet_never_has_the_shared_memory_of_the_host(asked, settings, launcher):
    for image in (PYT, NATIVE):
        container = planned(asked("visual_changenet"), settings(ipc_host=True), image, launcher)
        assert container["ipc_mode"] == "private"
    assert planned(asked(), settings(ipc_host=True), NATIVE, launcher)["ipc_mode"] == "host"


def test_anomalygen_gets_the_passwd_file_and_its_path(asked, settings, launcher):
    container = planned(asked("anomalygen"), settings(), ANOMALYGEN, launcher)
    assert [(bind["Source"], bind["ReadOnly"]) for bind in container["mounts"][1:]] == [
        ("/etc/passwd", True),
        ("/etc/group", True),
    ]
    assert container["environment"]["PYTHONPATH"] == "/workspace/paidf-anomalygen"


@pytest.mark.parametrize(
    ("gpus", "image", "computes", "expected"),
    [
        ("", PYT, True, None),
        ("all", NATIVE, False, None),
        ("all", NATIVE, True, (-1, [])),
        ("all", DATA_SERVICES, False, (-1, [])),
        ("0,1", PYT, True, (0, ["0", "1"])),
        ("GPU-1a2b", PYT, True, (0, ["GPU-1a2b"])),
    ],
)
def test_gpus_go_to_those_who_need_them(gpus, image, computes, expected, asked, settings, launcher):
    found = planned(asked(gpu=computes), settings(gpus=gpus), image, launcher)["device_requests"]
    assert [(one["Count"] or 0, one["DeviceIDs"]) for one in found] == ([expected] if expected else [])


def test_air_gap_takes_the_network_and_the_credentials_away(asked, settings, launcher):
    offline = Launcher(1000, 1000, (), launcher.folder, offline=True)
    credentials = {"HF_TOKEN": "secret"}
    online = planned(asked(), settings(network="host"), NATIVE, launcher, credentials)
    assert (online["network_mode"], online["environment"]["HF_TOKEN"]) == ("host", "secret")
    container = planned(asked(), settings(network="host"), NATIVE, offline, credentials)
    assert container["network_mode"] == "none"
    assert "HF_TOKEN" not in container["environment"]
    assert container["environment"]["HF_HUB_OFFLINE"] == "1"


def test_air_gap_is_decided_by_the_block_then_by_the_environment(monkeypatch):
    for name in ("AIR_GAPPED", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    assert not Launcher.current(None).offline
    monkeypatch.setenv("AIR_GAPPED", "0")
    assert not Launcher.current(None).offline
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert Launcher.current(None).offline
    assert not Launcher.current(False).offline
    assert Launcher.current(True).offline


def test_own_variables_win_over_the_defaults(settings, launcher):
    found = environment_of(settings(environment={"HF_HOME": "/ws/hf"}), NATIVE, launcher, {})
    assert found["HF_HOME"] == "/ws/hf"


def test_limits_and_root(asked, settings, launcher):
    own = settings(memory="4g", cpus=1.5, user="0:0", allow_root=True)
    container = planned(asked(), own, NATIVE, launcher)
    assert (container["mem_limit"], container["nano_cpus"]) == ("4g", 1_500_000_000)
    assert (container["user"], container["cap_add"], container["group_add"]) == ("0:0", ["DAC_OVERRIDE"], [])


def test_a_path_outside_the_mounts_is_refused_by_name(asked, settings, launcher, tmp_path):
    request = asked(paths={"pool_parquet": tmp_path / "elsewhere/pool.parquet"})
    with pytest.raises(ValueError, match=r"pool_parquet: .*elsewhere/pool.parquet lies in no mount"):
        check(request, settings(), NATIVE, launcher)


def test_spec_file_log_and_results_must_lie_in_mounts_too(asked, settings, launcher, tmp_path):
    for changes, name in (
        ({"argv": ["vcn_aoi", "-e", "/elsewhere/spec.yaml"]}, "spec file"),
        ({"log_file": tmp_path / "x.log"}, "log folder"),
        ({"results": [tmp_path / "results"]}, "results folder"),
    ):
        with pytest.raises(ValueError, match=f"{name}.* lies in no mount"):
            check(asked(**changes), settings(), NATIVE, launcher)


def test_a_link_that_leads_out_of_the_mounts_is_refused(asked, settings, launcher, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "ws/link").symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match=r"images_dir: .*ws/link/a leads to .*outside/a"):
        check(asked(paths={"images_dir": tmp_path / "ws/link/a"}), settings(), NATIVE, launcher)
    (tmp_path / "ws/images").mkdir()
    (tmp_path / "ws/images/a.png").symlink_to(tmp_path / "outside/a.png")
    with pytest.raises(ValueError, match=r"images_dir: .*ws/images/a.png leads to"):
        check(asked(paths={"images_dir": tmp_path / "ws/images"}), settings(), NATIVE, launcher)
    check(asked(), settings(mounts=[str(tmp_path / "ws"), str(tmp_path / "outside")]), NATIVE, launcher)


def test_dots_do_not_lead_out_of_a_mount(asked, settings, launcher, tmp_path):
    request = asked(paths={"images_dir": Path(f"{tmp_path}/ws/../other")})
    with pytest.raises(ValueError, match="images_dir"):
        check(request, settings(), NATIVE, launcher)


def test_results_in_a_read_only_mount_are_refused(asked, settings, launcher, tmp_path):
    own = settings(mounts=[str(tmp_path / "ws"), str(tmp_path / "ws/out") + ":ro"])
    with pytest.raises(ValueError, match="its mount is read only"):
        check(asked(), own, NATIVE, launcher)
    writable = settings(mounts=[f"{tmp_path}/ws:ro", str(tmp_path / "ws/out")])
    check(asked(), writable, NATIVE, launcher)


def test_blanks_are_refused_for_data_services_only(asked, settings, launcher, tmp_path):
    request = asked(paths={"images_dir": tmp_path / "ws/my images"})
    with pytest.raises(ValueError, match=r"images_dir: .* has a blank"):
        check(request, settings(), DATA_SERVICES, launcher)
    check(request, settings(), PYT, launcher)


def test_root_is_refused_unless_allowed(asked, settings, tmp_path):
    root = Launcher(0, 0, (0,), tmp_path, offline=False)
    with pytest.raises(ValueError, match="containers would run as root"):
        check(asked(), settings(), NATIVE, root)
    with pytest.raises(ValueError, match="containers would run as root"):
        check(asked(), settings(user="0:0"), NATIVE, root)
    check(asked(), settings(allow_root=True), NATIVE, root)
    check(asked(), settings(user="1000:1000"), NATIVE, root)


def test_a_secret_on_the_command_line_is_refused(asked, settings, launcher):
    token = "hf_" + "a1B2" * 9
    with pytest.raises(ValueError, match=r".") as caught:
        check(asked(argv=["vcn_aoi", f"token={token}"]), settings(), NATIVE, launcher)
    assert token not in str(caught.value)


def test_air_gap_refuses_what_fetches(asked, settings, tmp_path):
    offline = Launcher(1000, 1000, (), tmp_path, offline=True)
    with pytest.raises(ValueError, match="curl"):
        check(asked("bash", argv=["-c", "curl http://x"]), settings(), NATIVE, offline)


@pytest.mark.parametrize("uri", ["a;rm -rf /", "$(id)", "a b", "--privileged", "a:1\n", "'a'"])
def test_an_image_reference_that_is_none_is_refused(uri, asked, settings, launcher):
    with pytest.raises(ValueError, match=r"."):
        check(asked(), settings(), Image("images.native.engine", uri, "sha256:ee"), launcher)


@given(st.lists(st.sampled_from(["a", "b", "..", "ws", "."]), max_size=8))
def test_a_path_is_accepted_exactly_if_it_lies_in_a_mount(parts):
    path = Path("/nowhere", *parts)
    real = Path(os.path.normpath(path))
    request = ActionRequest(
        category="c", argv=["a"], image="", log_file=Path("/nowhere/ws/a.log"), paths={"x": path}
    )
    settings = ContainerSettings(mounts=["/nowhere/ws", "/nowhere/a/b:ro"])
    launcher = Launcher(1, 1, (), Path("/"), offline=False)
    covered = any(real.is_relative_to(one) for one in ("/nowhere/ws", "/nowhere/a/b"))
    if covered:
        check(request, settings, NATIVE, launcher)
    else:
        with pytest.raises(ValueError, match="x: "):
            check(request, settings, NATIVE, launcher)


def test_the_name_is_of_the_work(asked):
    request = asked()
    assert name_of(request, NATIVE) == name_of(asked(), NATIVE)
    others = [
        name_of(request, PYT),
        name_of(asked(key="k2"), NATIVE),
        name_of(asked(argv=["vlm_bcq"]), NATIVE),
    ]
    assert len({name_of(request, NATIVE), *others}) == 4
    assert name_of(asked(key=""), NATIVE) != name_of(asked(key=""), NATIVE)


def test_a_flow_in_a_container_names_the_folders_of_the_host(settings, tmp_path):
    own = settings(mounts=["/data/ws"], host_paths={"/data": "/srv/aoi", "/data/ws": "/mnt/ws"})
    assert outside(Path("/data/pool/a"), own) == "/srv/aoi/pool/a"
    assert [(one["Source"], one["Target"]) for one in binds(own)] == [("/mnt/ws", "/data/ws")]


def test_a_mount_that_is_a_link_is_seen_by_both_names(settings, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    targets = {one["Target"] for one in binds(settings(mounts=[str(tmp_path / "link")]))}
    assert targets == {str(tmp_path / "link"), str(tmp_path / "real")}
