import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.headlines import first_pictures, score_row, training_headline
from tasks.registry import ACTIONS


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.title)
def test_every_action_has_a_headline(action):
    assert callable(action.code.headline)


def test_scores_of_no_rows_are_absent():
    assert score_row("PASS", np.array([])) == ("PASS", 0, None, None, None)
    assert score_row("PASS", np.array([1.0, 2.0, 9.0])) == ("PASS", 3, 1.0, 2.0, 9.0)


def status_of(folder, losses, last):
    lines = [{"status": "STARTED"}]
    for epoch, loss in enumerate(losses):
        lines.append({"message": "Eval", "kpi": {"val_loss": loss, "epoch": epoch}})
        lines.append({"message": "Training loop in progress", "epoch": epoch, "max_epoch": last})
    (folder / "status.json").write_text("".join(json.dumps(line) + "\n" for line in lines))


class TestTraining:
    def test_names_rows_epochs_and_the_best_epoch_counted_from_one(self, tmp_path):
        status_of(tmp_path, [0.5, 0.25, 0.75], 2)
        csv = tmp_path / "rows.csv"
        csv.write_text("input_path,golden_path,label,object_name\na,b,PASS,c\n")
        told = training_headline(tmp_path, csv, None)
        assert told.sentence == "Trained for 3 epochs on 1 row; lowest validation loss 0.25, in epoch 2."
        assert told.rows == [(1, 0.5, ""), (2, 0.25, "the lowest"), (3, 0.75, "")]

    def test_of_many_epochs_shows_the_first_the_best_and_the_last(self, tmp_path):
        status_of(tmp_path, [1.0 / (1 + (epoch == 20)) for epoch in range(50)], 49)
        assert [row[0] for row in training_headline(tmp_path, None, None).rows] == [1, 21, *range(43, 51)]

    def test_without_validation_says_so(self, tmp_path):
        (tmp_path / "status.json").write_text('{"epoch": 0, "max_epoch": 4}\n')
        told = training_headline(tmp_path, None, tmp_path / "absent.csv")
        assert told.sentence == "Trained for 1 epoch; the status file has no validation loss."
        assert not told.rows


def test_first_pictures_of_an_empty_or_other_table(tmp_path):
    file = tmp_path / "table.parquet"
    pq.write_table(pa.table({"filepath": pa.array([], pa.string())}), file)
    assert first_pictures(file, "filepath") == []
    assert first_pictures(file, "other") == []
