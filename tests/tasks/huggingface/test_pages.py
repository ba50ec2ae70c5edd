"""Pages from a server on this machine, from a mirror and from files, each attempt remembered."""

from datetime import datetime

import pytest

from tasks.huggingface import pages as module
from tasks.huggingface.pages import MIRROR, Pages, PageUnavailable
from tests.tasks.huggingface.loopback_pages import served


@pytest.fixture
def server():
    with served() as running:
        running.pages["/one/page.md"] = "# Grüße"
        yield running


def test_page_comes_with_its_url_and_time(server):
    pages = Pages({})
    page = pages.get(f"{server.url}/one/page.md")
    assert (page.text, page.url) == ("# Grüße", f"{server.url}/one/page.md")
    assert datetime.fromisoformat(page.fetched_at).tzinfo is not None
    assert pages.attempts == [{"url": page.url, "time": page.fetched_at, "outcome": "ok"}]


def test_redirect_is_followed(server):
    server.pages["/old"] = (302, {"Location": "/one/page.md"})
    assert Pages({}).get(f"{server.url}/old").text == "# Grüße"


@pytest.mark.parametrize("status", [401, 404, 500])
def test_status_is_the_reason(server, status):
    server.pages["/bad"] = (status, {})
    pages = Pages({})
    with pytest.raises(PageUnavailable, match=f"HTTP status {status}"):
        pages.get(f"{server.url}/bad")
    assert pages.attempts[0]["outcome"] == f"HTTP status {status}"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/page", "http://[", "odd://page"])
def test_nobody_answers(url):
    with pytest.raises(PageUnavailable, match="no answer"):
        Pages({}).get(url)


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "AIR_GAPPED"])
def test_switched_off_network_is_not_used(server, variable):
    with pytest.raises(PageUnavailable, match=f"switched off by {variable}"):
        Pages({variable: "1"}).get(f"{server.url}/one/page.md")
    assert server.asked == []


def test_mirror_on_a_server_answers_for_a_host(server):
    server.pages["/docs.example/a/b.html"] = "mirrored"
    page = Pages({MIRROR: server.url, "AIR_GAPPED": "1"}).get("https://docs.example/a/b.html?x=1")
    assert (page.text, page.url) == ("mirrored", "https://docs.example/a/b.html?x=1")


def test_mirror_in_a_folder_answers_for_a_host(tmp_path):
    file = tmp_path / "docs.example" / "a b.md"
    file.parent.mkdir()
    file.write_text("in a folder")
    pages = Pages({MIRROR: tmp_path.as_uri(), "AIR_GAPPED": "1"})
    assert pages.get("https://docs.example/a%20b.md").text == "in a folder"
    with pytest.raises(PageUnavailable, match="No such file"):
        pages.get("https://docs.example/none.md")


def test_file_is_read_offline(tmp_path):
    file = tmp_path / "README.md"
    file.write_text("a card")
    assert Pages({"AIR_GAPPED": "1"}).get(file.as_uri()).text == "a card"


def test_large_page_is_cut(server, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 100)
    server.pages["/large"] = "x" * 5000
    assert Pages({}).get(f"{server.url}/large").text == "x" * 100
