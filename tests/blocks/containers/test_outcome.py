import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.containers.habits import Image
from blocks.containers.outcome import Ended, judged, trouble

NATIVE = Image("images.native.engine", "deft/engine:1", "sha256:dd")
DATA_SERVICES = Image("images.tao_toolkit.data_services", "registry.test/ds:1", "sha256:aa")
ANOMALYGEN = Image("images.metropolis_sdg.paidf_anomalygen", "registry.test/ag:1", "sha256:cc")

PASSING = "working\nExecution status: PASS\n"
FAILING = "working\nExecution status: FAIL\n"


def test_all_is_well_with_exit_code_0_and_pass():
    verdict = judged(Ended(0), PASSING, NATIVE)
    assert (verdict.kind, verdict.exit_status, verdict.error) == ("OK", 0, "")
    assert judged(Ended(0), "2026-11-21 INFO Execution status: PASS\n", DATA_SERVICES).kind == "OK"


@pytest.mark.parametrize(
    ("code", "log", "said"),
    [
        (0, FAILING, "ended with exit status 0; it said last: working"),
        (0, FAILING + PASSING, "exit status 0"),
        (0, PASSING + FAILING, "exit status 0"),
        (0, "done\n", "did not say 'Execution status: PASS'; it said last: done"),
        (0, "", "it said nothing"),
        (1, PASSING, "ended with exit status 1"),
        (1, "ERROR: column label is missing\n" + FAILING, "column label is missing"),
    ],
)
def test_an_exit_code_alone_is_not_believed(code, log, said):
    verdict = judged(Ended(code), log, NATIVE)
    assert verdict.kind == "STAGE_FAIL"
    assert verdict.exit_status == 1
    assert said in verdict.error


def test_anomalygen_says_no_status():
    assert judged(Ended(0), "done\n", ANOMALYGEN).kind == "OK"
    assert judged(Ended(0), FAILING, ANOMALYGEN).kind == "STAGE_FAIL"
    assert judged(Ended(1), "done\n", ANOMALYGEN).exit_status == 1


def test_the_exit_status_of_an_action_passes_through():
    verdict = judged(Ended(3), "ERROR: no threshold meets recall 1.0\n" + FAILING, NATIVE)
    assert (verdict.kind, verdict.exit_status) == ("STAGE_FAIL", 3)
    assert verdict.error == "no threshold meets recall 1.0"
    assert judged(Ended(3), FAILING, DATA_SERVICES).exit_status == 1
    assert judged(Ended(137), FAILING, NATIVE).exit_status == 1


@pytest.mark.parametrize(
    ("log", "kind"),
    [
        ("KeyError: 'getpwuid(): uid not found: 1000'", "IDENTITY"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "OOM"),
        ("RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error.", "SHM"),
        ("CUDA error: no kernel image is available for execution on the device", "RUNTIME"),
        ("OSError: [Errno 28] No space left on device: '/ws/a'", "DISK"),
        ("PermissionError: [Errno 13] Permission denied: '/ws/a'", "PERMISSION"),
        ("main.py: error: unrecognized arguments: -e", "CLI_DRIFT"),
        ("Could not override 'top_k'.", "CLI_DRIFT"),
        ("ValueError: something else", "STAGE_FAIL"),
    ],
)
def test_classes_by_what_the_log_says(log, kind):
    verdict = judged(Ended(1), f"start\n{log}\n{FAILING}", DATA_SERVICES)
    assert verdict.kind == kind
    assert log.splitlines()[0][:20] in verdict.error
    assert (f"[{kind}]" in verdict.error) == (kind != "STAGE_FAIL")
    assert "\n" not in verdict.error


def test_the_named_error_decides_not_what_came_before_it():
    log = "warning: cache: permission denied, going on\nERROR: row 3 has no label\n" + FAILING
    verdict = judged(Ended(1), log, NATIVE)
    assert (verdict.kind, verdict.error) == ("STAGE_FAIL", "row 3 has no label")


def test_signals_and_memory():
    assert judged(Ended(137, out_of_memory=True), "", NATIVE).kind == "OOM"
    assert judged(Ended(135), "", NATIVE).kind == "SHM"
    assert Ended(137).killed
    assert not Ended(137, out_of_memory=True).killed
    assert not Ended(143, stopped="CANCELED").killed


def test_what_we_stopped_ourselves_is_no_failure_of_the_work():
    late = judged(Ended(143, stopped="TIMEOUT", seconds=90), PASSING, NATIVE)
    assert (late.kind, late.exit_status) == ("TIMEOUT", 1)
    assert "ran for 1.5 minutes" in late.error
    assert "time_limit_minutes" in late.error
    assert judged(Ended(0, stopped="CANCELED"), PASSING, NATIVE).kind == "CANCELED"


@pytest.mark.parametrize(
    ("message", "kind", "action"),
    [
        (
            'could not select device driver "" with capabilities: [[gpu]]',
            "RUNTIME",
            "NVIDIA Container Toolkit",
        ),
        ("unauthorized: authentication required", "REGISTRY", "docker login"),
        ("manifest unknown", "REGISTRY", "docker load"),
        ("write /var/lib/docker/x: no space left on device", "DISK", "make room"),
        ("connection reset", "RUNTIME", "look at the Docker daemon"),
    ],
)
def test_what_docker_refuses_says_what_to_do(message, kind, action):
    verdict = trouble(message)
    assert (verdict.kind, verdict.exit_status) == (kind, 1)
    assert message in verdict.error
    assert action in verdict.error


@given(st.integers(0, 255), st.booleans(), st.text())
def test_success_needs_all_three(code, out_of_memory, log):
    verdict = judged(Ended(code, out_of_memory), log, DATA_SERVICES)
    assert (verdict.exit_status == 0) == (verdict.kind == "OK") == (verdict.error == "")
    if verdict.kind == "OK":
        assert code == 0
        assert "Execution status: PASS" in log


def test_what_was_killed_from_outside_may_be_tried_again_and_a_crash_of_its_own_not():
    assert judged(Ended(137), FAILING, NATIVE).kind == "KILLED"
    assert judged(Ended(143), "", NATIVE).kind == "KILLED"
    assert judged(Ended(137, out_of_memory=True), "", NATIVE).kind == "OOM"
    assert judged(Ended(143, stopped="CANCELED"), "", NATIVE).kind == "CANCELED"
    assert judged(Ended(139), "", NATIVE).kind == "STAGE_FAIL"
