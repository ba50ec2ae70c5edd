import os
import pty
import re
import subprocess
import sys
import time
from uuid import uuid4

import pytest
import typer
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from deployments.approve import approve
from flows.approval import decide
from flows.finetune_huggingface import asking
from tasks.errors import DeftError, UsageError
from tasks.huggingface.asking import Answer, Question

SUMMARY = "# Preflight summary\n\nApprove all three phases."
TOKEN = "9f86d081884c7d659a2feaa0c55ad015"  # noqa: S105

PLAIN = Question(key="train-failed-3", title="train failed: *NaN*", text="Mend it, then approve.")
WAYS = Question(
    key="lora", title="All of it, or LoRA?", text="It is large.", choices=("all weights", "LoRA", "7")
)

COMMAND = "from deployments.cli import main; main()"

GATE = f"""
import sys
from deployments.cli import prepare_terminal
prepare_terminal()
from prefect import flow
from flows.approval import decide

@flow(name="gate")
def gate():
    return decide({SUMMARY!r}, {TOKEN!r}, given="ask", given_token=None, key="gate", timeout_seconds=120)

print(gate().model_dump_json(), flush=True)
"""

app = typer.Typer()
app.command()(approve)


class OtherForm(RunInput):
    approve: bool


class Waiting:
    """A run of a deployment that stands at the gate, with nobody but the server to remember it."""

    def __init__(self, seconds=60, wait=None, name=None):
        @flow(name="waiting")
        def shown():
            if wait:
                return wait()
            for number in range(1, 10):
                decision = decide(
                    SUMMARY,
                    TOKEN,
                    given="ask",
                    given_token=None,
                    key=f"gate-{number}",
                    timeout_seconds=seconds,
                )
                if not decision.corrections:
                    break
            return decision

        self.flow = shown
        self.name = name or f"r-{uuid4()}"
        with get_client(sync_client=True) as client:
            flow_id = client.create_flow_from_name(shown.name)
            deployment = client.create_deployment(flow_id, name=f"d-{uuid4()}")
            self.id = client.create_flow_run_from_deployment(deployment, name=self.name).id
        self.go_on()

    def go_on(self):
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(self.id)
        try:
            return run_flow(self.flow, flow_run=run)
        except Pause:
            return None


@pytest.fixture
def waiting(prefect_server):
    return Waiting()


@pytest.fixture(name="asks")
def _asks(prefect_server):
    """Has a run ask a question of a fine-tuning."""
    return lambda question: Waiting(wait=lambda: asking(60)(question))


def answer(*words):
    return CliRunner().invoke(app, list(words))


def one_line(done, kind=DeftError):
    assert isinstance(done.exception, kind), done.exception
    assert "\n" not in str(done.exception)
    return str(done.exception)


def test_list_names_the_runs_that_wait(waiting):
    (line,) = [line for line in answer().output.splitlines() if waiting.name in line]
    assert line.split()[:3] == [waiting.name, str(waiting.id), "waiting"]
    assert len(re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d", line)) == 2


def test_runs_that_wait_for_something_else_are_left_alone(prefect_server):
    plain = Waiting(wait=lambda: suspend_flow_run(timeout=60))
    other = Waiting(wait=lambda: suspend_flow_run(wait_for_input=OtherForm, timeout=60))
    listing = answer().output
    for run in (plain, other):
        assert run.name not in listing
        assert "does not wait for an approval" in one_line(answer(run.name, "--yes"))


@pytest.mark.parametrize("word", ["name", "id", "prefix"])
def test_approve_shows_the_summary_and_the_run_goes_on(waiting, word):
    done = answer(
        {"name": waiting.name, "id": str(waiting.id), "prefix": str(waiting.id)[:23]}[word],
        "--yes", "--note", "as agreed",
    )  # fmt: skip
    assert done.exit_code == 0, done.exception
    assert done.output == f"{SUMMARY}\napproved; run {waiting.name} goes on\n"
    decision = waiting.go_on()
    assert (decision.approved, decision.note) == (True, "as agreed")
    assert "it is Completed" in one_line(answer(waiting.name, "--yes"))


def test_reject(waiting):
    assert "rejected" in answer(waiting.name, "--reject", "--yes").output
    decision = waiting.go_on()
    assert (decision.approved, decision.corrections) == (False, {})


def test_correction_has_the_run_ask_again(waiting):
    words = [
        "--max-iterations",
        "2",
        "--phase1-trials",
        "3",
        "--phase3-trials",
        "4",
        "--per-job-minutes",
        "1.5",
    ]
    assert "asks again" in answer(waiting.name, "--yes", *words).output
    assert waiting.go_on() is None
    assert "approved;" in answer(waiting.name, "--yes").output
    assert waiting.go_on().approved


def test_refused_answer_is_one_line_and_the_run_goes_on_waiting(waiting):
    assert "per_job_minutes" in one_line(answer(waiting.name, "--yes", "--per-job-minutes", "-3"))
    assert waiting.name in answer().output


def test_without_a_terminal_the_summary_is_shown_and_nothing_sent(waiting):
    done = answer(waiting.name)
    assert "add --yes" in one_line(done, UsageError)
    assert SUMMARY in done.output
    assert waiting.name in answer().output


@pytest.mark.parametrize(
    "words", [["--yes"], ["--reject"], ["--note", "x"], ["--max-iterations", "2"], ["--choice", "x"]]
)
def test_answer_without_a_run(words):
    assert "no run named" in one_line(answer(*words), UsageError)


@pytest.mark.parametrize("words", [["--phase1-trials", "2"], ["--choice", "LoRA"]])
def test_reject_with_a_correction_or_choice(words):
    assert "give one of them" in one_line(answer("any", "--reject", *words), UsageError)


def test_question_with_a_plain_yes_or_no(asks):
    run = asks(PLAIN)
    assert run.name in answer().output
    done = answer(run.name, "--yes", "--note", "mended")
    assert done.output == (
        f"**train failed: \\*NaN\\***\n\nMend it, then approve.\n\napproved; run {run.name} goes on\n"
    )
    assert run.go_on() == Answer(approve=True, note="mended")


def test_question_with_choices(asks):
    run = asks(WAYS)
    done = answer(run.name, "--yes")
    assert "add --choice" in one_line(done, UsageError)
    assert "It is large.\n\n1. all weights\n2. LoRA\n3. 7\n" in done.output
    assert "add --yes" in one_line(answer(run.name, "--choice", "LoRA"), UsageError)
    done = answer(run.name, "--yes", "--choice", "LoRA")
    assert f"approved with 'LoRA'; run {run.name} goes on" in done.output
    assert run.go_on() == Answer(approve=True, choice="LoRA")


def test_no_needs_no_choice(asks):
    run = asks(WAYS)
    assert "rejected" in answer(run.name, "--reject", "--yes").output
    assert not run.go_on().approve


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--choice", "QLoRA"], "'QLoRA' is not offered: choose one of all weights, LoRA, 7"),
        (["--max-iterations", "2", "--phase1-trials", "1"], "not ask for --max-iterations, --phase1-trials"),
    ],
)
def test_answer_that_a_question_does_not_offer(asks, words, text):
    run = asks(WAYS)
    done = answer(run.name, "--yes", *words)
    assert text in one_line(done, UsageError)
    assert not done.output
    assert run.name in answer().output


def test_gate_offers_no_choice(waiting):
    assert "does not ask for --choice" in one_line(answer(waiting.name, "--choice", "LoRA"), UsageError)


def test_no_such_run(prefect_server):
    assert "no run is called 'nobody'" in one_line(answer("nobody", "--yes"))


def test_several_runs_of_one_name(prefect_server):
    name = f"twin-{uuid4()}"
    first, second = Waiting(name=name), Waiting(name=name)
    text = one_line(answer(name, "--yes"))
    assert "several runs" in text
    assert str(first.id) in text
    assert str(second.id) in text


def test_nobody_answered_in_time(prefect_server):
    late = Waiting(seconds=1)
    time.sleep(1.2)
    assert late.name not in answer().output
    assert "nobody answered it in time" in one_line(answer(late.name, "--yes"))


def test_server_that_cannot_be_reached(prefect_server):
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert "http://127.0.0.1:9/api cannot be reached" in one_line(answer())


def test_server_that_is_none(prefect_server):
    with temporary_settings({PREFECT_API_URL: f"{PREFECT_API_URL.value()}/nothing"}):
        assert "answers 404" in one_line(answer())


def typed_in_a_terminal(run, *typed):
    """`deft approve` in a terminal, told each text when it shows the prompt: what it shows, its status."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value(), "TERM": "dumb"}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "approve", run.name],
        stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment,
    )  # fmt: skip
    os.close(theirs)
    shown = ""
    for prompt, text in typed:
        new = ""
        while not re.search(prompt, new):
            new += os.read(ours, 4096).decode()
        shown += new
        os.write(ours, f"{text}\n".encode())
    status = process.wait(60)
    assert status in (0, 1), process.stderr.read()
    process.stderr.close()
    os.close(ours)
    return shown, status


@pytest.mark.parametrize(("typed", "goes_on"), [("y", True), ("n", False)])
def test_terminal_asks_before_it_sends(waiting, typed, goes_on):
    shown, status = typed_in_a_terminal(waiting, (r"\[y/N\]", typed))
    assert status == (0 if goes_on else 1)
    assert "Approve all three phases." in shown
    assert (waiting.go_on() is not None) == goes_on


def test_terminal_asks_which(asks):
    run = asks(WAYS)
    typed = [("which:", "QLoRA"), ("which:", "2"), (r"\[y/N\]", "y")]
    shown, status = typed_in_a_terminal(run, *typed)
    assert status == 0
    assert "give a number from 1 to 3" in shown
    assert "with 'LoRA'?" in shown
    assert run.go_on().choice == "LoRA"


@pytest.mark.slow
def test_run_and_command_without_a_server_share_the_database(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    environment["PREFECT_HOME"] = str(tmp_path)
    environment["COLUMNS"] = "200"
    run = subprocess.Popen([sys.executable, "-c", GATE], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        name = re.search(r"deft approve (\S+),", run.stdout.readline())[1]
        time.sleep(1)  # the line comes just before the run waits
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, "approve", name, "--yes"],
            capture_output=True, text=True, env=environment, check=False, timeout=120,
        )  # fmt: skip
        assert done.stdout == f"{SUMMARY}\napproved; run {name} goes on\n", done.stderr
        assert '"approved":true,"how":"person"' in run.communicate(timeout=60)[0]
    finally:
        run.kill()
