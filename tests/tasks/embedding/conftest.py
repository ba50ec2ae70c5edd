from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
TEXT = {**SMALL, "vocab_size": 8, "max_position_embeddings": 4, "bos_token_id": 0, "eos_token_id": 1}
VISION = {**SMALL, "image_size": 16, "patch_size": 8}


@pytest.fixture(scope="session")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SigLIP snapshot with random weights, 16 numbers per image."""
    import torch
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("siglip")
    SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION)).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP snapshot with random weights, 12 numbers per image."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=12)).save_pretrained(folder)
    size = {"height": 16, "width": 16}
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size).save_pretrained(folder)
    return folder


@pytest.fixture
def crops(tmp_path: Path) -> Callable[[int], list[Path]]:
    """Makes that many small random images."""

    def make(count: int) -> list[Path]:
        random = np.random.default_rng(count)
        paths = [tmp_path / f"crop_{number}.png" for number in range(count)]
        for path in paths:
            Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
        return paths

    return make


@pytest.fixture
def table_of(tmp_path: Path) -> Callable[..., Path]:
    """Writes a parquet of columns and gives its path."""

    def write(name: str = "input", **columns: Any) -> Path:
        path = tmp_path / f"{name}.parquet"
        filled = {
            key: [str(v) if isinstance(v, Path) else v for v in values] for key, values in columns.items()
        }
        pq.write_table(pa.table(filled), path)
        return path

    return write


@pytest.fixture(scope="session")
def changenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A ChangeNet checkpoint with random weights, and its spec."""
    import torch

    from tasks.artifacts import write_yaml
    from tasks.changenet.backbone import fresh
    from tasks.changenet.checkpoint import packed
    from tasks.changenet.network import ChangeNet
    from tasks.changenet.spec import ChangeNetSpec
    from tasks.dataset.specs import baseline_spec
    from tasks.spec import load_spec

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("changenet")
    config = write_yaml(folder / "spec.yaml", baseline_spec([], ".png", image_size=32))
    spec = load_spec(ChangeNetSpec, config, [f"results_dir={folder}"])
    network = ChangeNet(fresh(spec.model, spec.native.backbone_init, spec.data.shape), spec)
    torch.save(packed(network, spec), folder / "model.pth")
    return folder / "model.pth", config
