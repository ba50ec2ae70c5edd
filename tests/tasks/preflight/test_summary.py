"""The summary: its order, its validity, its token, what it covers, and that nothing was touched."""

import hashlib
import json
from dataclasses import replace

import pandas as pd
import pytest

from tasks.errors import DeftError, InputError
from tasks.preflight import registry
from tasks.preflight.execution import summarise
from tasks.preflight.registry import CHECKS, Check, answer, checks_for
from tasks.preflight.render import write
from tasks.preflight.steps import DEFT_STEPS, required
from tasks.preflight.summary import covers_phase, read, ready

MODES = ("full", "loop_only", "automl_only")
PROFILES = ("aoi_changenet", "image_classifier")


def snapshot(folder):
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(folder.rglob("*"))
    }


def failing(look):
    raise ZeroDivisionError("nothing to divide")


@pytest.fixture
def register(monkeypatch):
    """The register, to be changed for one test."""
    checks = list(CHECKS)
    monkeypatch.setattr(registry, "CHECKS", checks)
    return checks


def test_an_unchanged_workspace_is_ready_and_every_check_was_executed(subject_of):
    summary = summarise(subject_of())
    assert [one.id for one in summary.findings if one.outcome not in ("ok", "not_applicable")] == []
    assert {one.id for one in summary.findings} == {one.id for one in checks_for("full", "aoi_changenet")}
    assert [one.section for one in summary.findings] == sorted(one.section for one in summary.findings)
    assert {one.section for one in summary.findings} == set(range(1, 10))
    assert summary.gate_valid
    ready(summary)


def test_nothing_is_touched(subject_of, workspace):
    before = snapshot(workspace)
    summarise(subject_of())
    assert snapshot(workspace) == before


def test_two_looks_at_the_same_give_the_same_token(subject_of):
    assert summarise(subject_of()).token == summarise(subject_of()).token


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": {"phase1": {"trials": 7}}},
        {"loop": {"max_iterations": 4}},
        {"per_job_minutes": 3.0},
        {"resuming": True},
    ],
    ids=["parameter", "loop", "minutes", "resuming"],
)
def test_a_changed_choice_changes_the_token(subject_of, changes):
    assert summarise(subject_of(**changes)).token != summarise(subject_of()).token


@pytest.mark.parametrize("name", ["specs/baseline_spec.yaml", "kpi/testing_set.csv"])
def test_a_changed_file_changes_the_token(subject_of, workspace, name):
    before = summarise(subject_of()).token
    with (workspace / name).open("a") as stream:
        stream.write("\n")
    assert summarise(subject_of()).token != before


def test_a_changed_image_changes_the_token(subject_of, workspace):
    before = summarise(subject_of()).token
    row = pd.read_csv(workspace / "kpi/testing_set.csv", dtype=str).iloc[0]
    golden = workspace / "images" / row["golden_path"] / f"{row['object_name']}_SolderLight.jpg"
    golden.write_bytes(golden.read_bytes() + b"\0")
    assert summarise(subject_of()).token != before


@pytest.mark.parametrize("check_id", required("full"))
def test_a_check_taken_out_of_the_register_makes_the_gate_invalid(subject_of, register, check_id):
    fine = answer("ok", "")
    register[:] = [replace(one, run=lambda look: fine) for one in register if one.id != check_id]
    summary = summarise(subject_of())
    assert summary.missing_checks == (check_id,)
    assert not summary.gate_valid
    with pytest.raises(DeftError, match=rf"{check_id} \(not executed\)"):
        ready(summary)


def test_a_check_that_raises_is_named_and_makes_the_gate_invalid(subject_of, register):
    register.append(Check("host.broken", 1, None, ("aoi_changenet",), failing))
    summary = summarise(subject_of())
    assert summary.missing_checks == ("host.broken",)
    with pytest.raises(DeftError, match=r"host\.broken \(ZeroDivisionError: nothing to divide\)"):
        ready(summary)


def test_no_two_checks_have_one_id(register):
    with pytest.raises(ValueError, match=r"two checks are called host\.gpu"):
        registry.check("host.gpu", 1)(lambda look: answer("ok", ""))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("mode", MODES)
def test_what_is_required_is_what_is_registered(mode, profile):
    assert set(required(mode)) == {one.id for one in checks_for(mode, profile)}


@pytest.mark.parametrize("step", range(1, 11))
def test_every_deft_step_has_checks(step):
    for profile in PROFILES:
        assert set(DEFT_STEPS[step]) <= {one.id for one in checks_for("loop_only", profile)}


@pytest.mark.parametrize(("mode", "off"), [("loop_only", {5, 7}), ("automl_only", {6, 7})])
def test_a_mode_has_the_sections_of_its_phases(subject_of, mode, off):
    subject = subject_of(mode=mode)
    assert {one.section for one in summarise(subject).findings} == set(range(1, 10)) - off


def test_a_phase_is_off_only_with_a_reason(subject_of):
    with_reason = summarise(
        subject_of().model_copy(update={"phase1": None, "skipped": {"phase1": "given spec"}})
    )
    assert {one.text for one in with_reason.findings if one.section == 5} == {"off: given spec"}
    ready(with_reason)
    without = summarise(subject_of().model_copy(update={"phase1": None}))
    with pytest.raises(DeftError, match="phase1 is off and nobody says why"):
        ready(without)


def test_a_workspace_that_is_not_there_ends_in_a_summary(subject_of, tmp_path):
    summary = summarise(subject_of(workspace=tmp_path / "no"))
    assert any("no such folder" in line for line in summary.blockers)
    assert not summary.gate_valid
    with pytest.raises(DeftError, match="no such folder"):
        ready(summary)


def test_a_blocker_is_named(subject_of):
    with pytest.raises(DeftError, match=r"mended first: phase3\.warm_start: phase 3 without a warm start"):
        ready(summarise(subject_of(phase3={"warm_start": None})))


def test_written_and_read_again_it_is_the_same(subject_of, tmp_path):
    summary = summarise(subject_of())
    markdown, file = write(tmp_path / "out", summary)
    assert read(file) == summary
    assert read(file, summary.token).token == summary.token
    assert markdown.read_text().rstrip().endswith(f"Token: `{summary.token}`")
    assert json.loads(file.read_text())["gate_valid"] is True


def test_a_changed_summary_file_is_refused(subject_of, tmp_path):
    _, file = write(tmp_path, summarise(subject_of()))
    file.write_text(file.read_text().replace('"trials": 6', '"trials": 600', 1))
    with pytest.raises(InputError, match="was changed after it was written"):
        read(file)


def test_another_token_is_refused(subject_of, tmp_path):
    _, file = write(tmp_path, summarise(subject_of()))
    with pytest.raises(DeftError, match="approval is of another summary"):
        read(file, "0" * 64)


def test_what_is_no_summary_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(InputError, match="not a preflight summary"):
        read(tmp_path / "x.json")


def test_an_inner_flow_with_the_approved_parameters_goes_on(subject_of):
    subject = subject_of()
    covers_phase(summarise(subject), "loop", subject.parameters["loop"])


def test_an_inner_flow_with_other_parameters_is_refused(subject_of):
    subject = subject_of()
    summary = summarise(subject)
    given = {**subject.parameters["loop"], "num_sdg": 200, "regression_gate": {"action": "stop"}}
    with pytest.raises(DeftError) as refused:
        covers_phase(summary, "loop", given)
    assert "num_sdg 20 -> 200" in str(refused.value)
    assert 'regression_gate.action "warn" -> "stop"' in str(refused.value)
    assert 'regression_gate.enabled true -> "(absent)"' in str(refused.value)


def test_an_inner_flow_on_other_data_is_refused(subject_of, workspace):
    summary = summarise(subject_of())
    with (workspace / "kpi/testing_set.csv").open("a") as stream:
        stream.write("\n")
    with pytest.raises(DeftError, match="data changed after approval: KPI set"):
        covers_phase(summary, "phase1", {"trials": 6})


def test_the_tuned_spec_may_stand_in_the_place_of_the_base_spec(subject_of, edit_spec):
    summary = summarise(subject_of())
    edit_spec(lambda spec: spec["train"]["optim"].update(lr=1e-3))
    covers_phase(summary, "phase3", {"trials": 6})
    with pytest.raises(DeftError, match="data changed after approval: base spec"):
        covers_phase(summary, "phase1", {"trials": 6})


def test_production_may_add_to_the_pool_meanwhile_and_change_it_while_a_sweep_waits(subject_of, workspace):
    subject = subject_of()
    summary = summarise(subject)
    pool = workspace / "augmentation/mining_pool/mining_pool.csv"
    with pool.open("a") as stream:
        stream.write("\n")
    covers_phase(summary, "phase3", {"trials": 6})
    covers_phase(summary, "loop", subject.parameters["loop"])
    pool.write_text(pool.read_text().replace("PASS", "pass", 1))
    covers_phase(summary, "phase3", {"trials": 6})
    with pytest.raises(DeftError, match="data changed after approval: mining pool"):
        covers_phase(summary, "loop", subject.parameters["loop"])


def test_a_phase_that_was_not_approved_is_refused(subject_of):
    with pytest.raises(DeftError, match="does not cover phase1, only loop"):
        covers_phase(summarise(subject_of(mode="loop_only")), "phase1", {"trials": 6})


def test_a_summary_that_blocks_approves_nothing(subject_of):
    summary = summarise(subject_of(phase3={"warm_start": None}))
    with pytest.raises(DeftError, match="mended first"):
        covers_phase(summary, "phase1", {"trials": 6})


def test_data_that_cannot_be_read_whole_is_not_approved(subject_of, workspace):
    row = pd.read_csv(workspace / "kpi/testing_set.csv", dtype=str).iloc[0]
    golden = workspace / "images" / row["golden_path"] / f"{row['object_name']}_SolderLight.jpg"
    golden.unlink()
    golden.symlink_to("/proc/self/mem")
    assert "covers" in summarise(subject_of()).missing_checks


def test_secrets_are_never_in_the_summary(subject_of, tmp_path):
    environment = {"PATH": "/nowhere", "NGC_KEY": "nvapi-verysecret", "HF_TOKEN": "hf_verysecret"}
    files = write(tmp_path, summarise(subject_of(environment=environment)))
    assert all("verysecret" not in file.read_text() for file in files)
    assert "verysecret" not in repr(subject_of(environment=environment))
