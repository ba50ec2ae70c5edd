from pathlib import Path

import pytest
import yaml

from tasks.dataset.specs import DATA_SETS, baseline_spec, inference_spec, read_spec, training_spec
from tasks.dataset.workspace import Workspace
from tasks.errors import InputError


@pytest.fixture
def derived(workspace: Workspace) -> dict:
    return training_spec(
        read_spec(workspace.baseline_spec),
        workspace,
        workspace.root / "combined.csv",
        workspace.root,
        workspace.root / "results/iter1",
        Path("/best.pth"),
    )


def test_only_the_training_images_start_at_the_workspace_root(workspace: Workspace, derived: dict) -> None:
    classify = derived["dataset"]["classify"]
    roots = {name: classify[name]["images_dir"] for name in DATA_SETS}
    assert roots.pop("train_dataset") == str(workspace.root)
    assert set(roots.values()) == {str(workspace.images_dir)}
    assert classify["train_dataset"]["csv_path"] == str(workspace.root / "combined.csv")
    assert classify["validation_dataset"]["csv_path"] == str(workspace.validation_csv)
    assert classify["test_dataset"]["csv_path"] == str(workspace.kpi_csv)


def test_training_starts_from_weights_and_never_resumes(derived: dict, workspace: Workspace) -> None:
    assert derived["train"]["pretrained_model_path"] == "/best.pth"
    assert derived["train"]["resume_training_checkpoint_path"] is None
    base = read_spec(workspace.baseline_spec)
    first = training_spec(base, workspace, workspace.training_csv, workspace.images_dir, workspace.results)
    assert first["train"]["pretrained_model_path"] is None
    assert "train_dataset" not in base["dataset"]["classify"], "the base is left as it is"


def test_everything_else_of_the_spec_stays(derived: dict, workspace: Workspace) -> None:
    base = read_spec(workspace.baseline_spec)
    assert derived["model"] == base["model"]
    assert derived["native"] == base["native"]
    assert derived["train"]["optim"] == base["train"]["optim"]


def test_data_sets_that_are_one_anchored_mapping_do_not_move_together(
    workspace: Workspace, tmp_path: Path
) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(
        "dataset:\n  classify:\n    train_dataset: &all {csv_path: a, images_dir: '${root}', sampler: x}\n"
        "    validation_dataset: *all\n    lr: 1e-3\nroot: /r\n"
    )
    spec = read_spec(file)
    assert spec["dataset"]["classify"]["lr"] == 0.001
    derived = training_spec(spec, workspace, workspace.training_csv, workspace.root, tmp_path)
    classify = yaml.safe_load(yaml.safe_dump(derived))["dataset"]["classify"]
    assert classify["train_dataset"]["images_dir"] == str(workspace.root)
    assert classify["train_dataset"]["sampler"] == "x"
    assert classify["validation_dataset"]["images_dir"] == str(workspace.images_dir)
    assert derived["root"] == "/r"


def test_inference_spec_keeps_the_model_and_drops_training(derived: dict) -> None:
    spec = inference_spec(derived, Path("/k.csv"), Path("/images"), Path("/best.pth"), Path("/out"))
    classify = spec["dataset"]["classify"]
    assert spec["model"] == derived["model"]
    for key in ("input_map", "concat_type", "image_ext", "image_width", "num_input", "batch_size"):
        assert classify[key] == derived["dataset"]["classify"][key]
    assert classify["augmentation_config"]["augment"] is False
    assert derived["dataset"]["classify"]["augmentation_config"]["augment"] is True
    assert [name for name in DATA_SETS if name in classify] == ["infer_dataset"]
    assert classify["infer_dataset"] == {"csv_path": "/k.csv", "images_dir": "/images"}
    assert spec["train"] == {"classify": {"loss": "ce"}}
    assert spec["inference"] == {"checkpoint": "/best.pth"}
    assert spec["results_dir"] == "/out"


def test_baseline_spec_without_lights_is_one_image_without_suffix() -> None:
    classify = baseline_spec(())["dataset"]["classify"]
    assert (classify["input_map"], classify["num_input"]) == (None, 1)


def test_checkpoint_interval_never_exceeds_the_epochs() -> None:
    train = baseline_spec(("A",), num_epochs=3)["train"]
    assert train["checkpoint_interval"] <= train["num_epochs"] == 3


@pytest.mark.parametrize("text", ["a: [", "[1]", "dataset: {segment: {}}", "plain"])
def test_a_spec_that_is_no_classify_spec(tmp_path: Path, text: str) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"spec\.yaml"):
        read_spec(file)
