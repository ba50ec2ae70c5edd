"""Every kind of bad input: one clear line, an exit status that is not 0, and no artifact left behind."""

import logging
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tasks.dataset.sample import SampleSizes, write_sample_workspace
from tasks.registry import run_in_process

SIZES = SampleSizes(training=32, validation=16, kpi=16, pool=16, training_defects=0.5, crop=32)
TRAIN = "train/base/training_set.csv"


@pytest.fixture(scope="session", name="sample")
def _sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad") / "ws"
    write_sample_workspace(folder, sizes=SIZES, lights=("SolderLight",), num_epochs=1)
    return folder


@pytest.fixture
def space(sample, tmp_path):
    return shutil.copytree(sample, tmp_path / "ws")


@pytest.fixture
def refused(caplog, tmp_path):
    """Runs an action that must fail and gives its one error line."""

    def run(category, *words, status=1, results="out"):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="deft"):
            given = run_in_process(category, [str(word) for word in words])
        errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert given == status, errors
        assert caplog.records[-1].getMessage() == "Execution status: FAIL"
        assert len(errors) == 1
        assert "\n" not in errors[0]
        assert "defect of deft-flows" not in errors[0]
        left = [path.name for path in (tmp_path / results).rglob("*") if path.is_file()]
        assert set(left) <= {"status.json", "experiment.yaml"}, left
        return errors[0]

    return run


def gap_words(space, tmp_path, rows, **more):
    inference = tmp_path / "inference"
    inference.mkdir()
    pd.DataFrame(rows).to_csv(inference / "inference.csv", index=False)
    words = {
        "inference_results_dir": inference,
        "train_config": space / "specs" / "baseline_spec.yaml",
        "results_dir": tmp_path / "out",
        **more,
    }
    return ["vcn_aoi", *(f"{key}={value}" for key, value in words.items())]


ROWS = {
    "input_path": ["b"] * 3,
    "object_name": ["x", "y", "z"],
    "label": ["PASS", "missing", "PASS"],
    "siamese_score": [0.1, 0.9, 0.2],
}


def train_words(space, tmp_path):
    spec = yaml.safe_load((space / "specs" / "baseline_spec.yaml").read_text())
    spec["results_dir"] = str(tmp_path / "out")
    for name, file in (("train_dataset", TRAIN), ("validation_dataset", "train/base/validation_set.csv")):
        spec["dataset"]["classify"][name] = {
            "csv_path": str(space / file),
            "images_dir": str(space / "images"),
        }
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(spec))
    return ["train", "-e", file]


def test_missing_file(refused, space, tmp_path):
    words = gap_words(space, tmp_path, ROWS, train_config=tmp_path / "absent.yaml")
    assert "absent.yaml" in refused("gap_analysis", *words)


def test_missing_columns_are_all_named(refused, space, tmp_path):
    line = refused("gap_analysis", *gap_words(space, tmp_path, {"label": ["PASS"], "object_name": ["x"]}))
    assert "input_path" in line
    assert "siamese_score" in line


@pytest.mark.parametrize("score", [np.nan, np.inf, "high"])
def test_score_that_is_not_finite_names_its_row(refused, space, tmp_path, score):
    rows = {**ROWS, "siamese_score": [0.1, score, 0.2]}
    assert "3" in refused("gap_analysis", *gap_words(space, tmp_path, rows))


@pytest.mark.parametrize("value", ["0", "-1", "ten"])
def test_top_k_out_of_range(refused, space, tmp_path, value):
    line = refused("gap_analysis", *gap_words(space, tmp_path, ROWS, top_k_per_label=value))
    assert "top_k_per_label" in line


def test_unknown_key(refused, space, tmp_path):
    assert "unknown key colour" in refused("gap_analysis", *gap_words(space, tmp_path, ROWS, colour="red"))


def test_unset_key(refused, space, tmp_path):
    line = refused("gap_analysis", *gap_words(space, tmp_path, ROWS, inference_results_dir="???"))
    assert "not set: inference_results_dir" in line


def test_unknown_metric(refused, tmp_path):
    file = tmp_path / "inference.csv"
    pd.DataFrame(ROWS).to_csv(file, index=False)
    words = [f"inference_csv={file}", f"results_dir={tmp_path / 'out'}", "metric_contract=Beauty < 3%"]
    line = refused("evaluation", "far_at_recall", *words)
    assert "Beauty" in line
    assert "FAR" in line


def test_unreadable_image_in_training_is_named(refused, space, tmp_path):
    row = pd.read_csv(space / TRAIN, dtype=str).iloc[0]
    image = space / "images" / row["input_path"] / f"{row['object_name']}_SolderLight.jpg"
    image.write_bytes(b"no image")
    assert str(image) in refused("visual_changenet", *train_words(space, tmp_path))


def test_unreadable_image_in_embedding_is_named(refused, space, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    table = tmp_path / "images.parquet"
    pq.write_table(pa.table({"filepath": [str(bad)]}), table)
    assert run_in_process("visual_changenet", [str(word) for word in train_words(space, tmp_path)]) == 0
    checkpoint = tmp_path / "out" / "train" / "changenet_model_classify_latest.pth"
    words = [
        f"input_parquet={table}", f"output_parquet={tmp_path / 'embedded' / 'e.parquet'}", "model=ChangeNet",
        f"model_path={checkpoint}", f"model_config_path={space / 'specs' / 'baseline_spec.yaml'}",
    ]  # fmt: skip
    assert str(bad) in refused("embedding", "image_embeddings", *words, results="embedded")


@pytest.mark.parametrize("kept", ["PASS", "defect"])
def test_training_set_with_one_class(refused, space, tmp_path, kept):
    table = pd.read_csv(space / TRAIN, dtype=str)
    table[(table["label"] == "PASS") == (kept == "PASS")].to_csv(space / TRAIN, index=False)
    assert "class" in refused("visual_changenet", *train_words(space, tmp_path))


def test_different_encoders_of_the_two_embeddings(refused, tmp_path):
    from tasks.embedding.sidecar import Sidecar

    for side, model in (("source", "SigLIP"), ("target", "CLIP")):
        parquet = tmp_path / f"{side}.parquet"
        pq.write_table(pa.table({"filepath": ["a"], "embedding": [[1.0, 2.0]]}), parquet)
        facts = {"spec_sha256": "", "model": model, "model_path": "m", "revision": None, "dim": 2, "rows": 1}
        Sidecar(**facts, weights_sha256=model, model_config_path=None, batch_size=1, input_sha256="").write(
            parquet
        )
    words = [f"{side}_parquet={tmp_path / f'{side}.parquet'}" for side in ("source", "target")]
    line = refused("tmm", "nearest_neighbors", *words, f"output_parquet={tmp_path / 'out' / 'mined.parquet'}")
    assert "SigLIP" in line
    assert "CLIP" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no action given"),
        (("vcn",), "vcn_aoi, vlm_bcq"),
        (("vcn_aoi", "topn"), "not key=value"),
        (("vcn_aoi", "-e"), "needs a value"),
        (("vcn_aoi", "--quick"), "unknown flag"),
    ],
)
def test_malformed_command_line_is_a_usage_error(refused, words, said):
    assert said in refused("gap_analysis", *words, status=2)


def test_workspace_without_images(space):
    from tasks.dataset.workspace import open_workspace
    from tasks.errors import InputError

    shutil.rmtree(space / "images")
    with pytest.raises(InputError, match="workspace without images"):
        open_workspace(space)
