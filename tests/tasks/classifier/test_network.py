import pytest
import torch

from tasks.classifier.network import config_of, fresh, rebuilt
from tasks.classifier.spec import ClassifierSpec
from tasks.errors import InputError

torch.set_num_threads(1)

LABELS = ["a", "b", "c"]
TINY = {
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"},
    "convnextv2": {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1]},
    "vit": {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
            "patch_size": 8},
}  # fmt: skip
FEATURES = {"resnet": 12, "convnextv2": 24, "vit": 24}


def spec_of(kind, config=None, image_size=32, **model):
    config = TINY.get(kind, {}) if config is None else config
    return ClassifierSpec.model_validate(
        {
            "results_dir": "r",
            "model": {"type": kind, "config": config, **model},
            "dataset": {"image_size": image_size},
        }
    )


@pytest.mark.parametrize("kind", TINY)
def test_every_kind_gives_logits_and_what_its_head_takes_in(kind):
    network = fresh(spec_of(kind), LABELS).eval()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        logits, features = network(images)
        again = network.model.classifier(features if kind != "resnet" else features[:, :, None, None])
    assert features.shape == (2, FEATURES[kind])
    assert torch.equal(again, logits)


def test_weights_follow_from_the_seed_and_leave_torchs_generator_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second = (fresh(spec_of("resnet"), LABELS).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("kind", TINY)
def test_config_describes_the_same_network(kind):
    network = fresh(spec_of(kind), LABELS)
    twin = rebuilt(network.config(), LABELS)
    assert twin.config() == network.config()
    twin.load_state_dict(network.state_dict())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (spec_of("resnot"), "model.type 'resnot' is unknown"),
        (spec_of("resnet", {"depth": [1]}), "resnet has no key depth"),
        (spec_of("resnet", {"depths": "two"}), "model.config does not make a resnet"),
        (spec_of("bert", {}), "model.type bert cannot be built"),
        (spec_of("convnextv2", image_size=16), r"does not run on images of dataset\.image_size 16"),
    ],
)
def test_bad_model_is_one_line(spec, message):
    with pytest.raises(InputError, match=message) as error:
        fresh(spec, LABELS)
    assert "\n" not in str(error.value)


@pytest.fixture
def snapshot(tmp_path):
    fresh(spec_of("vit"), ["x", "y"]).model.save_pretrained(tmp_path / "snapshot")
    return tmp_path / "snapshot"


def test_snapshot_gives_its_weights_and_a_new_head(snapshot):
    network = fresh(spec_of("vit", {}, pretrained_path=str(snapshot)), LABELS)
    origin = fresh(spec_of("vit"), ["x", "y"]).state_dict()
    state = network.state_dict()
    same = {
        name for name in state if state[name].shape == origin[name].shape and state[name].equal(origin[name])
    }
    assert {name.split(".")[1] for name in set(state) - same} == {"classifier"}
    assert network.model.config.id2label == dict(enumerate(LABELS))


def test_snapshot_that_is_none_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no snapshot folder with a config\.json"):
        config_of(spec_of("vit", pretrained_path=str(tmp_path)), LABELS)


def test_snapshot_of_another_type_is_refused(snapshot):
    with pytest.raises(InputError, match=r"holds a vit, model\.type says resnet"):
        config_of(spec_of("resnet", {}, pretrained_path=str(snapshot)), LABELS)


def test_snapshot_of_another_image_size_is_refused(snapshot):
    with pytest.raises(InputError, match=r"does not fit in 1 tensors .*position_embeddings"):
        fresh(spec_of("vit", {}, image_size=16, pretrained_path=str(snapshot)), LABELS)


def test_snapshot_with_a_damaged_file_is_one_line(snapshot):
    (snapshot / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be loaded"):
        fresh(spec_of("vit", {}, pretrained_path=str(snapshot)), LABELS)
