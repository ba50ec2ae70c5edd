import json

import pytest

from tasks.changenet.status import reported


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
