from tasks.reports.packaging import package


def test_settings_and_one_log(tmp_path):
    spec, log, other = tmp_path / "spec.yaml", tmp_path / "a.log", tmp_path / "b.log"
    spec.write_text("a: 1\n")
    log.write_text("first\n")
    package(tmp_path, "config", [spec, tmp_path / "absent.yaml"], [log, other])
    assert (tmp_path / "config" / "spec.yaml").read_text() == "a: 1\n"
    assert [one.name for one in (tmp_path / "config").iterdir()] == ["spec.yaml"]
    assert (tmp_path / "run.log").read_text() == "==> a.log <==\nfirst\n"


def test_again_and_again(tmp_path):
    for _ in range(2):
        package(tmp_path, "config", [], [])
    assert (tmp_path / "run.log").read_text() == ""
