import json

import pytest

from tasks.status import failures, lines_after, reported, status_lines, validation_losses


def lines(folder):
    return [json.loads(line) for line in (folder / "status.json").read_text().splitlines()]


def test_lines_are_appended_with_their_facts(tmp_path):
    for _ in range(2):
        with reported(tmp_path / "deep", "train") as status:
            status.write("Eval metrics generated.", kpi={"val_loss": 0.5, "val_auc": float("nan")}, epoch=3)
    found = lines(tmp_path / "deep")
    assert [line["status"] for line in found] == ["STARTED", "RUNNING"] * 2
    assert found[0]["message"] == "Starting Visual ChangeNet train."
    assert found[1]["kpi"] == {"val_loss": 0.5, "val_auc": None}
    assert found[1]["epoch"] == 3
    assert {"date", "time", "verbosity"} <= found[1].keys()


@pytest.mark.parametrize("error", [AssertionError("odd"), RuntimeError("odd"), KeyboardInterrupt("odd")])
def test_whatever_stops_an_action_is_reported_and_goes_on(tmp_path, error):
    with pytest.raises(type(error)), reported(tmp_path, "train"):
        raise error
    last = lines(tmp_path)[-1]
    assert (last["status"], last["message"]) == ("FAILURE", f"{type(error).__name__}: odd")


def test_what_was_said_since_the_last_start_or_since_a_byte(tmp_path):
    file = tmp_path / "status.json"
    first = '{"status": "STARTED"}\n{"status": "FAILURE", "message": "of before"}\n'
    second = '{"status": "STARTED"}\nno JSON\n{"status": "FAILURE", "message": "no mem\n'
    file.write_text(first + second)
    assert failures(status_lines(file)) == ['{"status": "FAILURE", "message": "no mem']
    assert failures(lines_after(file, 0)) == failures(status_lines(file))
    assert failures(lines_after(file, len(first + second))) == []
    file.write_text(
        '{"kpi": {"epoch": 1, "val_loss": 0.5}}\n{"kpi": {"val_loss": null, "epoch": 2}, "epoch": 2}\n'
    )
    assert validation_losses(status_lines(file)) == {1: 0.5}
