import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.action import Action
from tasks.anomalygen.action import GENERATE
from tasks.anomalygen.ingest import COLUMNS, ingest
from tasks.anomalygen.pairs import object_name
from tasks.artifacts import read_json, sha256_of, write_json
from tasks.dataset.leakage import ImageSet
from tasks.dataset.table import check_images, lighting_of, read_table
from tasks.errors import InputError, StageFailed

ACTION = Action("anomalygen", "ingest", "tasks.anomalygen.action:INGEST")
ALLOCATION = {"board+missing": 2, "board+Excess Solder": 1}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_rows_pictures_and_summary(tree, ingestion):
    spec = ingestion(tree.write(ALLOCATION))
    outputs = ACTION.run(spec)
    rows = read_table(outputs["sdg_rows.csv"])
    assert tuple(rows.columns) == COLUMNS
    assert len(COLUMNS) == 15
    assert rows["label"].tolist() == ["missing", "excess solder"]
    assert rows["object_name"].tolist() == ["board--missing_00000", "board--Excess-Solder_00001"]
    assert set(rows["input_path"]) == {"results/run/iter1/dataset/images/synthetic_iter1_ng"}
    assert set(rows["golden_path"]) == {"results/run/iter1/dataset/images/synthetic_iter1_ok"}
    assert set(rows["origin"]) == {"sdg"}
    assert set(rows["boardname"]) == {""}
    check_images(rows, spec.workspace, lighting_of(spec.train_yaml), "rows")
    raw = read_table(outputs["sdg_rows.raw.csv"])
    assert raw["guardrail_pass"].tolist() == ["1", "1", "0"]
    assert read_json(outputs["ingest_summary.json"]) == {
        "input_count": 3,
        "paired_count": 3,
        "skipped_unpaired_count": 0,
        "examples": ["board--missing_00000", "board--Excess-Solder_00001"],
        "converted_to_jpg_count": 8,
        "labels": {"excess solder": 1, "missing": 1},
        "guardrail_blocked": 1,
    }
    images = [name for name in outputs if name.endswith(".jpg")]
    assert len(images) == 8
    assert Image.open(outputs[images[0]]).format == "JPEG"
    assert {p for p in spec.results_dir.parent.rglob("*") if p.is_file()} == set(outputs.values())


def test_ng_is_the_reconstructed_and_ok_the_original_picture(tree, ingestion):
    spec = ingestion(tree.write(ALLOCATION), lights=(), ext=".png")
    ingest(spec)
    for kind, side in (("reconstructed_image", "ng"), ("original_image", "ok")):
        saved = spec.images_out / f"synthetic_iter1_{side}/board--missing_00000.png"
        assert saved.read_bytes() == (tree.root / f"sdg/{kind}/board+missing_00000.png").read_bytes()
    assert read_json(spec.results_dir / "ingest_summary.json")["converted_to_jpg_count"] == 0


def test_each_lighting_gets_its_own_picture(tree, ingestion):
    for kind in ("reconstructed_image", "original_image"):
        for name in ("board+missing_00000", "board+Excess Solder_00001", "board+missing_00002"):
            tree.picture(f"lighting/SideLight/{kind}/{name}.png", 77)
    spec = ingestion(tree.write(ALLOCATION), ext=".png")
    ingest(spec)
    folder = spec.images_out / "synthetic_iter1_ng"
    own = np.asarray(
        Image.open(tree.root / "sdg/lighting/SideLight/reconstructed_image/board+missing_00000.png")
    )
    common = np.asarray(Image.open(tree.root / "sdg/reconstructed_image/board+missing_00000.png"))
    assert (np.asarray(Image.open(folder / "board--missing_00000_SideLight.png")) == own).all()
    assert (np.asarray(Image.open(folder / "board--missing_00000_TopLight.png")) == common).all()
    (tree.root / "sdg/lighting/SideLight/original_image/board+missing_00000.png").unlink()
    with pytest.raises(StageFailed, match=r"SideLight/original_image lacks 1 samples: board\+missing_00000"):
        ingest(spec)


def test_pregenerated_pairs_need_no_allocation(tree, ingestion):
    root = tree.write()
    with pytest.raises(StageFailed, match=r"allocation\.json is missing.*require_allocation=false"):
        ingest(ingestion(root))
    ingest(ingestion(root, require_allocation=False))


def test_a_second_run_gives_the_same_bytes_and_replaces_what_was_there(tree, ingestion):
    spec = ingestion(tree.write(ALLOCATION))
    ingest(spec)
    before = contents(spec.workspace)
    (spec.images_out / "synthetic_iter1_ng/old.jpg").write_text("old")
    left = spec.images_out / ".synthetic_iter1_ng.tmp"
    left.mkdir()
    (left / "killed.jpg").write_text("a run was killed here")
    ingest(spec)
    assert contents(spec.workspace) == before


def test_a_jpeg_is_not_encoded_twice(tree, ingestion):
    tree.sample("board+missing_00003", ext=".jpg")
    spec = ingestion(tree.write({**ALLOCATION, "board+missing": 3}), lights=())
    ingest(spec)
    saved = spec.images_out / "synthetic_iter1_ng/board--missing_00003.jpg"
    assert saved.read_bytes() == (tree.root / "sdg/reconstructed_image/board+missing_00003.jpg").read_bytes()


def remove(path):
    return lambda tree: (tree.root / path).unlink()


def rename(path, to):
    return lambda tree: (tree.root / path).rename(tree.root / to)


NG = "sdg/reconstructed_image/board+missing_00000.png"
BROKEN = {
    "no result": (remove("sdg/SDG_result.csv"), InputError, r"SDG_result\.csv: No such file"),
    "no OK": (
        remove("sdg/original_image/board+missing_00000.png"),
        StageFailed,
        r"1 samples of .* unpaired: board\+missing_00000 \(no original_image\)",
    ),
    "no NG": (remove(NG), StageFailed, "no reconstructed_image"),
    "no picture": (
        lambda tree: [remove(NG)(tree), remove("sdg/original_image/board+missing_00000.png")(tree)],
        StageFailed,
        "no reconstructed_image, no original_image",
    ),
    "no row": (
        lambda tree: [
            tree.picture(f"{kind}/board+open_00009.png", 9)
            for kind in ("reconstructed_image", "original_image")
        ],
        StageFailed,
        r"board\+open_00009 \(no row in SDG_result\.csv\)",
    ),
    "two files": (
        lambda tree: tree.picture("original_image/board+missing_00000.jpg", 5),
        StageFailed,
        "two pictures",
    ),
    "broken picture": (
        lambda tree: (tree.root / NG).write_text("x"),
        InputError,
        r"board\+missing_00000\.png cannot be read",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_tree_is_named_and_nothing_is_written(tree, ingestion, case):
    damage, error, says = BROKEN[case]
    spec = ingestion(tree.write(ALLOCATION))
    damage(tree)
    with pytest.raises(error, match=says):
        ingest(spec)
    assert contents(tree.root.parent / "ws") == {} if spec.workspace.exists() else True


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"guardrail_pass": 0}, "blocked all 3 samples"),
        ({"guardrail_pass": ""}, r"row 2: guardrail_pass of board\+missing_00000 is '', not 0 or 1"),
        ({"output_filename": "board+missing_00000.png"}, "several rows for one sample"),
        ({"output_filename": "missing_00000.png"}, "row 2: 'missing_00000' is not"),
        ({"output_filename": "board+pass_0.png"}, "row 2: 'board.pass_0' is not"),
    ],
)
def test_rows_that_cannot_be_used(tree, ingestion, columns, says):
    with pytest.raises(StageFailed, match=says):
        ingest(ingestion(tree.write(ALLOCATION, **columns)))


def test_output_without_guardrail_column_is_unscreened(tree, ingestion):
    for row in tree.rows:
        del row["guardrail_pass"]
    with pytest.raises(StageFailed, match=r"no column guardrail_pass.*unscreened"):
        ingest(ingestion(tree.write(ALLOCATION)))


def test_a_result_without_names_is_refused(tree, ingestion):
    for row in tree.rows:
        row["file"] = row.pop("output_filename")
    with pytest.raises(InputError, match="lacks the column output_filename"):
        ingest(ingestion(tree.write(ALLOCATION)))


@pytest.mark.parametrize(
    ("allocation", "says"),
    [
        ({"board+missing": 0}, "nothing was placed"),
        ({}, "nothing was placed"),
        ({"board+missing": 3, "board+Excess Solder": 1}, r"disagree: board\+missing: 3 placed, 2 generated"),
        ({"board+missing": 2}, r"board\+excess solder: 0 placed, 1 generated"),
        ({**ALLOCATION, "board+open": 1}, r"board\+open: 1 placed, 0 generated"),
        ({"board+missing": -1}, "counts of 0 or more"),
        ({"board+missing": "2"}, "counts of 0 or more"),
        ({"board+missing": True}, "counts of 0 or more"),
    ],
)
def test_an_allocation_that_does_not_fit(tree, ingestion, allocation, says):
    with pytest.raises(StageFailed, match=says):
        ingest(ingestion(tree.write(allocation)))


def test_too_little_of_what_was_asked_for_was_placed(tree, ingestion, tmp_path):
    root = tree.write(ALLOCATION)
    ingest(ingestion(root, requested=6))
    with pytest.raises(StageFailed, match=r"3 of 7 samples asked for were placed, less than .* 0.5"):
        ingest(ingestion(root, requested=7))
    ingest(ingestion(root, requested=7, min_allocation_ratio=0.4))
    write_json(tmp_path / "asked.json", {"board+missing": 7})
    with pytest.raises(StageFailed, match="3 of 7"):
        ingest(ingestion(root, requested=str(tmp_path / "asked.json")))
    with pytest.raises(InputError, match=r"requested .*gone\.json: No such file"):
        ingest(ingestion(root, requested=str(tmp_path / "gone.json")))
    write_json(root / "allocation_request.json", {"board+missing": 8})
    with pytest.raises(StageFailed, match="3 of 8"):
        ingest(ingestion(root))


def test_a_picture_that_is_not_the_one_of_the_manifest(tree, ingestion):
    root = tree.write(ALLOCATION)
    file = root / NG
    write_json(root / "sdg/manifest.json", {NG: sha256_of(file)})
    ingest(ingestion(root))
    Image.new("RGB", (16, 16)).save(file)
    with pytest.raises(StageFailed, match=r"1 files of .* are not what manifest\.json says"):
        ingest(ingestion(root))


def test_names_that_collide_as_object_names_are_refused(tree, ingestion):
    tree.sample("board+excess-solder_00001")
    tree.sample("board+excess?solder_00001")
    with pytest.raises(StageFailed, match="several rows for one sample: board--excess-solder_00001"):
        ingest(ingestion(tree.write(), require_allocation=False))


def test_object_names_are_safe():
    assert object_name("board+excess solder/2_00001") == "board--excess-solder-2_00001"
    assert object_name("board+缺件_00001") == "board--缺件_00001"


def test_images_outside_the_workspace_have_absolute_paths(tree, ingestion, tmp_path):
    spec = ingestion(tree.write(ALLOCATION), images_out=tmp_path / "elsewhere")
    ingest(spec)
    rows = read_table(spec.results_dir / "sdg_rows.csv")
    assert set(rows["input_path"]) == {str(tmp_path / "elsewhere/synthetic_iter1_ng")}
    check_images(rows, spec.workspace, lighting_of(spec.train_yaml), "rows")


def test_the_digest_follows_the_pictures_and_the_places(tree, ingestion, tmp_path):
    root = tree.write(ALLOCATION)
    digests = {ACTION.digest(ingestion(root))}
    assert ACTION.digest(ingestion(root)) in digests
    digests.add(ACTION.digest(ingestion(root, images_out=tmp_path / "other")))
    Image.new("RGB", (16, 16)).save(root / NG)
    digests.add(ACTION.digest(ingestion(root)))
    assert len(digests) == 3


def test_a_lost_picture_is_missed(tree, ingestion):
    spec = ingestion(tree.write(ALLOCATION))
    ACTION.run(spec)
    (spec.images_out / "synthetic_iter1_ng/board--missing_00000_TopLight.jpg").unlink()
    with pytest.raises(StageFailed, match=r"left no .*board--missing_00000_TopLight"):
        ACTION.outputs(spec)


def test_an_ingestion_that_fails_leaves_the_earlier_one(tree, ingestion):
    spec = ingestion(tree.write(ALLOCATION))
    ingest(spec)
    before = contents(spec.workspace)
    (tree.root / "sdg/original_image/board+Excess Solder_00001.png").write_text("x")
    with pytest.raises(InputError, match="cannot be read"):
        ingest(spec)
    assert contents(spec.workspace) == before


def test_what_we_generate_is_ingested_with_every_lighting(generation, space, tmp_path, ingestion):
    made = generation(["missing"], num_SDG=3)
    GENERATE.run(made)
    names = lighting_of(space.baseline_spec)
    spec = ingestion(made.results_dir, lights=names.names, ext=names.image_ext)
    ingest(spec)
    rows = read_table(spec.results_dir / "sdg_rows.csv")
    pairs = ImageSet("rows", rows, spec.workspace, names)
    first, second = (np.asarray(Image.open(file)).astype(int) for file in pairs.input_files()[0])
    assert abs(first - second).mean() > 1
    assert json.loads((spec.results_dir / "ingest_summary.json").read_text())["labels"] == {
        "missing": len(rows)
    }
    assert pd.read_csv(made.results_dir / "sdg/SDG_result.csv")["guardrail_pass"].sum() == len(rows)
