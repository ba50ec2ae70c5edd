"""The second profile: an image folder."""

import shutil

import numpy as np
import pytest
from PIL import Image

from tasks.preflight.execution import summarise
from tasks.preflight.summary import ready

SPEC = "model: {type: resnet}\ntrain: {num_epochs: 2}\ndataset: {image_size: 32, batch_size: 4}\n"


@pytest.fixture
def workspace(tmp_path):
    """Two labels in every set; each image once."""
    root, rng = tmp_path / "shapes", np.random.default_rng(0)
    for folder, count in {"train": 4, "validation": 3, "kpi": 3, "pool": 5}.items():
        for label in ("circle", "square"):
            (root / folder / label).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 255, (8, 8, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / folder / label / f"{number}.png")
    (root / "specs").mkdir()
    (root / "specs/baseline_spec.yaml").write_text(SPEC)
    return root


@pytest.fixture
def look(subject_of, workspace):
    def summary(**changes):
        metric = {"name": "error_pct", "display_name": "Error", "operator": "<", "target": 5, "unit": "%"}
        sets = {"validation_set": workspace / "validation"}
        changes = {"phase1": sets, "phase3": sets, "loop": {"metric": metric}, **changes}
        return summarise(subject_of(profile="image_classifier", **changes))

    return summary


def finding(summary, check_id):
    return next(one for one in summary.findings if one.id == check_id)


def test_an_unchanged_workspace_is_ready(look, workspace):
    summary = look()
    ready(summary)
    assert summary.warnings == ()
    assert finding(summary, "data.sets").rows[0] == ("training set", "8", "circle 4, square 4")
    assert dict(finding(summary, "host.workspace").rows)["network_arch"] == "image_classifier"
    assert summary.covers.files["KPI set"].path == workspace / "kpi"


@pytest.mark.parametrize(
    ("left", "right"), [("train", "kpi"), ("train", "validation"), ("validation", "kpi")]
)
def test_a_copied_image_blocks(look, workspace, left, right):
    shutil.copy(workspace / right / "circle/0.png", workspace / left / "square/copy.png")
    found = finding(look(), "data.leakage")
    assert found.outcome == "block"
    assert f"{left}/square/copy.png = {right}/circle/0.png" in found.text


def test_a_kpi_image_in_the_pool_blocks_as_this_loop_would_not_begin(look, workspace):
    shutil.copy(workspace / "kpi/circle/0.png", workspace / "pool/circle/copy.png")
    assert finding(look(), "data.pool_leakage").outcome == "block"


def test_a_pool_label_that_is_never_trained_blocks(look, workspace):
    (workspace / "pool/square").rename(workspace / "pool/star")
    assert "no row of star" in finding(look(), "data.pool").text


def test_a_file_of_another_kind_blocks(look, workspace):
    (workspace / "train/circle/notes.txt").write_text("x")
    assert "not an image" in finding(look(), "data.files").text


def test_a_label_that_is_never_trained_blocks(look, workspace):
    shutil.copytree(workspace / "kpi/square", workspace / "kpi/star")
    found = finding(look(), "data.classes")
    assert found.outcome == "block"
    assert "no row of star" in found.text


def test_one_label_alone_blocks(look, workspace):
    shutil.rmtree(workspace / "validation/square")
    assert "all rows have the label circle" in finding(look(), "data.classes").text


def test_a_file_that_is_no_image_blocks(look, workspace):
    (workspace / "train/circle/broken.png").write_bytes(b"no")
    assert finding(look(), "data.images").outcome == "block"


def test_without_a_pool_nothing_is_mined(look, workspace):
    shutil.rmtree(workspace / "pool")
    assert finding(look(), "data.pool").outcome == "not_applicable"


def test_an_empty_set_blocks(look, workspace):
    shutil.rmtree(workspace / "kpi")
    summary = look()
    assert finding(summary, "data.files").outcome == "block"
    assert not summary.gate_valid


def test_a_base_spec_that_the_trainer_refuses_blocks(look, workspace):
    (workspace / "specs/baseline_spec.yaml").write_text(SPEC.replace("image_size", "image_sise"))
    assert "unknown key dataset.image_sise" in finding(look(), "data.spec").text


def test_the_kpi_folder_never_ranks_a_sweep(look, workspace):
    found = finding(look(phase1={"validation_set": workspace / "kpi"}), "phase1.validation")
    assert found.outcome == "block"


def test_a_changed_image_changes_the_token(look, workspace):
    before = look().token
    shutil.copy(workspace / "kpi/circle/0.png", workspace / "kpi/circle/1.png")
    assert look().token != before
