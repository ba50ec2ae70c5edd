import time
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.states import Running, Scheduled

from flows.approval import Approval, Decision, decide, summary_in
from tasks.errors import DeftError
from tests.answering import Server, person

SUMMARY = "# Preflight summary\n\n| Set | Rows |\n|---|---|\n| train | 64 |\n\nApprove all three phases."
TOKEN = "9f86d081884c7d659a2feaa0c55ad015"  # noqa: S105
OTHER = "60303ae22b998861bce3b28f33eec1be"


def gate(name=None, **changed):
    """A run of a flow that shows the gate until an answer holds no corrections; its decisions."""

    @flow(name="gate", flow_run_name=name)
    def shown():
        decisions = []
        while not decisions or decisions[-1].corrections:
            given = {"given": "ask", "given_token": None, "timeout_seconds": 60} | changed
            decisions.append(decide(SUMMARY, TOKEN, key=f"gate-{len(decisions) + 1}", **given))
        return decisions

    return shown()


@pytest.fixture
def server(prefect_server):
    return Server()


def test_a_person_finds_reads_and_approves_with_three_requests(server):
    name = f"r-{uuid4()}"
    seen = {}

    def work():
        run_id, keyset = server.waiting(name)
        seen["description"] = server.read(run_id, keyset["description"])
        seen["schema"] = server.read(run_id, keyset["schema"])
        seen["status"] = server.resume(run_id, {"approve": True, "note": "as agreed"})["status"]

    with person(work):
        decisions = gate(name)
    assert decisions == [Decision(approved=True, how="person", note="as agreed")]
    assert seen["status"] == "ACCEPT"
    assert summary_in(seen["description"]) == SUMMARY
    assert seen["schema"]["required"] == ["approve"]
    fields = seen["schema"]["properties"]
    assert fields["max_iterations"]["type"] == "integer"
    assert fields["max_iterations"]["minimum"] == 1
    assert fields["per_job_minutes"]["exclusiveMinimum"] == 0
    assert "the run ends" in fields["approve"]["description"]


def test_unusable_answers_are_refused_and_the_run_goes_on_waiting(server):
    name = f"r-{uuid4()}"
    answers = []

    def work():
        run_id, _ = server.waiting(name)
        for answer in (
            {},
            None,
            {"note": "no word of approval"},
            {"approve": "perhaps"},
            {"approve": True, "max_iterations": 0},
            {"approve": True, "per_job_minutes": 0},
            {"approve": True, "max_iteration": 2},
            {"approve": False},
        ):
            answers.append(server.resume(run_id, answer))

    with person(work):
        decisions = gate(name)
    assert [answer["status"] for answer in answers] == 7 * ["REJECT"] + ["ACCEPT"]
    assert "'approve' is a required property" in answers[0]["details"]["reason"]
    assert decisions == [Decision(approved=False, how="person")]


def test_corrected_gate_is_shown_again(server):
    name = f"r-{uuid4()}"

    def work():
        run_id, first = server.waiting(name)
        server.resume(run_id, {"approve": True, "max_iterations": 2, "per_job_minutes": 1.5})
        run_id, _ = server.waiting(name, answered={first["schema"]})
        server.resume(run_id, {"approve": True})

    with person(work):
        decisions = gate(name)
    corrected, approved = decisions
    assert not corrected.approved
    assert corrected.corrections == {"max_iterations": 2, "per_job_minutes": 1.5}
    assert approved == Decision(approved=True, how="person")


def test_rejected_with_corrections_is_rejected(server, caplog):
    name = f"r-{uuid4()}"

    def work():
        run_id, _ = server.waiting(name)
        server.resume(run_id, {"approve": False, "phase1_trials": 3})

    with person(work):
        assert gate(name) == [Decision(approved=False, how="person")]
    assert "its corrections are not used: {'phase1_trials': 3}" in caplog.text


def test_log_says_how_to_approve(server, caplog):
    caplog.set_level("INFO", logger="deft")
    name = f"r-{uuid4()}"

    def work():
        run_id, _ = server.waiting(name)
        server.resume(run_id, {"approve": True})

    with person(work):
        gate(name)
    assert f"deft approve {name}" in caplog.text


def test_equal_token_approves_and_the_summary_is_an_artifact(server):
    assert gate(given_token=TOKEN) == [Decision(approved=True, how="token")]
    artifacts = server.http.post(
        "artifacts/filter",
        json={"sort": "CREATED_DESC", "artifacts": {"key": {"any_": ["gate-1"]}}},
    ).json()
    assert artifacts[0]["data"] == SUMMARY
    assert TOKEN in artifacts[0]["description"]


@pytest.mark.parametrize("given", ["ask", "yes"])
def test_other_token_is_refused_in_one_line(prefect_server, given):
    with pytest.raises(
        DeftError, match=r"changed since it was approved; look at the summary again"
    ) as refused:
        gate(given_token=OTHER, given=given)
    assert "\n" not in str(refused.value)


def test_yes_approves(prefect_server):
    assert gate(given="yes") == [Decision(approved=True, how="yes")]


def test_nobody_answers_in_time(server):
    name = f"r-{uuid4()}"
    with pytest.raises(DeftError, match=f"nobody approved run {name} within 1 s: start it again"):
        gate(name, timeout_seconds=1)
    run = server.http.post("flow_runs/filter", json={"flow_runs": {"name": {"any_": [name]}}}).json()[0]
    assert run["state"]["type"] == "FAILED"
    assert f"nobody approved run {name} within 1 s" in run["state"]["message"]


def test_resumed_without_an_answer_is_no_approval(server):
    name = f"r-{uuid4()}"

    def work():
        run_id, _ = server.waiting(name)
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run_id, Running(), force=True)

    with person(work), pytest.raises(DeftError, match=f"run {name} was resumed without an answer"):
        gate(name)


def test_gate_outside_of_a_flow():
    with pytest.raises(DeftError, match="no flow run here"):
        decide(SUMMARY, TOKEN, given="yes", given_token=None, key="gate", timeout_seconds=1)


def test_corrections_are_the_fields_that_are_set():
    assert Approval(approve=True, note="x").corrections() == {}
    assert Approval(approve=True, phase3_trials=4).corrections() == {"phase3_trials": 4}


class Deployed:
    """A run of a deployment, started as a worker starts it: from the top, each time that it is scheduled."""

    def __init__(self):
        self.token = TOKEN
        self.starts = 0

        @flow(name="deployed-gate")
        def shown():
            self.starts += 1
            return decide(
                SUMMARY, self.token, given="ask", given_token=None, key="gate", timeout_seconds=self.timeout
            )

        self.flow, self.timeout = shown, 60
        with get_client(sync_client=True) as client:
            flow_id = client.create_flow_from_name(shown.name)
            deployment = client.create_deployment(flow_id, name=f"d-{uuid4()}")
            self.run = client.create_flow_run_from_deployment(deployment)

    def start(self):
        with get_client(sync_client=True) as client:
            self.run = client.read_flow_run(self.run.id)
        try:
            return run_flow(self.flow, flow_run=self.run, return_type="state")
        except Pause as end:
            return end.state

    def again(self):
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(self.run.id, Scheduled(name="AwaitingRetry"), force=True)


def test_run_of_a_deployment_ends_and_starts_again_with_the_answer(server):
    deployed = Deployed()
    assert deployed.start().name == "Suspended"
    assert server.resume(deployed.run.id, {"approve": True, "note": "late"})["status"] == "ACCEPT"
    assert deployed.start().result() == Decision(approved=True, how="person", note="late")
    assert deployed.starts == 2


def test_answer_counts_only_for_the_summary_it_was_given_for(server):
    deployed = Deployed()
    deployed.start()
    server.resume(deployed.run.id, {"approve": True})
    deployed.token = OTHER
    assert deployed.start().name == "Suspended"
    server.resume(deployed.run.id, {"approve": False})
    assert deployed.start().result() == Decision(approved=False, how="person")


def test_unanswered_gate_of_a_run_that_is_tried_again_is_shown_again(server):
    deployed = Deployed()
    deployed.timeout = 1
    deployed.start()
    time.sleep(1.2)
    assert server.resume(deployed.run.id, {"approve": True})["status"] == "REJECT"
    deployed.timeout = 60
    for _ in range(2):  # the second time as if the worker had died while the gate was shown
        deployed.again()
        assert deployed.start().name == "Suspended"
    server.resume(deployed.run.id, {"approve": True})
    assert deployed.start().result().approved
