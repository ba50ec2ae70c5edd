import logging

from hypothesis import given
from hypothesis import strategies as st

from blocks.containers.log import LINE_END, Log


def said(tmp_path, chunks, hidden=()):
    file = tmp_path / "a.log"
    with Log(file, hidden) as log:
        for chunk in chunks:
            log.take(chunk)
    return file.read_text(encoding="utf-8")


def test_lines_are_written_whole_and_told_at_their_level(tmp_path, caplog):
    caplog.set_level(logging.INFO, "deft")
    text = said(tmp_path, [b"one\ntw", b"o\n", b"WARNING: three\n", b"ERROR: four\n", b"epoch 1/2\nfive"])
    assert text == "one\ntwo\nWARNING: three\nERROR: four\nepoch 1/2\nfive\n"
    assert [(one.name, one.levelname, one.getMessage()) for one in caplog.records] == [
        ("deft", "INFO", "one"),
        ("deft", "INFO", "two"),
        ("deft", "WARNING", "WARNING: three"),
        ("deft", "ERROR", "ERROR: four"),
        ("deft.progress", "INFO", "epoch 1/2"),
        ("deft", "INFO", "five"),
    ]


def test_a_progress_bar_goes_to_the_file_only(tmp_path, caplog):
    caplog.set_level(logging.INFO, "deft")
    assert said(tmp_path, [b"10 %\r", b"50 %\r100 %\r\n", b"done\r", b"\n"]) == "10 %\n50 %\n100 %\ndone\n"
    assert [one.getMessage() for one in caplog.records] == ["100 %", "done"]


def test_secrets_never_pass(tmp_path, caplog):
    caplog.set_level(logging.INFO, "deft")
    token = "hf_" + "a1B2" * 9
    text = said(tmp_path, [f"using {token}\n".encode(), b"key open-sesame used\n"], ["open-sesame"])
    for place in (text, caplog.text):
        assert token not in place
        assert "open-sesame" not in place
    assert text.splitlines()[1] == "key *** used"


def test_bytes_that_are_no_text_do_not_stop_it(tmp_path):
    assert said(tmp_path, [b"a\xff\xfeb\n"]) == "a\ufffd\ufffdb\n"


@given(st.lists(st.binary(max_size=6), max_size=6))
def test_cutting_what_is_said_into_chunks_changes_nothing(tmp_path_factory, chunks):
    folder = tmp_path_factory.mktemp("log")
    whole = b"".join(chunks)
    assert said(folder, chunks) == said(folder, [whole])
    assert LINE_END.sub(b"", whole).count(b"\n") == 0
