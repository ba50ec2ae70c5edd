"""Section 4 on an AOI workspace: sets, leakage, pool, pairs, paths, memory, backbone."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

TRAINING = "train/base/training_set.csv"
VALIDATION = "train/base/validation_set.csv"
KPI = "kpi/testing_set.csv"
POOL = "augmentation/mining_pool/mining_pool.csv"


def rows_of(workspace, name):
    return pd.read_csv(workspace / name, dtype=str, keep_default_na=False)


def add(workspace, name, row):
    table = pd.concat([rows_of(workspace, name), pd.DataFrame([row])], ignore_index=True)
    table.fillna("").to_csv(workspace / name, index=False)


def as_dict(finding):
    return {row[0]: row[1] for row in finding.rows}


def pairs(folder, names=("board+bridge_00000", "board+bridge_00001", "board+missing_00000")):
    """A tree of finished pairs as a generator leaves it."""
    rng = np.random.default_rng(0)
    for kind in ("reconstructed_image", "original_image"):
        (folder / "sdg" / kind).mkdir(parents=True)
        for name in names:
            pixels = rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "sdg" / kind / f"{name}.png")
    lines = ["output_filename,guardrail_pass", *(f"{name}.png,1" for name in names)]
    (folder / "sdg" / "SDG_result.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_sets_are_counted_with_their_labels(found):
    rows = {row[0]: row[1:] for row in found("data.sets").rows}
    assert rows["training set"][0] == "40"
    assert rows["KPI set"][1].startswith("PASS 18, ")
    assert rows["mining pool"][0] == "36"
    assert rows["pregenerated pairs"] == ("0", "none")


def test_kpi_labels_have_shares(found):
    assert found("data.kpi_labels").rows[0] == ("PASS", "18", "60.0 %")


def test_labels_that_are_repaired_are_counted(found, workspace):
    table = rows_of(workspace, TRAINING)
    table.loc[table["label"] == "PASS", "label"] = " pass "
    table.to_csv(workspace / TRAINING, index=False)
    finding = found("data.sets")
    assert finding.outcome == "warn"
    assert "28 of the training set" in finding.text


@pytest.mark.parametrize("name", [VALIDATION, KPI])
def test_a_set_with_one_class_blocks(found, workspace, name):
    table = rows_of(workspace, name)
    table[table["label"] == "PASS"].to_csv(workspace / name, index=False)
    finding = found("data.classes")
    assert finding.outcome == "block"
    assert "label set with one class" in finding.text


@pytest.mark.parametrize(("left", "right"), [(TRAINING, VALIDATION), (TRAINING, KPI), (VALIDATION, KPI)])
def test_an_image_in_two_sets_blocks(found, workspace, left, right):
    add(workspace, left, {**rows_of(workspace, right).iloc[0], "label": "relabelled"})
    finding = found("data.leakage")
    assert finding.outcome == "block"
    assert sorted(row[1] for row in finding.rows) == ["0", "0", "1"]
    assert "canonical" in finding.text


def test_a_copied_kpi_image_in_the_pool_warns_and_says_what_happens(found, workspace):
    row = rows_of(workspace, KPI).iloc[0]
    shutil.copytree(workspace / "images" / row["input_path"], workspace / "images/copies")
    add(workspace, POOL, {**row, "input_path": "copies"})
    finding = found("data.pool_leakage")
    assert finding.outcome == "warn"
    assert "the loop stops as soon as one is to be trained on" in finding.text
    assert as_dict(finding) == {"mining pool / validation set": "0", "mining pool / KPI set": "1"}


def test_a_pool_row_spelled_below_images_leaks_too(found, workspace):
    row = rows_of(workspace, KPI).iloc[0]
    add(workspace, POOL, {**row, "input_path": f"images/{row['input_path']}"})
    assert found("data.pool_leakage").outcome == "warn"


def test_without_a_pool_there_is_nothing_to_mine(found, workspace):
    (workspace / POOL).unlink()
    assert found("data.pool").outcome == "not_applicable"
    assert found("data.pool_leakage").outcome == "not_applicable"


def test_a_pool_that_does_not_resolve_blocks(found, workspace):
    add(workspace, POOL, {**rows_of(workspace, POOL).iloc[0], "input_path": "nowhere"})
    finding = found("data.pool")
    assert finding.outcome == "block"
    assert "1 missing of 37 rows" in finding.text


def test_a_missing_image_blocks(found, workspace):
    row = rows_of(workspace, VALIDATION).iloc[2]
    (workspace / "images" / row["input_path"] / f"{row['object_name']}_SolderLight.jpg").unlink()
    finding = found("data.images")
    assert finding.outcome == "block"
    assert "1 of the validation set, first row 4" in finding.text


def test_finished_pairs_are_matched_by_name(found, workspace):
    folder = pairs(workspace / "made")
    loop = {"sdg_source": "pregenerated", "pregenerated_dir": str(folder)}
    assert "3 matched by base name, 3 passed the guard-rail" in found("data.pool", loop=loop).text
    assert ("pregenerated pairs", "3", "bridge 2, missing 1") in found("data.sets", loop=loop).rows
    (folder / "sdg/original_image/board+bridge_00000.png").unlink()
    finding = found("data.pool", loop=loop)
    assert finding.outcome == "block"
    assert "1 samples" in finding.text
    assert "unpaired" in finding.text
    assert found("data.kpi_labels", loop=loop).outcome == "ok"
    assert found("data.sets", loop=loop).outcome == "block"


def test_a_finished_pair_made_of_a_kpi_image_warns(found, workspace):
    folder = pairs(workspace / "made")
    row = rows_of(workspace, KPI).iloc[0]
    image = workspace / "images" / row["input_path"] / f"{row['object_name']}_SolderLight.jpg"
    with Image.open(image) as picture:
        picture.save(folder / "sdg/original_image/board+bridge_00000.png")
    loop = {"sdg_source": "pregenerated", "pregenerated_dir": str(folder)}
    finding = found("data.pool_leakage", loop=loop)
    assert as_dict(finding)["pregenerated pairs / KPI set"] == "1"


def test_a_base_spec_that_the_trainer_refuses_blocks(found, edit_spec):
    edit_spec(lambda spec: spec["train"].update(seeed=1))
    finding = found("data.spec")
    assert finding.outcome == "block"
    assert "unknown key train.seeed" in finding.text


def test_a_relative_workspace_blocks(found, workspace, monkeypatch):
    monkeypatch.chdir(workspace.parent)
    finding = found("data.paths", workspace=workspace.relative_to(workspace.parent))
    assert finding.outcome == "block"
    assert "is not absolute" in finding.text


def test_results_that_cannot_be_written_block(found, workspace):
    finding = found("data.paths", phase1={"results_dir": workspace / KPI / "results"})
    assert finding.outcome == "block"
    assert "results of phase1" in finding.text


def test_a_batch_above_the_rows_warns(found, edit_spec):
    edit_spec(lambda spec: spec["dataset"]["classify"].update(batch_size=64))
    finding = found("data.batch")
    assert (finding.outcome, "above the 40 training rows" in finding.text) == ("warn", True)


def test_a_prefetch_beyond_the_memory_blocks(found, edit_spec):
    edit_spec(lambda spec: spec["dataset"]["classify"].update(image_width=100_000, image_height=100_000))
    assert found("data.memory").outcome == "block"


def test_images_that_are_decoded_again_and_again_warn(found, edit_spec):
    size = {"image_width": 11_000, "image_height": 11_000, "batch_size": 1}
    edit_spec(lambda spec: spec["dataset"]["classify"].update(size))
    assert found("data.memory").outcome == "warn"


@pytest.mark.parametrize(
    ("backbone", "native", "network", "outcome", "said"),
    [
        ({}, "random", None, "ok", "random weights"),
        ({}, "pretrained", None, "block", "MISSING"),
        ({"pretrained_backbone_path": "/no/such.safetensors"}, "pretrained", None, "block", "MISSING"),
        ({"pretrained_backbone_path": "owner/name"}, "pretrained", None, "ok", "will fetch"),
        ({"pretrained_backbone_path": "owner/name"}, "pretrained", "airgap", "block", "MISSING (offline)"),
        ({"type": "c_radio_v2_b"}, "random", None, "block", "not in the native engine"),
    ],
)
def test_the_backbone(found, edit_spec, backbone, native, network, outcome, said):
    def change(spec):
        spec["model"]["backbone"].update(backbone)
        spec["native"]["backbone_init"] = native

    edit_spec(change)
    finding = found("data.backbone", network_mode=network)
    assert finding.outcome == outcome
    assert said in finding.text
