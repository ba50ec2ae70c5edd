"""What code and cards say of a recipe, and that nothing of them is run."""

import json

import pytest

from tasks.huggingface.extraction import (
    code_blocks,
    paper_links,
    read_prose,
    read_source,
    script_links,
)

SCRIPT = """
import evaluate
from transformers import AutoImageProcessor, AutoModelForImageClassification, TrainingArguments
processor = AutoImageProcessor.from_pretrained("a/b")
train_transforms = Compose([RandomResizedCrop(224), RandomHorizontalFlip(), ToTensor()])
val_transforms = Compose([Resize(256), CenterCrop(224), ToTensor()])
metric = evaluate.load("accuracy")
def compute_metrics(p):
    return metric.compute(predictions=p.predictions.argmax(1), references=p.label_ids)
def collate_fn(examples):
    return {"pixel_values": stack(examples)}
model = AutoModelForImageClassification.from_pretrained("a/b", dtype="auto", attn_implementation="sdpa")
args = TrainingArguments(learning_rate=5e-5, per_device_train_batch_size=16, num_train_epochs=3,
                         lr_scheduler_type="cosine", weight_decay=0.01, output_dir=there)
"""


def test_script_fills_every_slot():
    said = read_source(SCRIPT, "run.py")
    assert said.slots["model_class"] == "AutoModelForImageClassification"
    assert said.slots["processor_class"] == "AutoImageProcessor"
    assert said.slots["load_kwargs"] == {"dtype": "auto", "attn_implementation": "sdpa"}
    assert "RandomResizedCrop(224)" in said.slots["train_transforms"]
    assert "CenterCrop(224)" in said.slots["eval_transforms"]
    assert said.slots["collator"].startswith("def collate_fn(examples):")
    assert said.slots["compute_metrics"].startswith("def compute_metrics(p):")
    assert said.hyperparameters == {
        "lr": 5e-5, "batch": 16, "epochs": 3, "scheduler": "cosine", "weight_decay": 0.01,
    }  # fmt: skip


def test_notebook_is_read_cell_by_cell():
    cells = [
        {"cell_type": "markdown", "source": "LoraConfig(r=99)"},
        {
            "cell_type": "code",
            "source": ["!pip install peft\n", "config = LoraConfig(r=8, target_modules=['q'])"],
        },
        {"cell_type": "code", "source": "this is not Python"},
    ]
    assert read_source(json.dumps({"cells": cells}), "a.ipynb").lora == {"r": 8, "target_modules": ["q"]}


@pytest.mark.parametrize("text", ["[]", "{", "{}"])
def test_notebook_that_is_none(text):
    assert read_source(text, "a.ipynb").slots == {}


def test_blocks_lose_their_prompts():
    markdown = "```py\n>>> a = (\n...     1)\n1\n```\n```bash\nrm -rf x\n```\n````python\nb = 2\n````\n"
    assert list(code_blocks(markdown)) == ["a = (\n    1)", "b = 2"]


def test_list_of_hyperparameters_of_a_card():
    card = "- learning_rate: 5e-05\n- train_batch_size: 32\n- lr_scheduler_type: linear\n- num_epochs: 3\n"
    found = read_source(card, "README.md").hyperparameters
    assert found == {"lr": 5e-5, "batch": 32, "scheduler": "linear", "epochs": 3}


def test_random_transforms_without_a_telling_name_are_for_training():
    code = "```python\n_t = Compose([RandomResizedCrop(size), normalize])\n```"
    assert set(read_source(code, "x.md").slots) == {"train_transforms"}
    code = "```python\n_t = Compose([Resize(size), normalize])\n```"
    assert set(read_source(code, "x.md").slots) == {"eval_transforms"}


def test_functions_of_transforms():
    code = "def train_transforms(batch):\n    return 1\ndef val_transforms(batch):\n    return 2\n"
    assert set(read_source(code, "x.py").slots) == {"train_transforms", "eval_transforms"}


def test_collator_class_gives_way_to_an_own_function():
    code = "c = DefaultDataCollator()\n"
    assert read_source(code, "x.py").slots["collator"] == "DefaultDataCollator()"
    code += "def my_collate(rows):\n    return rows\n"
    assert read_source(code, "x.py").slots["collator"].startswith("def my_collate")


def test_first_of_two_functions_is_kept():
    # The pages of tasks show PyTorch first and other libraries below.
    code = "metric = evaluate.load('mean_iou')\n" + "def compute_metrics(p):\n    return 1\n"
    code += "def compute_metrics(p):\n    return 2\n"
    assert read_source(code, "x.py").slots["compute_metrics"].endswith("return 1")


def test_base_model_is_no_class_of_a_task():
    assert "model_class" not in read_source("m = AutoModel.from_pretrained('a/b')", "x.py").slots


def test_argument_that_is_code_stays_code():
    code = (
        "m = ViTForImageClassification.from_pretrained('a', torch_dtype=torch.half, trust_remote_code=True)"
    )
    assert read_source(code, "x.py").slots["load_kwargs"] == {
        "torch_dtype": "torch.half", "trust_remote_code": True,
    }  # fmt: skip


def test_nothing_is_run(tmp_path):
    file = tmp_path / "harm"
    harm = f"open({str(file)!r}, 'w')"
    said = read_source(f"```python\n{harm}\nTrainingArguments(learning_rate={harm})\n```", "x.md")
    assert said.hyperparameters == {"lr": harm}
    assert not file.exists()


def test_prose_of_a_paper():
    text = (
        "We use a batch size of 64 and a learning rate of 2e-4. Weight decay of 0.05. Trained for 30 epochs."
    )
    assert read_prose(text) == {"batch": 64, "lr": 2e-4, "weight_decay": 0.05, "epochs": 30}


@pytest.mark.parametrize(
    "text",
    [
        "learning rate of 1 \u00d7 10^-4", "learning rate of 1x10^-4", r"learning rate of 1\cdot10^{-4}",
        r"learning rate of 1\times 10^{-4}", "batch size of 1,024", "batch size of 64k",
        "batch size of 8 x 32", "reaches 49.4AP in 12 epochs", "weight decay of 5%",
    ],
)  # fmt: skip
def test_a_part_of_a_number_or_a_result_is_no_hyperparameter(text):
    assert read_prose(f"We use {text}.") == {}


def test_links_to_scripts_become_raw_ones():
    card = (
        "[demo](https://github.com/o/r/blob/main/demo.py) "
        "[notebook](https://colab.research.google.com/github/o/r/blob/main/finetune.ipynb) "
        "[file](https://huggingface.co/o/m/blob/main/x.py) https://evil.example/train.py"
    )
    assert script_links(card) == [
        "https://raw.githubusercontent.com/o/r/main/finetune.ipynb",
        "https://raw.githubusercontent.com/o/r/main/demo.py",
        "https://huggingface.co/o/m/raw/main/x.py",
    ]


def test_papers_by_tag_and_by_link():
    card = "see https://arxiv.org/abs/2010.11929 and https://arxiv.org/pdf/2106.08254"
    assert paper_links(card, ["vision", "arxiv:2010.11929"]) == [
        "https://arxiv.org/abs/2010.11929",
        "https://arxiv.org/abs/2106.08254",
    ]
