import json

import pytest
import torch

from tasks.changenet.architectures import BUILT_IN, family_of
from tasks.changenet.backbone import FourLevels, fresh, from_config
from tasks.changenet.files import weight_files
from tasks.changenet.spec import Model
from tasks.errors import InputError

TINY = {
    "resnet": {
        "embedding_size": 4,
        "hidden_sizes": [4, 6, 8, 10],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
    },
    "convnextv2": {"hidden_sizes": [4, 6, 8, 10], "depths": [1, 1, 1, 1]},
    "vit": {
        "hidden_size": 8,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "image_size": 64,
    },
    "dinov2": {
        "hidden_size": 8,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 16,
    },
    "dinov3_vit": {
        "hidden_size": 8,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "num_register_tokens": 2,
    },
}
NAMES = {
    "resnet": "resnet_x",
    "convnextv2": "convnextv2_x",
    "vit": "vit_x",
    "dinov2": "dinov2_x",
    "dinov3_vit": "dinov3_x",
}


def tiny(model_type):
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    return AutoModel.from_config(AutoConfig.for_model(model_type, **TINY[model_type]))


def model(name="resnet_micro", path=None, *, freeze=False, strides=(4, 8, 16, 32)):
    return Model.model_validate(
        {
            "backbone": {"type": name, "pretrained_backbone_path": path, "freeze_backbone": freeze},
            "decode_head": {"feature_strides": list(strides)},
        }
    )


@pytest.mark.parametrize("model_type", TINY)
def test_every_family_gives_four_levels_at_the_strides(model_type):
    found = FourLevels(tiny(model_type))
    levels = found(torch.rand(2, 3, 64, 96))
    assert [tuple(level.shape) for level in levels] == [
        (2, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(found.channels, (4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize("model_type", TINY)
def test_a_snapshot_gives_its_weights_and_its_config_rebuilds_the_network(model_type, tmp_path):
    source = tiny(model_type)
    source.save_pretrained(tmp_path)
    found = fresh(model(NAMES[model_type], tmp_path), "pretrained", (64, 64)).eval()
    x = torch.rand(1, 3, 64, 64)
    for ours, theirs in zip(found(x), FourLevels(source.eval())(x), strict=True):
        assert torch.equal(ours, theirs)
    again = from_config(found.config_text())
    again.load_state_dict(found.state_dict())
    assert torch.equal(again.eval()(x)[3], found(x)[3])


def test_a_weight_file_beside_its_config_loads(tmp_path):
    source = tiny("resnet")
    source.save_pretrained(tmp_path)
    found = fresh(model("resnet_x", tmp_path / "model.safetensors"), "pretrained", (64, 64))
    assert torch.equal(
        found.model.embedder.embedder.convolution.weight, source.embedder.embedder.convolution.weight
    )
    torch.save({"state_dict": source.state_dict()}, tmp_path / "model.pth")
    fresh(model("resnet_x", tmp_path / "model.pth"), "pretrained", (64, 64))


def test_weights_that_lack_tensors_are_refused(tmp_path):
    tiny("resnet").save_pretrained(tmp_path)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "timm.pth")
    with pytest.raises(InputError, match=r"timm.pth lack \d+ tensors of resnet .*naming of transformers"):
        fresh(model("resnet_x", tmp_path / "timm.pth"), "pretrained", (64, 64))


def test_weights_of_another_size_are_refused(tmp_path):
    tiny("resnet").save_pretrained(tmp_path)
    text = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**text, "embedding_size": 6}))
    with pytest.raises(InputError, match=r"cannot be loaded|lack"):
        fresh(model("resnet_x", tmp_path / "model.safetensors"), "pretrained", (64, 64))


def test_a_snapshot_with_its_config_alone_serves_random_weights(tmp_path):
    tiny("vit").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert fresh(model("vit_x", tmp_path), "random", (64, 64)).channels == [8] * 4


def test_pretrained_without_a_path_says_what_to_do():
    with pytest.raises(InputError, match=r"pretrained_backbone_path is empty; .*native.backbone_init=random"):
        fresh(model(), "pretrained", (64, 64))


def test_freezing_random_weights_is_refused():
    with pytest.raises(InputError, match=r"freeze_backbone with random weights"):
        fresh(model(freeze=True), "random", (64, 64))


def test_a_frozen_backbone_keeps_weights_and_statistics(tmp_path):
    tiny("resnet").save_pretrained(tmp_path)
    found = fresh(model("resnet_x", tmp_path, freeze=True), "pretrained", (64, 64))
    before = {name: tensor.clone() for name, tensor in found.state_dict().items()}
    found.train()(torch.rand(4, 3, 64, 64))
    assert not any(parameter.requires_grad for parameter in found.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in found.state_dict().items())


@pytest.mark.parametrize(
    "name", ["c_radio_v2_vit_base_patch16_224", "fan_small_12_p4_hybrid", "vit_large_nvdinov2"]
)
def test_backbones_of_the_container_name_its_versions_key(name):
    with pytest.raises(InputError, match=r"images\.tao_toolkit\.pyt"):
        fresh(model(name), "random", (64, 64))


def test_unknown_backbones_list_the_known():
    with pytest.raises(InputError, match=r"unknown model.backbone.type 'swin'; choose one of: resnet_micro"):
        fresh(model("swin"), "random", (64, 64))
    with pytest.raises(InputError, match=r"resnet_nano: no built-in architecture"):
        fresh(model("resnet_nano"), "random", (64, 64))


def test_a_snapshot_of_another_family_is_refused(tmp_path):
    tiny("vit").save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"holds a model of type vit, not resnet"):
        fresh(model("resnet_x", tmp_path), "pretrained", (64, 64))


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(InputError, match=r"pretrained_backbone_path .*/gone: no such file or folder"):
        fresh(model(path=tmp_path / "gone"), "pretrained", (64, 64))


def test_images_must_fill_the_patches():
    with pytest.raises(InputError, match=r"multiples of 16; they are 64 x 60"):
        fresh(model("vit_tiny"), "random", (64, 60))


def test_strides_of_other_backbones_are_refused():
    with pytest.raises(InputError, match=r"feature_strides \[4, 8, 16, 16\].*gives strides \[4, 8, 16, 32\]"):
        fresh(model(strides=(4, 8, 16, 16)), "random", (64, 64))


def test_the_small_built_in_networks_are_small():
    sizes = {
        name: sum(p.numel() for p in fresh(model(name), "random", (64, 64)).parameters())
        for name in ("resnet_micro", "resnet_small")
    }
    assert 60_000 < sizes["resnet_micro"] < 100_000
    assert 800_000 < sizes["resnet_small"] < 1_200_000
    assert all(family_of(name) for name in BUILT_IN)


def test_weight_files_are_those_that_are_read(tmp_path):
    tiny("resnet").save_pretrained(tmp_path)
    names = [file.name for file in weight_files(model("resnet_x", tmp_path).backbone)]
    assert names == ["config.json", "model.safetensors"]
    assert list(weight_files(model().backbone)) == []
