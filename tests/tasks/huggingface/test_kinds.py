"""The task that a config asks for, signal by signal."""

import pytest

from tasks.huggingface.kinds import TASKS, UNIVERSAL_VARIANTS, denied, detect_task

VISION = {"vision_config": {"hidden_size": 8}}


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ({"architectures": ["ViTForImageClassification"]}, "image-classification"),
        ({"architectures": ["DetrForObjectDetection"]}, "object-detection"),
        ({"architectures": ["SegformerForSemanticSegmentation"]}, "semantic-segmentation"),
        ({"architectures": ["GLPNForDepthEstimation"]}, "depth-estimation"),
        ({"architectures": ["LlamaForCausalLM"]}, "text-generation"),
        ({"architectures": ["Idefics3ForConditionalGeneration"], **VISION}, "image-text-to-text"),
        ({"architectures": ["OddForCausalLM"], **VISION}, "image-text-to-text"),
    ],
)
def test_architecture_decides(config, task):
    found = detect_task(config)
    assert (found.task, found.signal) == (task, "architectures")


def test_suffix_beats_type():
    # BEiT exists with several heads; this one segments.
    config = {"model_type": "vit", "architectures": ["BeitForSemanticSegmentation"]}
    assert detect_task(config).task == "semantic-segmentation"


def test_person_beats_architecture():
    config = {"architectures": ["SegformerForImageClassification"]}
    found = detect_task(config, explicit="semantic-segmentation")
    assert (found.task, found.signal) == ("semantic-segmentation", "task_type")


def test_type_decides_where_there_is_no_head():
    found = detect_task({"model_type": "detr", "architectures": ["DetrModel"]})
    assert (found.task, found.signal) == ("object-detection", "model_type")


@pytest.mark.parametrize(
    ("model_type", "head"),
    [
        ("llama", "LlamaForSequenceClassification"),
        ("qwen2", "Qwen2ForRewardModel"),
        ("mistral", "MistralModel"),
        ("llava", "LlavaForRanking"),
    ],
)
def test_type_says_nothing_of_a_language_model_with_another_head(model_type, head):
    config = {"model_type": model_type, "architectures": [head]}
    assert detect_task(config, tags=["feature-extraction"], pipeline_tag="feature-extraction").task is None
    assert detect_task({"model_type": model_type}).signal == "model_type"


def test_tags_decide_where_the_type_has_several_heads():
    found = detect_task({"model_type": "beit"}, tags=["vision"], pipeline_tag="image-classification")
    assert (found.task, found.signal) == ("image-classification", "pipeline_tag")


def test_card_decides_last():
    card = "```python\nfrom transformers import AutoModelForDepthEstimation\n```"
    found = detect_task({"model_type": "new"}, card=card)
    assert (found.task, found.signal) == ("depth-estimation", "card")


def test_generator_without_vision_is_not_a_vlm():
    assert detect_task({"architectures": ["OddForConditionalGeneration"]}).task is None


@pytest.mark.parametrize("variant", ["instance", "panoptic"])
def test_universal_model_with_a_name_that_says_it(variant):
    config = {"architectures": ["Mask2FormerForUniversalSegmentation"]}
    assert detect_task(config, model_id=f"a/mask2former-coco-{variant}").task == f"{variant}-segmentation"


def test_universal_model_that_does_not_say_it_is_asked_about():
    found = detect_task({"model_type": "mask2former"}, model_id="a/mask2former")
    assert found.task is None
    assert found.choices == UNIVERSAL_VARIANTS


@pytest.mark.parametrize(
    ("model_type", "why"),
    [
        ("wav2vec2-conformer", "audio"),
        ("whisper", "audio"),
        ("bert", "text encoder"),
        ("deberta-v2", "text encoder"),
        ("gpt2", "old kind"),
        ("t5", "sequence-to-sequence"),
        ("layoutlmv3", "document"),
        ("clip", "contrastive"),
        ("oneformer", "its task as text"),
    ],
)
def test_deny_list(model_type, why):
    assert why in denied({"model_type": model_type})


def test_clip_with_a_classification_head_is_taken():
    assert denied({"model_type": "clip", "architectures": ["CLIPForImageClassification"]}) is None


@pytest.mark.parametrize("model_type", ["vit", "llama", "opt_new", "bertish"])
def test_others_are_not_denied(model_type):
    assert denied({"model_type": model_type}) is None


@pytest.mark.parametrize("task", TASKS)
def test_transformers_has_every_class_and_table(task):
    modeling = pytest.importorskip("transformers.models.auto.modeling_auto")
    assert hasattr(modeling, TASKS[task].auto_class)
    known = getattr(modeling, TASKS[task].mapping)
    absent = {"dfine", "pixtral", "rt_detr_v2"}  # of other versions of transformers, or a tower of llava
    assert set(TASKS[task].model_types) - set(known) <= absent
