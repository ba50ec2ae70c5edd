import pytest
from omegaconf import OmegaConf

from tasks.changenet.spec import CLIP_MEAN, ChangeNetSpec, rebase
from tasks.errors import InputError
from tasks.registry import find_action
from tasks.spec import defaults_of, load_spec


def test_results_dir_is_that_of_the_action(spec_of, tmp_path):
    assert spec_of().results_dir == tmp_path / "results" / "train"
    assert spec_of("inference.results_dir=/x/y", name="inference").results_dir.as_posix() == "/x/y"


def test_interpolation_sees_the_rebased_results_dir(spec_of, tmp_path):
    spec = spec_of("inference.checkpoint=${results_dir}/m.pth", name="inference")
    assert spec.inference.checkpoint == tmp_path / "results" / "inference" / "m.pth"


def test_no_results_dir_at_all_is_refused():
    tree = OmegaConf.create({**defaults_of(ChangeNetSpec), "results_dir": ""})
    with pytest.raises(InputError, match=r"set results_dir or train.results_dir"):
        rebase("train", tree)


def test_an_unknown_key_anywhere_is_named(spec_of):
    with pytest.raises(InputError, match=r"unknown key train.optim.learning_rate"):
        spec_of("train.optim.learning_rate=1")


def test_rows_without_effect_are_accepted(spec_of):
    spec_of("wandb.project=x", "model.precise_msda=true", "train.num_gpus=4", "encryption_key=tlt_encode")


def test_a_segment_spec_is_refused(spec_of):
    with pytest.raises(InputError, match=r"task: .*classify"):
        spec_of("task=segment")


@pytest.mark.parametrize("key", ["validation_interval", "checkpoint_interval"])
def test_an_interval_above_the_epochs_is_refused(spec_of, key):
    with pytest.raises(InputError, match=rf"train.{key} 3 is above train.num_epochs 2"):
        spec_of(f"train.{key}=3")


def test_a_step_interval_may_be_above_the_epochs(spec_of):
    spec_of("train.checkpoint_interval=7", "train.checkpoint_interval_unit=step")


def test_the_step_policy_needs_three_epochs(spec_of):
    with pytest.raises(InputError, match=r"policy step needs"):
        spec_of("train.optim.policy=step")


@pytest.mark.parametrize(("module", "loss"), [("learnable", "contrastive"), ("euclidean", "ce")])
def test_loss_and_difference_module_must_match(spec_of, module, loss):
    with pytest.raises(InputError, match=r"learnable needs ce, euclidean needs contrastive"):
        spec_of(f"model.classify.difference_module={module}", f"train.classify.loss={loss}")


def test_lightings_must_be_as_many_as_num_input(spec_of):
    with pytest.raises(InputError, match=r"num_input is 4 but input_map names 1"):
        spec_of("dataset.classify.num_input=4")


def test_a_given_input_map_replaces_the_default(spec_of):
    assert spec_of().data.lighting.names == ("SolderLight",)


def test_without_an_input_map_the_four_lightings_are_expected(values):
    del values["dataset"]["classify"]["input_map"]
    spec = find_action("visual_changenet", "train").spec(values, ["dataset.classify.num_input=4"])
    assert len(spec.data.lighting.names) == 4
    assert spec.data.shape == (4 * 32, 32)


def test_a_null_input_map_means_one_image_without_suffix(spec_of):
    assert spec_of("dataset.classify.input_map=null").data.lighting.file_names("a") == ["a.png"]


def test_a_grid_of_three_lightings_is_refused(spec_of):
    words = [
        "dataset.classify.input_map.B=1",
        "dataset.classify.input_map.C=2",
        "dataset.classify.num_input=3",
    ]
    with pytest.raises(InputError, match=r"needs an even number of at least 4 lightings"):
        spec_of(*words, "dataset.classify.concat_type=grid")


def test_fewer_than_three_angles_are_refused(spec_of):
    with pytest.raises(InputError, match=r"angle_list"):
        spec_of("dataset.classify.augmentation_config.random_rotate.angle_list=[90,180]")


@pytest.mark.parametrize(
    ("backbone", "compat", "std", "is_clip"),
    [
        ("c_radio_v2", "7.0+", 0.226, True),
        ("c_radio_v2", "6.25", 0.226, False),
        ("c_radio_v2", "7.0+", 0.5, False),
        ("resnet18", "7.0+", 0.226, False),
    ],
)
def test_radio_backbones_take_clip_statistics(spec_of, backbone, compat, std, is_clip):
    spec = spec_of(
        f"model.backbone.type={backbone}",
        f"native.tao_compat={compat}",
        f"dataset.classify.augmentation_config.rgb_input_std=[{std},{std},{std}]",
    )
    assert (spec.normalisation[0] == CLIP_MEAN) == is_clip


def test_a_hub_id_stays_one_and_a_path_becomes_absolute(spec_of, tmp_path):
    key = "model.backbone.pretrained_backbone_path"
    assert str(spec_of(f"{key}=facebook/dinov2-small").model.backbone.pretrained_backbone_path) == (
        "facebook/dinov2-small"
    )
    assert spec_of(f"{key}={tmp_path}").model.backbone.pretrained_backbone_path == tmp_path
    assert spec_of(f"{key}=weights/m.pth").model.backbone.pretrained_backbone_path.is_absolute()
    assert spec_of(f"{key}=").model.backbone.pretrained_backbone_path is None


def test_the_spec_that_training_leaves_loads_again(spec_of):
    spec = spec_of()
    assert load_spec(ChangeNetSpec, spec.to_dict()) == spec


def test_a_spec_for_a_consumer_loads_after_its_four_fields_are_filled(tmp_path):
    given = {
        "encryption_key": "x",
        "task": "classify",
        "results_dir": "",
        "train": {"classify": {"loss": "ce"}},
        "model": {"backbone": {"type": "resnet_micro"}, "classify": {"difference_module": "learnable"}},
        "dataset": {
            "classify": {
                "input_map": {"A": 0, "B": 1},
                "num_input": 2,
                "batch_size": 1,
                "workers": 1,
                "augmentation_config": {"augment": False},
                "infer_dataset": {"csv_path": "", "images_dir": ""},
            }
        },
        "inference": {"checkpoint": "/model/best.pth"},
    }
    words = [
        "results_dir=/r",
        f"inference.results_dir={tmp_path}",
        "dataset.classify.infer_dataset.csv_path=/a.csv",
        "dataset.classify.infer_dataset.images_dir=/i",
    ]
    spec = find_action("visual_changenet", "inference").spec(given, words)
    assert spec.results_dir == tmp_path
    assert spec.data.shape == (448, 224)
