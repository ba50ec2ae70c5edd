import json

import pytest

from tasks.deft.state import LOG_FILE, STATE_FILE, DeftState, create_state, load_state
from tasks.errors import InputError


def test_log_holds_the_events_of_the_state(played):
    played.advance()
    played.advance()
    lines = [json.loads(line) for line in (played.folder / LOG_FILE).read_text().splitlines()]
    assert lines == [event.model_dump() for event in played.state.events]


def test_log_one_line_short_after_a_crash_is_completed(played):
    played.advance()
    played.advance()
    log = played.folder / LOG_FILE
    whole = log.read_text()
    log.write_text(whole.splitlines(keepends=True)[0])
    load_state(played.folder)
    assert log.read_text() == whole
    assert not log.with_suffix(".jsonl.bak").exists()


def test_log_that_disagrees_is_rebuilt_and_kept(played):
    played.advance()
    log = played.folder / LOG_FILE
    whole = log.read_text()
    log.write_text("something else\n")
    load_state(played.folder)
    assert log.read_text() == whole
    assert log.with_suffix(".jsonl.bak").read_text() == "something else\n"


def test_change_by_hand_is_reported(played, caplog):
    played.advance()
    file = played.folder / STATE_FILE
    file.write_text(file.read_text().replace("did train", "did nothing"))
    load_state(played.folder)
    assert "changed by hand" in caplog.text


def test_second_state_in_one_folder_is_refused(played):
    with pytest.raises(InputError, match="exists"):
        create_state(played.folder, played.state)


def test_state_that_is_not_valid_is_named_with_its_key(played):
    file = played.folder / STATE_FILE
    content = json.loads(file.read_text())
    del content["started_at"]
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"deft_state\.json: .*started_at"):
        load_state(played.folder)


def test_max_iterations_has_no_default():
    assert DeftState.model_fields["max_iterations"].is_required()
