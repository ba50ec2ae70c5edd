import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tasks.classifier.network import Classifier
from tasks.classifier.workspace import read_list, write_rows
from tasks.embedding.sidecar import Sidecar
from tasks.errors import InputError, StageFailed
from tasks.registry import find_action, run_in_process
from tasks.status import status_lines


def test_training_leaves_checkpoints_spec_and_status(trained):
    _, outputs = trained
    assert set(outputs) == {"experiment.yaml", "status.json", "best", "last"}
    assert status_lines(outputs["status.json"])[-1]["message"] == "Train finished successfully."


def test_warm_start_begins_where_the_checkpoint_ended(trained, tmp_path):
    shapes, outputs = trained
    slow = {"lr": 1e-9, "weight_decay": 0}
    again = shapes.train(tmp_path, pretrained_model_path=str(outputs["last"]), optim=slow, num_epochs=1)
    before, after = (
        pd.read_csv(shapes.score(file, tmp_path / name)["inference.csv"])
        for name, file in (("before", outputs["last"]), ("after", again["last"]))
    )
    # Only the running statistics of the normalisation move.
    assert (before["predicted"] == after["predicted"]).mean() > 0.6


def test_inference_scores_every_row_in_order(trained, tmp_path):
    shapes, outputs = trained
    scores = pd.read_csv(shapes.score(outputs["best"], tmp_path)["inference.csv"])
    rows = read_list(shapes.lists.kpi)
    assert scores["filepath"].tolist() == [row["filepath"] for row in rows]
    names = [f"prob_{label}" for label in ("circle", "cross", "square", "triangle")]
    assert np.allclose(scores[names].sum(axis=1), 1)
    assert (scores[names].idxmax(axis=1).str.removeprefix("prob_") == scores["predicted"]).all()
    own = [row[f"prob_{row['label']}"] for _, row in scores.iterrows()]
    assert scores["true_label_prob"].tolist() == own


def test_features_go_into_the_neighbour_search_as_they_are(trained, tmp_path):
    shapes, outputs = trained
    kpi = shapes.score(outputs["best"], tmp_path / "kpi")["features.parquet"]
    pool = shapes.score(outputs["best"], tmp_path / "pool", shapes.lists.pool)["features.parquet"]
    assert pq.read_schema(kpi).names == ["filepath", "embedding", "label"]
    assert Sidecar.of(kpi).rows == 32
    action = find_action("tmm", "nearest_neighbors")
    values = {"source_parquet": pool, "target_parquet": kpi, "output_parquet": tmp_path / "mined.parquet"}
    found = action.run(action.spec({**values, "knn_metric": "cosine", "filter_by_label": "true"}))
    assert pq.read_table(found["mined"]).num_rows > 0
    assert '"encoder_match": "yes"' in found["summary_json"].read_text()


def test_scores_do_not_depend_on_the_other_rows(trained, tmp_path):
    shapes, outputs = trained
    part = write_rows(tmp_path / "part.csv", read_list(shapes.lists.kpi)[5:9])
    scores, alone = (
        pd.read_csv(shapes.score(outputs["best"], tmp_path / name, rows)["inference.csv"])
        for name, rows in (("all", None), ("part", part))
    )
    assert np.allclose(scores["true_label_prob"][5:9], alone["true_label_prob"], atol=1e-5)


def test_same_inputs_have_the_same_digest_and_an_image_changes_it(shapes, tmp_path):
    action = find_action("image_classifier", "train")
    before, elsewhere = (action.digest(action.spec(shapes.training(tmp_path / name))) for name in "ab")
    assert before == elsewhere
    first = shapes.root / read_list(shapes.lists.train)[0]["filepath"]
    first.write_bytes((shapes.root / read_list(shapes.lists.train)[1]["filepath"]).read_bytes())
    assert action.digest(action.spec(shapes.training(tmp_path / "a"))) != before


def test_second_training_in_a_folder_starts_over(shapes, tmp_path):
    first = shapes.train(tmp_path, num_epochs=3)
    second = shapes.train(tmp_path, num_epochs=1)
    assert not first["last"].exists()
    assert second["last"].name.startswith("model_epoch_000")


def test_warm_start_from_what_would_be_cleared_is_refused(shapes, tmp_path):
    best = shapes.train(tmp_path)["best"]
    with pytest.raises(InputError, match="lies in the results folder that this training clears"):
        shapes.train(tmp_path, pretrained_model_path=str(best))
    assert best.is_file()


def test_one_label_is_nothing_to_learn(shapes, tmp_path):
    rows = [row for row in read_list(shapes.lists.train) if row["label"] == "cross"]
    write_rows(shapes.lists.train, rows)
    with pytest.raises(InputError, match="has one label only, cross"):
        shapes.train(tmp_path)


def test_validation_label_that_the_training_set_lacks_is_named(shapes, tmp_path):
    rows = [row for row in read_list(shapes.lists.train) if row["label"] != "cross"]
    write_rows(shapes.lists.train, rows)
    with pytest.raises(InputError, match=r"validation\.csv has the labels cross"):
        shapes.train(tmp_path)


def test_data_set_that_is_not_set_is_named(shapes, tmp_path):
    values = shapes.training(tmp_path)
    del values["dataset"]["validation_dataset"]
    action = find_action("image_classifier", "train")
    with pytest.raises(InputError, match=r"dataset\.validation_dataset\.csv_path is not set"):
        action.run(action.spec(values))


def test_failed_training_leaves_no_checkpoint_and_says_so_in_its_status(shapes, tmp_path):
    (shapes.root / read_list(shapes.lists.train)[0]["filepath"]).write_bytes(b"no image")
    with pytest.raises(InputError, match="1 images cannot be read"):
        shapes.train(tmp_path)
    assert [file.name for file in (tmp_path / "train").iterdir()] == ["status.json"]
    assert status_lines(tmp_path / "train" / "status.json")[-1]["status"] == "FAILURE"


def test_features_that_cannot_be_compared_fail_the_inference(trained, tmp_path, monkeypatch):
    shapes, outputs = trained
    plain = Classifier.forward
    monkeypatch.setattr(
        Classifier, "forward", lambda self, images: (plain(self, images)[0], 0 * plain(self, images)[1])
    )
    with pytest.raises(StageFailed, match="not finite or all zero"):
        shapes.score(outputs["best"], tmp_path)
    assert not (tmp_path / "inference" / "inference.csv").exists()


def test_command_line_runs_it_and_gives_exit_statuses(shapes, tmp_path):
    words = [
        f"results_dir={tmp_path}",
        f"dataset.train_dataset.csv_path={shapes.lists.train}",
        f"dataset.validation_dataset.csv_path={shapes.lists.validation}",
        f"dataset.train_dataset.images_dir={shapes.root}",
        f"dataset.validation_dataset.images_dir={shapes.root}",
    ]
    spec = str(shapes.root / "specs" / "baseline_spec.yaml")
    assert run_in_process("image_classifier", ["train", "-e", spec, *words, "train.num_epochs=1"]) == 0
    assert run_in_process("image_classifier", ["train", "-e", spec, *words, "train.num_epochs=0"]) == 1
