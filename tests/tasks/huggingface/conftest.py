"""Tiny models, made and saved by the tests: each is built when a test first asks for it; and a hub."""

import os
from pathlib import Path

import pytest

from tests.tasks.huggingface.loopback_hub import loopback_hub

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "disabled"


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """A folder for the models of this session."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    return tmp_path_factory.mktemp("models")


def saved(folder: Path, model, processor) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_vit(tiny_models):
    """A ViT of 24 000 parameters that reads 32 x 32 pixels and knows four classes."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    config = ViTConfig(
        image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, num_labels=4,
    )  # fmt: skip
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    return saved(tiny_models / "vit", ViTForImageClassification(config), processor)


@pytest.fixture(scope="session")
def tiny_convnext(tiny_models):
    """A ConvNeXt of 26 000 parameters."""
    from transformers import ConvNextConfig, ConvNextForImageClassification, ConvNextImageProcessor

    config = ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], num_labels=4)
    processor = ConvNextImageProcessor(size={"shortest_edge": 32})
    return saved(tiny_models / "convnext", ConvNextForImageClassification(config), processor)


@pytest.fixture(scope="session")
def tiny_detr(tiny_models):
    """A DETR of 50 000 parameters with 12 queries on a residual network of its own."""
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor, ResNetConfig

    backbone = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage4"],
    )
    config = DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone,
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=64, decoder_ffn_dim=64, num_queries=12, num_labels=2,
    )  # fmt: skip
    processor = DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    return saved(tiny_models / "detr", DetrForObjectDetection(config), processor)


@pytest.fixture(scope="session")
def tiny_yolos(tiny_models):
    """A YOLOS of 49 000 parameters, which takes no pixel mask."""
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

    config = YolosConfig(
        image_size=[64, 64], patch_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, num_detection_tokens=12, num_labels=2,
    )  # fmt: skip
    processor = YolosImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    return saved(tiny_models / "yolos", YolosForObjectDetection(config), processor)


@pytest.fixture(scope="session")
def tiny_segformer(tiny_models):
    """A SegFormer of 58 000 parameters for 64 x 64 pixels and three classes."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    config = SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 2, 2, 4],
        decoder_hidden_size=32, num_labels=3,
    )  # fmt: skip
    processor = SegformerImageProcessor(size={"height": 64, "width": 64}, do_reduce_labels=True)
    return saved(tiny_models / "segformer", SegformerForSemanticSegmentation(config), processor)


@pytest.fixture(scope="session")
def tiny_mask2former(tiny_models):
    """A Mask2Former of 120 000 parameters on a tiny Swin."""
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessor,
        SwinConfig,
    )

    backbone = SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32,
        encoder_feedforward_dim=64, encoder_layers=1, decoder_layers=2, num_attention_heads=4,
        dim_feedforward=64, num_queries=12, num_labels=2,
    )  # fmt: skip
    processor = Mask2FormerImageProcessor(size={"height": 64, "width": 64}, ignore_index=255)
    return saved(tiny_models / "mask2former", Mask2FormerForUniversalSegmentation(config), processor)


@pytest.fixture(scope="session")
def tiny_glpn(tiny_models):
    """A GLPN of 73 000 parameters that estimates depth."""
    from transformers import GLPNConfig, GLPNForDepthEstimation, GLPNImageProcessor

    config = GLPNConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 24, 32],
        num_attention_heads=[1, 2, 2, 4],
        decoder_hidden_size=16,
    )
    return saved(tiny_models / "glpn", GLPNForDepthEstimation(config), GLPNImageProcessor(size_divisor=32))


@pytest.fixture
def hub(monkeypatch):
    """A hub of the test's own that takes pushes."""
    with loopback_hub(monkeypatch) as hub:
        yield hub
