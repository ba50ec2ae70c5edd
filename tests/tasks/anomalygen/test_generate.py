import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from tasks.action import Action
from tasks.anomalygen.action import GENERATE
from tasks.anomalygen.clean_images import CleanPicture
from tasks.anomalygen.generate import Painter, Sample, generate, write_pictures
from tasks.anomalygen.painting import Painted
from tasks.anomalygen.plan import Plan
from tasks.anomalygen.surface import FEATHER
from tasks.anomalygen.tree import GeneratedTree
from tasks.artifacts import Artifact, read_json
from tasks.dataset.table import lighting_of
from tasks.errors import InputError, StageFailed
from tasks.stage import StageResult

ACTION = Action("anomalygen", "generate", "tasks.anomalygen.action:GENERATE")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file)).astype(int)


@pytest.fixture
def flat(tmp_path):
    """Clean pictures of one grey, which offer no place for any defect, and the words that use them."""
    images = tmp_path / "flat"
    images.mkdir()
    for number in range(3):
        Image.new("RGB", (32, 32), (90 + number,) * 3).save(images / f"s{number}.png")
    rows = [
        {"input_path": ".", "golden_path": ".", "label": "PASS", "object_name": f"s{n}"} for n in range(3)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "flat.csv", index=False)
    (tmp_path / "flat.yaml").write_text("dataset: {classify: {input_map: null, image_ext: .png}}")
    return {
        "clean_csv": tmp_path / "flat.csv",
        "images_dir": images,
        "train_yaml": tmp_path / "flat.yaml",
        "similar_to_weak": False,
    }


def test_the_tree_holds_what_the_allocation_says(generation, space):
    spec = generation(["MISSING", "bridge", "PASS"])
    outputs = ACTION.run(spec)
    tree = GeneratedTree(spec.results_dir)
    assert read_json(tree.request) == {"board+missing": 3, "board+bridge": 3}
    allocation = read_json(tree.allocation)
    rows = pd.read_csv(tree.result_csv, keep_default_na=False)
    assert rows["defect"].value_counts().to_dict() == {k: n for k, n in allocation.items() if n}
    names = rows["name"].tolist()
    assert rows["output_filename"].tolist() == [f"reconstructed_image/{name}.png" for name in names]
    lights = lighting_of(space.baseline_spec).names
    parts = [f"{kind}/" for kind in ("reconstructed_image", "original_image", "mask")]
    parts += [
        f"lighting/{light}/{kind}" for light in lights for kind in ("reconstructed_image", "original_image")
    ]
    for part in parts:
        assert sorted(file.stem for file in (tree.sdg / part).iterdir()) == sorted(names), part
    for name in names:
        first = pixels(tree.sdg / f"reconstructed_image/{name}.png")
        assert (first == pixels(tree.sdg / f"lighting/{lights[0]}/reconstructed_image/{name}.png")).all()
        around = Image.open(tree.amp / f"{name}.png").filter(ImageFilter.MaxFilter(2 * FEATHER + 1))
        for light in lights:
            ng, ok = (
                pixels(tree.sdg / f"lighting/{light}/{kind}/{name}.png")
                for kind in ("reconstructed_image", "original_image")
            )
            assert (ng == ok)[np.asarray(around) == 0].all()
    lines = [json.loads(line) for line in tree.testcase.read_text().splitlines()]
    assert [line["name"] for line in lines] == names
    assert len({line["seed"] for line in lines}) == len(lines)
    assert {file for file in spec.results_dir.rglob("*") if file.is_file()} == set(outputs.values())
    assert not list(spec.results_dir.glob(".*"))


def test_the_same_spec_gives_the_same_bytes_and_another_seed_others(generation, tmp_path):
    generate(generation(results_dir=tmp_path / "a"))
    generate(generation(results_dir=tmp_path / "b"))
    generate(generation(results_dir=tmp_path / "c", seed=7))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    masks = [contents(tmp_path / name / "amp") for name in "ac"]
    assert masks[0] != masks[1]


def test_a_second_run_replaces_all_of_the_first(generation, tmp_path):
    spec = generation(num_SDG=6)
    generate(spec)
    fewer = generation(num_SDG=2)
    stale = spec.results_dir / ".generating.tmp/sdg/old.png"
    stale.parent.mkdir(parents=True)
    stale.write_text("a run was killed here")
    generate(fewer)
    generate(generation(num_SDG=2, results_dir=tmp_path / "fresh"))
    assert contents(spec.results_dir) == contents(tmp_path / "fresh")


def test_random_order_and_one_lighting(generation, tmp_path, space):
    train_yaml = tmp_path / "one.yaml"
    light = lighting_of(space.baseline_spec).names[1]
    train_yaml.write_text(f"dataset: {{classify: {{input_map: [{light}], image_ext: .jpg}}}}")
    spec = generation(similar_to_weak=False, train_yaml=train_yaml)
    generate(spec)
    assert not (spec.results_dir / "sdg/lighting").exists()
    rows = pd.read_csv(spec.results_dir / "sdg/SDG_result.csv")
    assert all(name.endswith(f"_{light}.jpg") for name in rows["image_filename"])


def test_every_clean_picture_is_used_before_one_is_used_again(generation):
    spec = generation(["missing"], num_SDG=12)
    generate(spec)
    used = pd.read_csv(spec.results_dir / "sdg/SDG_result.csv")["image_filename"]
    assert used.is_unique


def test_pass_samples_are_paired_with_their_golden(generation, space):
    spec = generation(["missing"], paint_on="pass_sample", num_SDG=4)
    generate(spec)
    tree = GeneratedTree(spec.results_dir)
    for name in pd.read_csv(tree.result_csv)["name"]:
        ng, ok = (
            pixels(tree.sdg / f"{kind}/{name}.png") for kind in ("reconstructed_image", "original_image")
        )
        assert (ng != ok)[pixels(tree.sdg / f"mask/{name}.png") == 0].any()


@pytest.mark.parametrize(
    ("changes", "request_"),
    [
        ({"num_SDG": 5}, {"board+missing": 3, "board+bridge": 2}),
        ({"num_SDG": 6, "allocation": "mask_count"}, {"board+missing": 4, "board+bridge": 2}),
        ({"per_defect": {"Bridge": 2}}, {"board+bridge": 2}),
        (
            {"per_defect": {"excess solder": 1, "missing": 2, "open": 0}},
            {"board+excess solder": 1, "board+missing": 2},
        ),
        ({"weights": {"bridge": 3.0, "missing": 1.0}, "num_SDG": 4}, {"board+missing": 1, "board+bridge": 3}),
        ({"defects": ["BRIDGE"], "num_SDG": 3, "project": "pcb"}, {"pcb+bridge": 3}),
    ],
)
def test_what_is_asked_for(generation, changes, request_):
    plan = Plan(generation(["missing", "bridge", "missing", "tombstone"], **changes))
    assert {f"{plan.source.texture}+{label}": count for label, count in plan.request.items()} == request_


def test_pass_gaps_paint_the_defects_that_the_clean_csv_knows(generation):
    assert set(Plan(generation(["PASS"])).request) == {"missing", "bridge"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": ["tombstone"]}, "list some in defects"),
        ({"defects": ["tombstone"]}, "cannot paint tombstone"),
        ({"per_defect": {"tombstone": 2}}, "cannot paint tombstone"),
        ({"per_defect": {"missing": 0}}, "all counts are 0"),
        ({"weights": {"shift": 2.0}}, "weights: shift"),
        ({"labels": ["PASS"], "allocation": "mask_count"}, "all 0"),
        ({"labels": []}, "contains no rows"),
    ],
)
def test_a_request_that_cannot_be_met_writes_nothing(generation, changes, says):
    spec = generation(**changes)
    with pytest.raises(InputError, match=says):
        generate(spec)
    assert not spec.results_dir.exists()


def test_nothing_placed_fails_and_leaves_no_tree(generation, flat):
    spec = generation(**flat)
    with pytest.raises(StageFailed, match="none of 6 samples could be placed on 3 clean pictures"):
        generate(spec)
    assert contents(spec.results_dir) == {} if spec.results_dir.exists() else True


def test_pictures_that_offer_no_place_are_passed_over(generation, flat, space):
    golden = next((space.images_dir / "golden").rglob("U1@1_*.jpg"))
    Image.open(golden).save(flat["images_dir"] / "s9.png")
    with flat["clean_csv"].open("a") as rows:
        rows.write(".,.,PASS,s9\n")
    spec = generation(["missing"], num_SDG=3, **flat)
    generate(spec)
    assert read_json(spec.results_dir / "allocation.json") == {"board+missing": 3}
    assert set(pd.read_csv(spec.results_dir / "sdg/SDG_result.csv")["image_filename"]) == {"s9.png"}


def test_a_blocked_sample_is_black_and_says_why(tmp_path):
    file = tmp_path / "clean.png"
    Image.new("RGB", (8, 8), (10, 200, 10)).save(file)
    clean = CleanPicture("clean.png", (file,), (file,))
    mask = np.zeros((8, 8), bool)
    mask[2:4] = True
    painted = Painted((np.full((8, 8, 3), 9, np.uint8),), mask)
    tree = GeneratedTree(tmp_path / "tree")
    write_pictures(tree, Sample(0, "open", 1, 0, clean, painted, "nothing visible"), "board+open_00000", ())
    assert not pixels(tree.sdg / "reconstructed_image/board+open_00000.png").any()
    assert pixels(tree.sdg / "original_image/board+open_00000.png").any()
    assert (pixels(tree.amp / "board+open_00000.png") > 0).sum() == 16


def test_a_sample_does_not_depend_on_the_others(generation):
    pictures = Plan(generation()).pictures
    alone = Painter(pictures[:1], 42).sample(3, "missing")
    painter = Painter(pictures[:1], 42)
    painter.sample(1, "bridge")
    after = painter.sample(3, "missing")
    assert alone is not None
    assert after is not None
    assert (alone.painted.mask == after.painted.mask).all()
    assert alone.seed == after.seed


def test_lightings_of_different_size_are_refused(generation, space, tmp_path):
    images = shutil.copytree(space.images_dir, tmp_path / "images")
    for file in (images / "golden").rglob(f"*_{lighting_of(space.baseline_spec).names[1]}.jpg"):
        Image.open(file).resize((32, 32)).save(file)
    spec = generation(images_dir=images)
    with pytest.raises(InputError, match="differ in size"):
        generate(spec)
    assert contents(spec.results_dir) == {} if spec.results_dir.exists() else True


def test_a_broken_clean_picture_is_named(generation, space, tmp_path):
    images = shutil.copytree(space.images_dir, tmp_path / "images")
    broken = next((images / "golden").rglob("U1@1_*.jpg"))
    broken.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"U1@1_.*cannot be read"):
        generate(generation(images_dir=images, num_SDG=24, defects=["missing"]))


def test_weak_pictures_are_not_painted_on(generation):
    pictures = [one.files[0] for one in Plan(generation(paint_on="pass_sample")).pictures]
    spec = generation(["missing"] * 3, pictures[:3], paint_on="pass_sample")
    assert not {one.files[0] for one in Plan(spec).pictures} & set(pictures[:3])
    everything = generation(["missing"] * len(pictures), pictures, paint_on="pass_sample")
    with pytest.raises(InputError, match="clean pictures are measured ones"):
        generate(everything)


def nvidia(folder: Path, space, defects=("missing", "bridge"), pads=True) -> Path:
    """Goldens as a data set of the container: the middle of each is a part, between two pads."""
    for kind in ("clean_image", "cad_mask"):
        (folder / "PCB" / kind).mkdir(parents=True)
    light = lighting_of(space.baseline_spec).names[0]
    for file in sorted((space.images_dir / "golden").rglob(f"*_{light}.jpg"))[:8]:
        picture = Image.open(file)
        mask = np.zeros((picture.height, picture.width, 3), np.uint8)
        mask[20:44, 20:44] = (240, 4, 111)
        if pads:
            mask[26:38, 10:20] = mask[26:38, 44:54] = (33, 243, 3)
        picture.save(folder / "PCB/clean_image" / file.name)
        Image.fromarray(mask).save(folder / "PCB/cad_mask" / f"{file.stem}.png")
    labels = {"(240, 4, 111, 255)": {"class": "capacitor"}, "(33, 243, 3, 255)": {"class": "pad"}}
    (folder / "semantic_segmentation_labels.json").write_text(json.dumps(labels))
    lines = [json.dumps({"defect_type": f"PCB+{one}", "spatial_dependency": "cad"}) for one in defects]
    (folder / "defect_spec.jsonl").write_text("\n".join(lines))
    return folder


def test_a_dataset_of_the_container(generation, space, tmp_path):
    source = {"clean_csv": None, "images_dir": None, "train_yaml": None}
    spec = generation(["missing"], dataset_dir=nvidia(tmp_path / "nvpcb", space), num_SDG=3, **source)
    outputs = ACTION.run(spec)
    rows = pd.read_csv(outputs["SDG_result.csv"])
    assert set(rows["defect"]) == {"PCB+missing"}
    assert all(name.startswith("PCB/clean_image/") for name in rows["image_filename"])


def test_a_defect_that_falls_short_is_told_and_left_out(generation, space, tmp_path, caplog):
    folder = nvidia(tmp_path / "nvpcb", space, ["missing", "mousebite"], pads=False)
    source = {"dataset_dir": folder, "clean_csv": None, "images_dir": None, "train_yaml": None}
    spec = generation(["missing", "mousebite"], num_SDG=4, **source)
    with caplog.at_level(logging.WARNING, logger="deft"):
        generate(spec)
    assert "missing: 0 of 2 samples placed" in caplog.text
    assert read_json(spec.results_dir / "allocation_request.json") == {"PCB+missing": 2, "PCB+mousebite": 2}
    assert read_json(spec.results_dir / "allocation.json") == {"PCB+missing": 0, "PCB+mousebite": 2}
    assert len((spec.results_dir / "testcase.jsonl").read_text().splitlines()) == 2


def test_pictures_too_small_to_paint_on_are_named(generation, flat):
    Image.new("RGB", (8, 8)).save(flat["images_dir"] / "s0.png")
    with pytest.raises(InputError, match=r"clean picture s0\.png: .*24 pixels or more"):
        generate(generation(**flat))


def test_a_broken_dataset_stops_before_anything_is_written(generation, space, tmp_path):
    folder = nvidia(tmp_path / "nvpcb", space)
    (folder / "semantic_segmentation_labels.json").unlink()
    spec = generation(["missing"], dataset_dir=folder, clean_csv=None, images_dir=None, train_yaml=None)
    with pytest.raises(InputError, match="semantic_segmentation_labels"):
        generate(spec)
    assert not spec.results_dir.exists()


def test_a_defect_that_the_dataset_does_not_name_is_not_painted(generation, space, tmp_path):
    folder = nvidia(tmp_path / "nvpcb", space, ["bridge"])
    spec = generation(["missing"], dataset_dir=folder, clean_csv=None, images_dir=None, train_yaml=None)
    with pytest.raises(InputError, match="list some in defects"):
        generate(spec)


def test_the_digest_changes_with_a_clean_and_a_weak_picture(generation, space, tmp_path, kpi_pictures):
    images = shutil.copytree(space.images_dir, tmp_path / "images")
    weak = shutil.copy(kpi_pictures[0], tmp_path / "weak.jpg")
    spec = generation(["missing"], [Path(weak)], images_dir=images)
    before = ACTION.digest(spec)
    assert ACTION.digest(spec) == before
    Image.new("RGB", (64, 64)).save(weak)
    after_weak = ACTION.digest(spec)
    Image.new("RGB", (64, 64)).save(Plan(spec).source.pictures[0].files[1])
    assert len({before, after_weak, ACTION.digest(spec)}) == 3


def test_outputs_name_every_picture_and_miss_one_that_is_gone(generation):
    spec = generation()
    outputs = ACTION.run(spec)
    picture = outputs["sdg/reconstructed_image/" + pd.read_csv(outputs["SDG_result.csv"])["name"][0] + ".png"]
    picture.unlink()
    with pytest.raises(StageFailed, match=re.escape(picture.name)):
        ACTION.outputs(spec)


def test_a_cached_tree_is_copied_with_its_pictures_and_an_altered_one_is_noticed(generation, tmp_path):
    spec = generation()
    artifacts = {name: Artifact.of(file) for name, file in ACTION.run(spec).items()}
    result = StageResult(
        stage=ACTION.title, digest="", folder=spec.results_dir, artifacts=artifacts, seconds=0, computed_by=""
    )
    copied = result.placed_in(tmp_path / "copy")
    assert copied.intact()
    assert contents(tmp_path / "copy") == contents(spec.results_dir)
    assert set(ACTION.outputs(generation(results_dir=tmp_path / "copy"))) == set(artifacts)
    Image.new("RGB", (64, 64)).save(next((spec.results_dir / "sdg/original_image").iterdir()))
    assert not result.intact()


def test_a_run_that_fails_leaves_the_earlier_tree(generation, flat):
    spec = generation()
    generate(spec)
    before = contents(spec.results_dir)
    with pytest.raises(StageFailed):
        generate(generation(**flat))
    assert contents(spec.results_dir) == before


def test_a_tree_of_the_container_has_no_manifest(generation):
    spec = generation()
    generate(spec)
    tree = GeneratedTree(spec.results_dir)
    tree.manifest.unlink()
    tree.request.unlink()
    outputs = GENERATE.outputs(spec)
    assert {"allocation.json", "SDG_result.csv", "testcase.jsonl"} < set(outputs)
    assert any(name.startswith("sdg/original_image/") for name in outputs)
    assert "allocation_request.json" not in outputs
