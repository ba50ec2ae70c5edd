import csv
import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from tasks.changenet import work
from tasks.changenet.action import TRAIN
from tasks.changenet.files import LATEST, image_files
from tasks.changenet.network import scores_of
from tasks.errors import InputError, StageFailed
from tasks.registry import find_action, run_in_process


def test_inference_keeps_rows_order_and_columns_and_puts_the_score_last(trained_spec_of, data, tmp_path):
    table = pd.read_csv(data / "kpi.csv", dtype=str).assign(comment="a,b", number="007")
    table.to_csv(tmp_path / "kpi.csv", index=False)
    spec = trained_spec_of("inference", f"dataset.classify.infer_dataset.csv_path={tmp_path}/kpi.csv")
    work.inference(spec)
    found = pd.read_csv(spec.results_dir / "inference.csv", dtype=str)
    assert list(found.columns) == [*table.columns, "siamese_score"]
    pd.testing.assert_frame_equal(found.drop(columns="siamese_score"), table)
    scores = found["siamese_score"].to_numpy(np.float32)
    assert [str(score) for score in scores] == found["siamese_score"].tolist()
    assert scores.min() >= 0
    assert scores.max() <= 1


def test_inference_says_what_it_used(trained_spec_of, trained):
    spec = trained_spec_of("inference")
    work.inference(spec)
    facts = json.loads((spec.results_dir / "inference_meta.json").read_text())
    assert facts["rows"] == 13
    assert facts["checkpoint"] == str(trained / "train" / LATEST)
    assert len(facts["checkpoint_sha256"]) == len(facts["spec_sha256"]) == 64


def test_scores_do_not_depend_on_the_batch(trained_spec_of):
    scores = []
    for size in (1, 200):
        spec = trained_spec_of("inference", f"dataset.classify.batch_size={size}")
        work.inference(spec)
        scores.append(pd.read_csv(spec.results_dir / "inference.csv")["siamese_score"])
    np.testing.assert_allclose(*scores, rtol=1e-4)


def test_an_earlier_score_column_is_replaced(trained_spec_of, data, tmp_path):
    table = pd.read_csv(data / "kpi.csv", dtype=str)
    table.insert(0, "siamese_score", "old")
    table.to_csv(tmp_path / "kpi.csv", index=False)
    spec = trained_spec_of("inference", f"dataset.classify.infer_dataset.csv_path={tmp_path}/kpi.csv")
    work.inference(spec)
    with (spec.results_dir / "inference.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0])[-1] == "siamese_score"
    assert all(row["siamese_score"] != "old" for row in rows)


def test_scores_that_are_not_finite_are_refused(trained_spec_of, trained, tmp_path):
    content = torch.load(trained / "train" / LATEST, weights_only=True)
    content["state_dict"]["model.branch.norm.bias"].fill_(float("nan"))
    torch.save(content, tmp_path / "nan.pth")
    spec = trained_spec_of("inference", f"inference.checkpoint={tmp_path}/nan.pth")
    with pytest.raises(StageFailed, match=r"not finite for row 2, row 3"):
        work.inference(spec)
    assert [file.name for file in spec.results_dir.iterdir()] == ["status.json"]


@pytest.mark.parametrize("name", ["inference", "evaluate", "export"])
def test_each_action_names_its_own_missing_checkpoint(trained_spec_of, name):
    with pytest.raises(InputError, match=rf"{name}.checkpoint is not set"):
        getattr(work, name)(trained_spec_of(name, f"{name}.checkpoint="))


def test_evaluate_reports_the_four_metrics_at_its_margin(trained_spec_of):
    spec = trained_spec_of("evaluate", "model.classify.eval_margin=0")
    work.evaluate(spec)
    lines = [json.loads(line) for line in (spec.results_dir / "status.json").read_text().splitlines()]
    (kpi,) = [line["kpi"] for line in lines if line["message"] == "Test metrics generated."]
    # Every score is above 0: 5 defects found, 8 false alarms.
    assert kpi == {
        "test_acc": pytest.approx(500 / 13),
        "test_fpr": pytest.approx(800 / 13),
        "test_fnr": 0.0,
        "defect_acc": 100.0,
    }


def test_the_exported_network_gives_the_same_numbers(trained_spec_of, trained):
    import onnxruntime

    spec = trained_spec_of("export")
    find_action("visual_changenet", "export").run(spec)
    session = onnxruntime.InferenceSession(spec.results_dir / "changenet_classify.onnx")
    assert [put.name for put in session.get_inputs()] == ["input_1", "input_2"]
    assert [put.name for put in session.get_outputs()] == ["output"]
    network = work.network_of(work.read_checkpoint(trained / "train" / LATEST, spec, "x"), spec).eval()
    for rows in (1, 3):
        test, golden = torch.rand(rows, 3, 32, 32), torch.rand(rows, 3, 32, 32)
        (output,) = session.run(None, {"input_1": test.numpy(), "input_2": golden.numpy()})
        with torch.inference_mode():
            expected = network(test, golden)
        np.testing.assert_allclose(output, expected, atol=1e-4)
        assert scores_of(torch.from_numpy(output)).shape == (rows,)


def test_export_does_not_overwrite(trained_spec_of, tmp_path):
    (tmp_path / "m.onnx").write_text("mine")
    with pytest.raises(InputError, match=r"m.onnx exists already"):
        work.export(trained_spec_of("export", f"export.onnx_file={tmp_path}/m.onnx"))
    assert (tmp_path / "m.onnx").read_text() == "mine"


def test_export_of_another_size_is_refused(trained_spec_of):
    with pytest.raises(InputError, match=r"export.input_height x input_width is 224 x 32"):
        work.export(trained_spec_of("export", "export.input_height=224"))


def test_outputs_of_a_training_name_every_checkpoint(trained, trained_spec_of, data):
    spec = trained_spec_of("train", f"train.results_dir={trained}/train")
    outputs = find_action("visual_changenet", "train").outputs(spec)
    assert {"experiment.yaml", "status.json", LATEST, "model_epoch_000_step_00004.pth"} < outputs.keys()
    assert sum(name.startswith("model_best_") for name in outputs) == 1


def test_the_cache_key_follows_the_pixels_and_not_the_folder(spec_of, data, tmp_path):
    train = find_action("visual_changenet", "train")
    key = train.digest(spec_of())
    assert train.digest(spec_of(f"train.results_dir={tmp_path}/elsewhere")) == key
    image = next(image_files(spec_of(), "train_dataset"))
    before = image.read_bytes()
    try:
        image.write_bytes(before + b"x")
        assert train.digest(spec_of()) != key
    finally:
        image.write_bytes(before)


def test_pretrained_weights_count_for_the_cache_key(spec_of, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    words = [f"model.backbone.pretrained_backbone_path={tmp_path}", "native.backbone_init=pretrained"]
    assert tmp_path / "model.safetensors" in TRAIN.reads(spec_of(*words))
    assert tmp_path / "model.safetensors" not in TRAIN.reads(spec_of(words[0]))


def test_the_command_line_ends_with_its_status(values, tmp_path, caplog):
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(values))
    caplog.set_level("INFO", "deft")
    argv = ["train", "-e", str(tmp_path / "spec.yaml"), "train.num_epochs=1"]
    assert run_in_process("visual_changenet", argv) == 0
    assert caplog.messages[-1] == "Execution status: PASS"
    assert run_in_process("visual_changenet", [*argv, "dataset.classify.batch_size=1"]) == 1
    assert caplog.messages[-1] == "Execution status: FAIL"
    last = (tmp_path / "results" / "train" / "status.json").read_text().splitlines()[-1]
    assert json.loads(last)["status"] == "FAILURE"
