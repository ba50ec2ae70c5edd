import json
import logging
from functools import partial

import numpy as np
import pytest
from PIL import Image

from tasks.gap_analysis.spot_check import SpotCheck, spot_check
from tasks.gap_analysis.spot_check.judges import VERDICTS
from tasks.gap_analysis.spot_check.model import verdict_in
from tests.chat_endpoint import said

KEY = "sk-planted-0123456789"


@pytest.fixture(name="serve")
def _serve(serve):
    """The last answer for ever: one for each sample that is looked at."""
    return partial(serve, for_ever=True)


@pytest.fixture
def folder(inference, tmp_path):
    """An rca folder with three samples; noise as pictures, the golden pictures too."""
    inference.write([(0.1, "PASS"), (0.7, "PASS"), (0.6, "bridge")]).run(kpi_media_path=tmp_path / "secret")
    noise = np.random.default_rng(0)
    for number in range(3):
        for place in ("board", "golden"):
            file = tmp_path / "secret" / place / f"{number:03d}_Top.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(file)
    return inference.results


def rows(folder, endpoint, **fields):
    settings = SpotCheck(judge="vlm", endpoint=getattr(endpoint, "url", endpoint), model="tiny", **fields)
    return json.loads(spot_check(folder, settings).read_text())["rows"]


@pytest.mark.parametrize("word", VERDICTS)
def test_a_verdict_of_the_model(serve, folder, word):
    server = serve(said(word))
    assert {(row["verdict"], row["origin"]) for row in rows(folder, server)} == {(word, "vlm tiny")}
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("**Edge case**.", "edge case"),
        ('"data_quality"\n', "data quality"),
        ("<think>mislabeled?</think>\nsystematic", "systematic"),
        ("I think that it is mislabeled", None),
        ("mislabeled, edge case", None),
        ("", None),
        ("MISLABELED!", "mislabeled"),
    ],
)
def test_what_counts_as_a_verdict(answer, verdict):
    assert verdict_in(answer) == verdict


def test_what_is_sent(serve, folder, tmp_path):
    server = serve(said("edge case"))
    rows(folder, server, max_tokens=77)
    body = server.asked[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("tiny", 0.0, 77)
    system, question = body["messages"]
    assert all(word in system["content"] for word in VERDICTS)
    kinds = [part["type"] for part in question["content"]]
    assert kinds == ["text", "image_url", "text", "image_url"]
    assert "Label: PASS. It is on the wrong side" in question["content"][0]["text"]
    assert question["content"][1]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    sent = json.dumps(server.asked)
    assert "secret" not in sent
    assert "board/" not in sent
    assert "0.7" not in question["content"][0]["text"]


def test_a_bad_answer_is_repaired_once(serve, folder):
    server = serve(said("Hm, hard to say."), said("edge case"))
    assert {row["origin"] for row in rows(folder, server)} == {"vlm tiny"}
    assert [message["role"] for message in server.asked[1]["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    assert len(server.asked) == 4


def test_two_bad_answers_leave_that_row_to_the_rules(serve, folder, caplog):
    server = serve(said("no idea"), said("none"), said("systematic"))
    found = rows(folder, server)
    assert found[0]["origin"] == "rules, no embeddings (vlm: two answers were none of the four)"
    assert found[0]["verdict"] in VERDICTS
    assert {row["origin"] for row in found[1:]} == {"vlm tiny"}
    assert "none of the four verdicts" in caplog.text


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((500, f"your key {KEY}"), "status 500"),
        ((200, "<html>"), "not of the chat API"),
        (("wait", 0.5), "no answer within 0.1 s"),
    ],
)
def test_an_endpoint_that_fails_twice_is_left_alone_and_rules_judge(
    serve, folder, monkeypatch, caplog, answer, why
):
    monkeypatch.setenv("MY_KEY", KEY)
    server = serve(answer)
    with caplog.at_level(logging.DEBUG):
        found = rows(folder, server, api_key_env="MY_KEY", timeout_seconds=0.1 if answer[0] == "wait" else 20)
    assert len(server.asked) == 2
    assert [one["Authorization"] for one in server.headers] == [f"Bearer {KEY}"] * 2
    for row in found:
        assert row["verdict"] in VERDICTS
        assert row["origin"].startswith("rules, no embeddings (vlm: language model at 127.0.0.1:")
        assert why in row["origin"]
    assert KEY not in caplog.text + (folder / "spot_check.json").read_text()


def test_one_failure_is_tried_again(serve, folder):
    server = serve((500, ""), said("edge case"))
    assert {row["origin"] for row in rows(folder, server)} == {"vlm tiny"}


def test_no_picture_nothing_is_sent(serve, folder, tmp_path):
    for file in (tmp_path / "secret" / "board").iterdir():
        file.unlink()
    server = serve(said("edge case"))
    assert {row["origin"] for row in rows(folder, server)} == {
        "rules, no embeddings (vlm: no picture to show)"
    }
    assert server.asked == []


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "AIR_GAPPED"])
def test_offline_no_picture_leaves_this_machine(serve, folder, monkeypatch, name, caplog):
    monkeypatch.setenv(name, "1")
    found = rows(folder, "http://vlm.example.org/v1")
    assert all(f"vlm.example.org is another machine and {name} is set" in row["origin"] for row in found)
    assert "choose another judge" in caplog.text
    assert {row["origin"] for row in rows(folder, serve(said("edge case")))} == {"vlm tiny"}


def test_settings_that_cannot_be_used_never_stop_a_run(folder, monkeypatch):
    monkeypatch.delenv("hidden_key", raising=False)
    for endpoint, variable in (("http://user:hidden@host", None), ("http://127.0.0.1:9/v1", "hidden_key")):
        for row in rows(folder, endpoint, api_key_env=variable):
            assert row["origin"].startswith("rules, no embeddings (vlm: ")
            assert "hidden" not in row["origin"]
