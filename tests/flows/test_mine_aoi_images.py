import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from flows.mine_aoi_images import mine_aoi_images
from tasks.errors import InputError
from tasks.registry import run_in_process

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(scope="module")
def checkpoint(tiny_workspace, tmp_path_factory):
    """A trained checkpoint of the tiny workspace."""
    folder = tmp_path_factory.mktemp("trained")
    spec = yaml.safe_load((tiny_workspace / "specs" / "baseline_spec.yaml").read_text())
    spec["results_dir"] = str(folder)
    for name, csv in (("train_dataset", "training_set"), ("validation_dataset", "validation_set")):
        spec["dataset"]["classify"][name] = {
            "csv_path": str(tiny_workspace / "train" / "base" / f"{csv}.csv"),
            "images_dir": str(tiny_workspace / "images"),
        }
    file = folder / "spec.yaml"
    file.write_text(yaml.safe_dump(spec))
    assert run_in_process("visual_changenet", ["train", "-e", str(file)]) == 0
    return folder / "train" / "changenet_model_classify_latest.pth"


def images_of(workspace, csv, count):
    table = pd.read_csv(workspace / csv, dtype=str).head(count)
    paths = workspace / "images" / table["input_path"] / (table["object_name"] + "_SolderLight.jpg")
    return pd.DataFrame({"filepath": paths.map(str), "label": table["label"]})


@pytest.fixture
def targets(workspace, tmp_path):
    table = images_of(workspace, "kpi/testing_set.csv", 5)
    pq.write_table(pa.Table.from_pandas(table), tmp_path / "targets.parquet")
    return tmp_path / "targets.parquet"


@pytest.fixture
def pool(workspace, tmp_path):
    images_of(workspace, "augmentation/mining_pool/mining_pool.csv", 30).to_csv(
        tmp_path / "pool.csv", index=False
    )
    return tmp_path / "pool.csv"


def mine(workspace, targets, pool, checkpoint, **more):
    config = workspace / "specs" / "baseline_spec.yaml"
    return mine_aoi_images(
        targets, pool, encoder="ChangeNet", encoder_path=str(checkpoint), encoder_config=config, **more
    )


def test_mined_images_are_unique_pool_images(workspace, targets, pool, checkpoint):
    found = mine(workspace, targets, pool, checkpoint, topn=3)
    mined = pq.read_table(found.mined)["filepath"].to_pylist()
    assert 3 <= len(mined) == len(set(mined)) <= 15
    assert set(mined) <= set(pd.read_csv(pool)["filepath"])
    names = {path.name for path in found.mined.parent.iterdir()}
    assert {"target_embeddings.parquet", "source_embeddings.parquet.meta.json", "mining_summary.txt"} <= names
    assert {"target_embeddings.log", "source_embeddings.log", "nearest_neighbors.log"} <= names
    assert found.report == found.mined.parent / "Mining_Report.md"
    assert {"report_inputs.json", "validation.json", "mining_config", "run.log"} <= names
    assert json.loads((found.mined.parent / "validation.json").read_text())["status"] in ("ok", "warn")
    assert str(pool) in found.report.read_text()


def test_the_report_tells_what_was_taken_from_an_earlier_run(workspace, targets, pool, checkpoint, tmp_path):
    first = mine(workspace, targets, pool, checkpoint, topn=3, results_dir=tmp_path / "first")
    second = mine(workspace, targets, pool, checkpoint, topn=4, results_dir=tmp_path / "second")
    assert "reused" not in first.report.read_text().lower().replace("reused or computed", "")
    text = second.report.read_text()
    assert text.count(f"Reused: taken from `{tmp_path / 'first'}`") == 2
    assert "`topn=4`" in text
    assert (tmp_path / "second" / "mining_config" / "source_embeddings_spec.yaml").is_file()


def test_weak_samples_without_labels_leave_the_label_filter_without_effect(
    workspace, targets, pool, checkpoint, tmp_path
):
    pq.write_table(pq.read_table(targets).drop_columns("label"), targets)
    found = mine(workspace, targets, pool, checkpoint, filter_by_label=True)
    text = found.report.read_text()
    assert "no-op: **yes**. The log says: `" in text
    assert "skipping the label filter" in text


def test_pool_image_that_is_gone_is_named_or_left_out(workspace, targets, pool, checkpoint):
    gone = pd.read_csv(pool)["filepath"].iloc[3]
    (workspace / gone).unlink()
    with pytest.raises(InputError, match=gone.rsplit("/", 1)[-1]):
        mine(workspace, targets, pool, checkpoint)
    found = mine(workspace, targets, pool, checkpoint, on_bad_image="exclude", topn=29)
    assert gone not in pq.read_table(found.mined)["filepath"].to_pylist()
    assert gone in (found.mined.parent / "excluded_pool_rows.csv").read_text()


def test_checkpoint_encoder_without_its_spec_is_refused(targets, pool):
    with pytest.raises(InputError, match="needs encoder_path"):
        mine_aoi_images(targets, pool, encoder="ChangeNet")
