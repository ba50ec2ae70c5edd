import json

import numpy as np
import pytest
from PIL import Image

from tasks.anomalygen.dataset_folder import open_dataset
from tasks.errors import InputError

LABELS = {"(33, 243, 3, 255)": {"class": "pad"}, "(240, 4, 111, 255)": {"class": "capacitor"}}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "nvpcb"
    for kind in ("clean_image", "cad_mask"):
        (folder / "PCB" / kind).mkdir(parents=True)
    mask = np.zeros((8, 8, 3), np.uint8)
    mask[2:5] = (33, 243, 3)
    for number in range(2):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / f"PCB/clean_image/c{number}.jpg")
        Image.fromarray(mask).save(folder / f"PCB/cad_mask/c{number}.png")
    (folder / "semantic_segmentation_labels.json").write_text(json.dumps(LABELS))
    entries = [
        {"defect_type": "PCB+bridge", "spatial_dependency": "cad"},
        {"defect_type": "PCB+open", "spatial_dependency": "text", "roi_prompt_defect_location": "a trace"},
        {"defect_type": "Phone+scratch", "spatial_dependency": "free"},
    ]
    (folder / "defect_spec.jsonl").write_text("\n".join(map(json.dumps, entries)) + "\n\n")
    return folder


def test_pairs_and_defects_of_the_texture(root):
    for project in ("PCB", "board"):
        dataset = open_dataset(root, project)
        assert (dataset.texture, dataset.anomalies) == ("PCB", ("bridge", "open"))
        assert [file.name for file in dataset.clean] == ["c0.jpg", "c1.jpg"]
        assert [file.name for file in dataset.masks] == ["c0.png", "c1.png"]


def grey_mask(root):
    Image.new("L", (8, 8), 33).save(root / "PCB/cad_mask/c1.png")


def foreign_colours(root):
    Image.new("RGB", (8, 8), (1, 2, 3)).save(root / "PCB/cad_mask/c1.png")


def other_size(root):
    Image.new("RGB", (4, 4), (33, 243, 3)).save(root / "PCB/cad_mask/c1.png")


def defect_spec(*lines):
    return lambda root: (root / "defect_spec.jsonl").write_text("\n".join(lines))


BAD = {
    "a grey mask": (grey_mask, "mode L"),
    "b foreign colours": (foreign_colours, "no colour of semantic"),
    "c other size": (other_size, r"\(4, 4\)"),
    "d broken mask": (lambda root: (root / "PCB/cad_mask/c1.png").write_text("x"), "cannot be read"),
    "e prompt": (
        defect_spec(
            '{"defect_type": "PCB+open", "spatial_dependency": "text", "roi_prompt_defect_location": " "}'
        ),
        "roi_prompt_defect_location",
    ),
    "f dependency": (defect_spec('{"defect_type": "PCB+open", "spatial_dependency": "near"}'), "'near'"),
    "g no JSON": (defect_spec("{"), "line 1 is not valid JSON"),
    "h no type": (defect_spec('{"defect_type": "open"}'), "<texture>\\+<anomaly>"),
    "i no line": (defect_spec('{"defect_type": "X+open"}'), "names no defect of the texture PCB"),
    "j no spec": (lambda root: (root / "defect_spec.jsonl").unlink(), "No such file"),
    "k no labels": (lambda root: (root / "semantic_segmentation_labels.json").unlink(), "No such file"),
    "l bad labels": (
        lambda root: (root / "semantic_segmentation_labels.json").write_text('{"pad": 1}'),
        "must map colours",
    ),
    "m unpaired": (lambda root: (root / "PCB/cad_mask/c1.png").rename(root / "PCB/cad_mask/z.png"), "c1, z"),
    "n empty": (lambda root: [file.unlink() for file in root.glob("PCB/*/*")], "holds no picture"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_precondition_that_does_not_hold_is_named(root, case):
    damage, says = BAD[case]
    damage(root)
    with pytest.raises(InputError, match=says):
        open_dataset(root, "PCB")


def test_an_unknown_texture_of_several_is_refused(root):
    (root / "Phone/clean_image").mkdir(parents=True)
    with pytest.raises(InputError, match="no board/clean_image; textures there: PCB, Phone"):
        open_dataset(root, "board")
