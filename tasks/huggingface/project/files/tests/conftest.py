"""What the tests share: config.yaml at the size of a test, made-up rows, the processor and the trainer."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from datasets import load_from_disk

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

import kind  # noqa: E402

import common  # noqa: E402
import task  # noqa: E402
import train  # noqa: E402

LARGE = 200_000_000  # parameters; a larger model is not loaded without a GPU
SEED = 0
SMALL = {
    "ignore_mismatched_sizes": True,
    "max_steps": 1,
    "per_device_train_batch_size": 2,
    "per_device_eval_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0,
    "report_to": "none",
}
os.environ["WANDB_MODE"] = "disabled"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Augmentation and new heads are the same in every run."""
    transformers.set_seed(SEED)


@pytest.fixture(scope="session")
def own_config() -> dict[str, Any]:
    """config.yaml as it is."""
    return common.read_config(PROJECT / "config.yaml")


@pytest.fixture(scope="session")
def config(own_config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """config.yaml for one small step on made-up rows, which lie in a temporary folder."""
    folder = tmp_path_factory.mktemp("made-up")
    for seed, split in enumerate(("train", "eval")):
        kind.made_up(seed).save_to_disk(str(folder / "data" / split))
    places = {"local_data_dir": str(folder / "data"), "output_dir": str(folder / "checkpoints")}
    return own_config | SMALL | kind.CHANGES | places


@pytest.fixture(scope="session")
def prepared_config(own_config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """config.yaml on the first rows that prepare_data.py wrote; skipped where it has not run."""
    source, folder = PROJECT / own_config["local_data_dir"], tmp_path_factory.mktemp("prepared")
    if not ((source / "train").is_dir() and (source / "eval").is_dir()):
        pytest.skip(f"{source} holds no rows: prepare_data.py has not run")
    for split in ("train", "eval"):
        rows = load_from_disk(str(source / split))
        rows.select(range(min(8, len(rows)))).save_to_disk(str(folder / split))
    return own_config | {"local_data_dir": str(folder)}


@pytest.fixture(scope="session")
def processor(config: dict[str, Any]) -> Any:
    """The processor of the model that config.yaml names."""
    return task.load_processor(config, config["model_id"])


@pytest.fixture(scope="session")
def splits(config: dict[str, Any], processor: Any) -> tuple[Any, Any]:
    """Made-up rows as the model reads them: to train on, to evaluate."""
    return task.dataset(config, processor, "train"), task.dataset(config, processor, "eval")


@pytest.fixture(scope="session")
def trainer(config: dict[str, Any]) -> Any:
    """The trainer as train.py makes it for its smoke test, with the model; skipped where it is too large."""
    parameters = _parameters(config["model_id"])
    if parameters > LARGE and not torch.cuda.is_available():
        millions = f"{parameters / 1e6:,.0f} million parameters"
        pytest.skip(f"{config['model_id']} has {millions}: its tests need a GPU")
    return train.prepared(config, common.training_arguments(config, smoke=True), None)[0]


@pytest.fixture(scope="session")
def collate(config: dict[str, Any], processor: Any, trainer: Any) -> Any:
    """The collator of the training; trl's trainers make tokens of their own, the evaluation makes ours."""
    return trainer.data_collator if config["training_method"] == "sft" else task.collator(config, processor)


def _parameters(model_id: str) -> int:
    """As `meta/model.json` counts them; 0 where it does not know this model."""
    record = PROJECT / "meta" / "model.json"
    facts = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    return int(facts.get("parameters") or 0) if facts.get("model_id") == model_id else 0
