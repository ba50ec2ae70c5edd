import json
import logging
import socket
import traceback

import pytest

from tasks.automl.llm import LlmProposer, LlmSettings, ProposerFailed
from tasks.automl.space import Parameter, Space
from tasks.automl.trial import Failure, Outcome, Row, SweepMetric
from tasks.errors import InputError
from tests.chat_endpoint import said

FAR = SweepMetric(name="far_pct", direction="minimise", unit="%")
SPACE = Space(
    searched=(
        Parameter(
            name="lr", keys=("train.optim.lr",), type="float", low=1e-6, high=1e-3, log=True, reason="why"
        ),
        Parameter(name="k", type="int", low=2, high=4),
        Parameter(name="augment", type="choice", choices=(True, False)),
    ),
    pinned={"train.results_dir": "/secret/pinned"},
    inert=(("momentum", "no effect"),),
    base={"lr": 1e-4, "k": 4, "augment": True},
)
GOOD = {"lr": 3e-5, "k": 3, "augment": False}
KEY = "sk-planted-0123456789"


def proposer(endpoint, **fields):
    settings = LlmSettings(endpoint=getattr(endpoint, "url", endpoint), model="tiny", **fields)
    return LlmProposer(settings, SPACE, FAR)


def rows(tmp_path):
    def row(number, params, **fields):
        return Row(
            number=number,
            phase=1,
            source="sampler",
            seed=1,
            params=params,
            specs={"train": {"results_dir": "/secret/specs"}},
            spec_sha256="x",
            **fields,
        )

    outcome = Outcome(score=12.5, target=12.6, checkpoint=tmp_path / "secret.pth", epochs=3)
    failure = Failure(kind="diverged", signature="s", message="no /secret/file")
    return [
        row(0, SPACE.base, state="complete", outcome=outcome),
        row(1, {**GOOD, "k": 2}, state="failed", failure=failure, note="/secret/note"),
        row(
            2, {**GOOD, "k": 4}, state="collapsed", outcome=outcome.model_copy(update={"collapse": "/secret"})
        ),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        GOOD,
        f"```json\n{json.dumps(GOOD, indent=1)}\n```",
        f"Here it is:\n```\n{json.dumps(GOOD)}\n```\nGood luck!",
        f"I would try {json.dumps(GOOD)}.",
        f"<think>maybe {{lr: 5}}?</think>{json.dumps(GOOD)}",
        {**GOOD, "k": 3.0},
    ],
    ids=["plain", "fenced", "fence in words", "in words", "thought", "whole number as float"],
)
def test_a_good_answer(serve, tmp_path, answer):
    server = serve(said(answer))
    params = proposer(server).propose(rows(tmp_path))
    assert params == GOOD
    assert [type(value) for value in params.values()] == [float, int, bool]
    assert len(server.asked) == 1


def test_what_is_asked(serve, tmp_path):
    server = serve(said(GOOD))
    proposer(server, temperature=0.2, max_tokens=99).propose(rows(tmp_path))
    path, body = server.paths[0], server.asked[0]
    assert path == "/v1/chat/completions"
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("tiny", 0.2, 99)
    assert json.loads(body["messages"][-1]["content"]) == {
        "metric": {"name": "far_pct", "direction": "minimise"},
        "dimensions": [
            {"name": "lr", "type": "float", "low": 1e-6, "high": 1e-3, "scale": "logarithmic"},
            {"name": "k", "type": "int", "low": 2, "high": 4, "scale": "linear"},
            {"name": "augment", "type": "choice", "choices": [True, False]},
        ],
        "trials": [
            {"values": SPACE.base, "score": 12.5, "state": "complete"},
            {"values": {**GOOD, "k": 2}, "score": None, "state": "failed"},
            {"values": {**GOOD, "k": 4}, "score": None, "state": "collapsed"},
        ],
    }
    assert "Authorization" not in server.headers[0]


def test_no_path_of_this_machine_is_sent(serve, tmp_path):
    server = serve(said("no"), said(GOOD))
    proposer(server).propose(rows(tmp_path))
    text = json.dumps(server.asked)
    assert "secret" not in text
    assert str(tmp_path) not in text
    assert text.replace("/v1/chat/completions", "").count("/") == 0


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ({**GOOD, "lr": 0.1}, "lr = 0.1 is not a number from 1e-06 to 0.001"),
        ({**GOOD, "lr": "3e-5"}, 'lr = "3e-5" is not a number'),
        ({**GOOD, "lr": True}, "lr = true is not a number"),
        ('{"lr": NaN, "k": 3, "augment": false}', "lr = NaN is not a number"),
        ('{"lr": 1e999, "k": 3, "augment": false}', "lr = Infinity is not a number"),
        ({**GOOD, "k": 2.5}, "k = 2.5 is not a whole number from 2 to 4"),
        ({**GOOD, "k": 10**400}, "k = 1000"),
        ({**GOOD, "augment": 1}, "augment = 1 is not one of [true, false]"),
        ({**GOOD, "augment": "false"}, 'augment = "false" is not one of'),
        ({"lr": 3e-5}, "k is missing, augment is missing"),
        ({**GOOD, "momentum": 0.9}, "momentum is no dimension"),
        ({**GOOD, "k": 2}, "this combination has been tried"),
        ("I do not know", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ('{"a":' * 100_000 + "}", "no JSON object"),
    ],
)
def test_a_bad_answer_is_repaired_once_and_never_moved_into_the_box(serve, tmp_path, bad, fault):
    server = serve(said(bad), said(GOOD))
    assert proposer(server).propose(rows(tmp_path)) == GOOD
    messages = server.asked[1]["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert fault in messages[-1]["content"]


@pytest.mark.parametrize("second", [{**GOOD, "lr": 5}, "garbage"])
def test_a_second_bad_answer_is_the_end(serve, second):
    server = serve(said({**GOOD, "lr": 0.1}), said(second))
    with pytest.raises(ProposerFailed, match="language model"):
        proposer(server).propose([])
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((500, f"your key {KEY} is fine"), "status 500"),
        ((401, f"wrong key {KEY}"), "status 401"),
        ((302, ""), "status 302"),
        ((200, "<html>"), "not of the chat API"),
        ((200, '{"choices": []}'), "not of the chat API"),
        ((200, '{"choices": 5}'), "not of the chat API"),
        ((200, '{"choices": [{"message": {"content": null}}]}'), "without text"),
        (("wait", 0.6), "no answer within 0.2 s"),
    ],
)
def test_an_endpoint_that_fails_is_one_line_without_the_key(serve, monkeypatch, caplog, answer, message):
    monkeypatch.setenv("MY_KEY", KEY)
    server = serve(answer)
    asking = proposer(server, api_key_env="MY_KEY", timeout_seconds=0.2 if answer[0] == "wait" else 20)
    with caplog.at_level(logging.DEBUG), pytest.raises(ProposerFailed, match=message) as caught:
        asking.propose([])
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert "\n" not in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(asking.settings)
    assert KEY not in shown


def test_a_refused_connection():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ProposerFailed, match=rf"127\.0\.0\.1:{port}: cannot be reached \(ConnectError\)"):
        proposer(f"http://127.0.0.1:{port}").propose([])


@pytest.mark.parametrize("tail", ["", "/", "/chat/completions", "/chat/completions/"])
def test_base_address_or_whole_address(serve, tail):
    server = serve(said(GOOD))
    proposer(server.url + tail).propose([])
    assert server.paths[0].rstrip("/") == "/v1/chat/completions"


def test_a_proxy_of_the_environment_does_not_carry_local_questions(serve, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert proposer(serve(said(GOOD))).propose([]) == GOOD


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "AIR_GAPPED"])
def test_offline_only_this_machine_is_asked(serve, monkeypatch, name):
    server = serve(said(GOOD))
    monkeypatch.setenv(name, "1")
    assert proposer(server).propose([]) == GOOD
    for host in ("llm.example.org", "localhost.example.org", "10.0.0.7", "0.0.0.0"):  # noqa: S104
        with pytest.raises(InputError, match=f"{host} is another machine and {name} is set"):
            proposer(f"http://{host}/v1")
    for host in ("localhost", "127.0.0.1", "127.9.9.9", "[::1]"):
        proposer(f"http://{host}:8000/v1")


@pytest.mark.parametrize(
    "endpoint",
    ["localhost:8000", "ftp://a/b", "/v1", "http://", "http://a:port", "http://user:hidden@host/v1"],
)
def test_an_address_that_is_none_is_refused_and_not_quoted(endpoint):
    with pytest.raises(InputError, match=r"llm\.endpoint") as caught:
        proposer(endpoint)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("value", [None, "", "a\nb", "schlüssel", "a b"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_quoted(monkeypatch, value):
    monkeypatch.delenv("hidden_key", raising=False)
    if value is not None:
        monkeypatch.setenv("hidden_key", value)
    with pytest.raises(InputError, match="api_key_env") as caught:
        proposer("http://localhost/v1", api_key_env="hidden_key")
    assert "hidden" not in str(caught.value)
    assert not value or value not in str(caught.value)


def test_endpoint_and_model_have_no_default():
    required = {name for name, field in LlmSettings.model_fields.items() if field.is_required()}
    assert required == {"endpoint", "model"}
