"""Acceptance of models by their configs alone: made with transformers, without weights."""

import json

import pytest

from tasks.huggingface.hub import ModelPage, ModelRejected, look_up
from tasks.huggingface.models import count_parameters, qualify

transformers = pytest.importorskip("transformers")
pytest.importorskip("torch")


def page(config, architecture, model_id="a/model", **known):
    return ModelPage(model_id, {**config.to_dict(), "architectures": [architecture]}, **known)


def vit():
    return transformers.ViTConfig(
        image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, num_labels=4,
    )  # fmt: skip


def segformer():
    return transformers.SegformerConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16, num_labels=3,
    )  # fmt: skip


def detr():
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage4"],
    )  # fmt: skip
    return transformers.DetrConfig(
        use_timm_backbone=False, backbone=None, use_pretrained_backbone=False, backbone_config=backbone,
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16,
        encoder_attention_heads=2, decoder_attention_heads=2, num_queries=12,
    )  # fmt: skip


def mask2former():
    return transformers.Mask2FormerConfig(
        hidden_dim=32, feature_size=32, mask_feature_size=32, encoder_layers=1, decoder_layers=1,
        num_attention_heads=2, encoder_feedforward_dim=32, dim_feedforward=32,
        backbone_config=transformers.SwinConfig(
            image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1],
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
    )  # fmt: skip


def glpn():
    return transformers.GLPNConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
    )  # fmt: skip


def llama(**changes):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 96}
    return transformers.LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, **changes)


def llava():
    return transformers.LlavaConfig(
        text_config=llama(),
        vision_config=transformers.CLIPVisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32,
            patch_size=8,
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("config", "architecture", "task"),
    [
        (vit, "ViTForImageClassification", "image-classification"),
        (detr, "DetrForObjectDetection", "object-detection"),
        (segformer, "SegformerForSemanticSegmentation", "semantic-segmentation"),
        (glpn, "GLPNForDepthEstimation", "depth-estimation"),
        (llama, "LlamaForCausalLM", "text-generation"),
        (llava, "LlavaForConditionalGeneration", "image-text-to-text"),
    ],
)
def test_config_of_every_task_is_accepted(config, architecture, task):
    found = qualify(page(config(), architecture))
    assert (found.task, found.choices) == (task, ())
    assert found.auto_model_class.startswith("AutoModelFor")
    assert found.facts["parameters"] > 0
    assert found.facts["parameters_from"] == "shapes on the meta device"


def test_universal_model_is_accepted_with_a_question():
    found = qualify(page(mask2former(), "Mask2FormerForUniversalSegmentation"))
    assert found.task is None
    assert found.choices == ("instance-segmentation", "panoptic-segmentation")
    assert found.auto_model_class == "AutoModelForUniversalSegmentation"


@pytest.mark.parametrize(
    ("name", "task_type"),
    [("a/model", "semantic-segmentation"), ("a/mask2former-ade-semantic", None)],
)
def test_universal_model_has_no_class_for_semantic_segmentation(name, task_type):
    model = page(mask2former(), "Mask2FormerForUniversalSegmentation", name)
    with pytest.raises(ModelRejected, match="it can for instance-segmentation, panoptic-segmentation"):
        qualify(model, task_type=task_type)


def test_encoder_gets_the_head_that_the_person_names():
    # As nvidia/mit-b0 of the examples: saved for classification, trained for segmentation.
    model = page(segformer(), "SegformerForImageClassification")
    assert qualify(model, task_type="semantic-segmentation").task == "semantic-segmentation"


def test_facts_of_a_classifier():
    facts = qualify(page(vit(), "ViTForImageClassification")).facts
    assert facts["hidden_size"] == 32
    assert facts["layers"] == 2
    assert (facts["image_size"], facts["patch_size"]) == (32, 8)
    assert facts["num_labels"] == 4
    assert facts["id2label"]["0"] == "LABEL_0"


def test_facts_of_a_vlm_are_those_of_its_text_tower():
    # A saved config leaves out what is a default: the heads have to be found all the same.
    found = qualify(page(llava(), "LlavaForConditionalGeneration"))
    assert (found.facts["attention_heads"], found.facts["key_value_heads"]) == (4, 2)
    assert found.facts["text_model_type"] == "llama"
    assert found.facts["image_size"] == 32
    assert found.config["text_config"]["num_key_value_heads"] == 2


def test_saved_config_is_read_as_transformers_writes_it(tmp_path):
    config = vit()
    config.architectures = ["ViTForImageClassification"]
    config.save_pretrained(tmp_path)
    found = qualify(look_up(str(tmp_path), {}))
    assert found.task == "image-classification"
    assert found.facts["layers"] == 2
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "vit"


def test_seven_billion_parameters_are_counted_without_weights():
    config = transformers.LlamaConfig()
    count, source, _ = count_parameters(page(config, "LlamaForCausalLM"), "text-generation", config)
    assert count == pytest.approx(6.7e9, rel=0.02)
    assert source == "shapes on the meta device"


def test_count_of_the_hub_where_a_model_cannot_be_built():
    config = llama()  # a class of another task
    model = page(segformer(), "SegformerForSemanticSegmentation", parameters=3_700_000)
    count, source, _ = count_parameters(model, "semantic-segmentation", config)
    assert (count, source) == (3_700_000, "the hub's count of the safetensors files")


def test_unknown_count_is_noted():
    config = llama()  # a class of another task
    model = page(segformer(), "SegformerForSemanticSegmentation")
    count, _, notes = count_parameters(model, "semantic-segmentation", config)
    assert count is None
    assert notes[0].startswith("parameters are unknown: ")


@pytest.fixture
def without(monkeypatch):
    """Hide packages, as in the image of the flows alone."""
    import importlib.util

    find = importlib.util.find_spec

    def hide(*names):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else find(name))

    return hide


def test_without_transformers_the_plain_config_is_read(without):
    without("transformers", "torch")
    found = qualify(page(llava(), "LlavaForConditionalGeneration", parameters=7))
    assert found.task == "image-text-to-text"
    assert (found.facts["key_value_heads"], found.facts["parameters"]) == (2, 7)
    assert found.notes == ("transformers is not installed here: the config was read as plain JSON",)


def test_without_torch_nothing_is_built(without):
    without("torch")
    found = qualify(page(vit(), "ViTForImageClassification"))
    assert found.facts["parameters"] is None
    assert found.notes == (
        "whether vit fits image-classification is open: torch is not installed here",
        "parameters are unknown: torch is not installed here, and the hub has no count",
    )


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "bert"}, "bert is a text encoder"),
        ({"model_type": "new_type"}, "does not know model type new_type; choose"),
        ({"model_type": "new_type", "auto_map": {"AutoModel": "code.py"}}, "its own code is not run here"),
        ({}, "does not know model type None"),
        ({"model_type": "vit", "hidden_size": "wide"}, "its config cannot be loaded"),
        ({"model_type": "timesformer"}, "no task by its architectures"),
    ],
)
def test_rejection_gives_its_own_reason(config, reason):
    with pytest.raises(ModelRejected, match=reason):
        qualify(ModelPage("a/model", config))


def test_type_without_a_class_of_the_task():
    with pytest.raises(ModelRejected, match="does not take model type llama"):
        qualify(page(llama(), "LlamaForCausalLM"), task_type="object-detection")


def test_unknown_task_type():
    with pytest.raises(ModelRejected, match="task_type translation: not one of"):
        qualify(page(vit(), "ViTForImageClassification"), task_type="translation")


@pytest.mark.parametrize("method", ["dpo", "grpo"])
def test_vision_has_no_preference_training(method):
    with pytest.raises(ModelRejected, match="is for language models"):
        qualify(page(vit(), "ViTForImageClassification"), training_method=method)
    assert qualify(page(llama(), "LlamaForCausalLM"), training_method=method).task == "text-generation"
