"""Recipes from a card with code, from a mirror in a folder, from a server, and offline."""

import json

import pytest

from tasks.huggingface.hub import ModelPage
from tasks.huggingface.kinds import TASKS
from tasks.huggingface.pages import MIRROR, Pages
from tasks.huggingface.research import SLOTS, config_values, research
from tasks.huggingface.research_page import recipe_page, write_research
from tests.tasks.huggingface.loopback_pages import served

OFFLINE = {"HF_HUB_OFFLINE": "1"}
CARD_URL = "https://huggingface.co/a/vit/raw/main/README.md"
CARD = """
# A ViT
```python
from transformers import ViTImageProcessor, ViTForImageClassification
processor = ViTImageProcessor.from_pretrained('a/vit')
model = ViTForImageClassification.from_pretrained('a/vit', trust_remote_code=True)
```
Trained with [this script](https://github.com/o/r/blob/main/train.py).
- learning_rate: 0.0002
"""
LIBRARY = "raw.githubusercontent.com/huggingface/transformers/main"
EXAMPLE = f"{LIBRARY}/examples/pytorch/image-classification/run_image_classification.py"
DOCS = f"{LIBRARY}/docs/source/en/tasks/image_classification.md"
AUTHOR = "raw.githubusercontent.com/o/r/main/train.py"
EXAMPLE_CODE = """
model = AutoModelForImageClassification.from_pretrained('x')
_train_transforms = Compose([RandomResizedCrop(size), RandomHorizontalFlip()])
_val_transforms = Compose([Resize(size), CenterCrop(size)])
def collate_fn(examples):
    return examples
def compute_metrics(p):
    return p
"""
AUTHOR_CODE = """
train_transforms = Compose([RandAugment(2, 9)])
args = TrainingArguments(learning_rate=1e-3, per_device_train_batch_size=64, weight_decay=0.3)
"""
DOCS_TEXT = """
```py
>>> training_args = TrainingArguments(
...     learning_rate=5e-5, num_train_epochs=3, per_device_train_batch_size=16, lr_scheduler_type=args.kind)
>>> data_collator = DefaultDataCollator()
```
"""


def model(card=CARD, **known):
    return ModelPage("a/vit", {}, card=card, url=CARD_URL, fetched_at="2026-01-01T00:00:00+00:00", **known)


@pytest.fixture
def mirror(tmp_path):
    """Variables that send every address into a folder of saved pages."""
    for path, text in {EXAMPLE: EXAMPLE_CODE, DOCS: DOCS_TEXT, AUTHOR: AUTHOR_CODE}.items():
        file = tmp_path / "mirror" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return {MIRROR: (tmp_path / "mirror").as_uri(), **OFFLINE}


def recipe(mirror, page=None):
    return research(page or model(), "image-classification", Pages(mirror))


def test_every_slot_has_a_source(mirror):
    slots = recipe(mirror)["slots"]
    assert tuple(slots) == SLOTS
    assert {name: slot["source_url"] for name, slot in slots.items()} == {
        "model_class": CARD_URL,
        "processor_class": CARD_URL,
        "train_transforms": f"https://{AUTHOR}",
        "eval_transforms": f"https://{EXAMPLE}",
        "collator": f"https://{EXAMPLE}",
        "compute_metrics": f"https://{EXAMPLE}",
        "hyperparameters": CARD_URL,
        "load_kwargs": CARD_URL,
    }
    assert not any(slot.get("fallback") for slot in slots.values())


def test_author_counts_more_for_the_method_and_the_difference_is_noted(mirror):
    slot = recipe(mirror)["slots"]["train_transforms"]
    assert slot["value"] == "Compose([RandAugment(2, 9)])"
    assert "differs: Compose([RandomResizedCrop(size), RandomHorizontalFlip()]) by" in slot["note"]
    assert "the project uses: RandomResizedCrop, RandomHorizontalFlip, normalise" in slot["note"]


def test_hyperparameters_are_taken_one_by_one(mirror):
    parts = recipe(mirror)["slots"]["hyperparameters"]["parts"]
    assert (parts["lr"]["value"], parts["lr"]["source_url"]) == (0.0002, CARD_URL)
    assert (
        parts["lr"]["note"] == f"priority: card; differs: 0.001 by https://{AUTHOR}; 5e-05 by https://{DOCS}"
    )
    assert (parts["batch"]["value"], parts["batch"]["source_url"]) == (64, f"https://{AUTHOR}")
    assert (parts["epochs"]["value"], parts["epochs"]["source_url"]) == (3, f"https://{DOCS}")
    # A scheduler that is code in the page is no value.
    assert parts["scheduler"] == {"value": "cosine", "fallback": True}


def test_config_gets_what_a_source_said_and_no_fallback(mirror):
    assert config_values(recipe(mirror)) == {
        "learning_rate": 0.0002, "per_device_train_batch_size": 64,
        "num_train_epochs": 3, "weight_decay": 0.3,
    }  # fmt: skip


def test_notes_say_what_the_project_does_not_take_over(mirror):
    notes = "\n".join(recipe(mirror)["notes"])
    assert "the project loads the same by AutoModelForImageClassification" in notes
    assert "trust_remote_code: code of the repository is not run without approval" in notes


def test_sources_and_attempts_are_recorded(mirror):
    found = recipe(mirror)
    assert found["research_sources"] == [
        CARD_URL,
        f"https://{EXAMPLE}",
        f"https://{AUTHOR}",
        f"https://{DOCS}",
    ]
    assert found["reference"] == f"https://{AUTHOR}"
    assert found["tried"][0] == {"url": CARD_URL, "time": "2026-01-01T00:00:00+00:00", "outcome": "ok"}
    assert all(one["time"] and one["outcome"] == "ok" for one in found["tried"])


def test_server_as_mirror():
    with served() as server:
        server.pages[f"/{DOCS}"] = DOCS_TEXT
        found = recipe({MIRROR: server.url}, model(card=""))
    assert found["research_sources"] == [f"https://{DOCS}"]
    assert found["slots"]["collator"]["value"] == "DefaultDataCollator()"
    assert any("HTTP status 404" in note for note in found["notes"])


def test_paper_is_asked_where_hyperparameters_are_unclear(mirror, tmp_path):
    paper = tmp_path / "mirror" / "arxiv.org" / "abs" / "2010.11929"
    paper.parent.mkdir(parents=True)
    paper.write_text("We train 14 epochs with a batch size of 4096 and a learning rate of 1e-3.")
    page = model(card="no code", tags=("arxiv:2010.11929",))
    (tmp_path / "mirror" / DOCS).unlink()
    found = recipe(mirror, page)
    assert (
        found["slots"]["hyperparameters"]["parts"]["epochs"]["source_url"]
        == "https://arxiv.org/abs/2010.11929"
    )
    assert "https://arxiv.org/abs/2010.11929" in found["research_sources"]


def test_batch_of_many_gpus_is_recorded_and_not_taken():
    found = recipe(OFFLINE, model(card="- train_batch_size: 4096\n- learning_rate: 0.003\n"))
    assert found["slots"]["hyperparameters"]["value"]["batch"] == 4096
    assert config_values(found) == {"learning_rate": 0.003}
    assert any("that of many GPUs" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("learning_rate: 300", "lr"),
        ("learning_rate: 0.5", "lr"),
        ("learning_rate: True", "lr"),
        ("learning_rate: fast", "lr"),
        ("train_batch_size: 2.5", "batch"),
        ("lr_scheduler_type: cosine_with_min_lr", "scheduler"),
    ],
)
def test_value_that_cannot_be_is_not_believed(line, part):
    found = recipe(OFFLINE, model(card=f"- {line}\n"))
    assert found["slots"]["hyperparameters"]["parts"][part]["fallback"]


LORA_CODE = """
config = LoraConfig(r=64, lora_alpha=128, lora_dropout=rate, target_modules=["q_proj", "v_proj"])
m = AutoModelForCausalLM.from_pretrained('a/b', attn_implementation="%s")
"""


@pytest.mark.parametrize(
    ("attention", "values"), [("eager", {"attn_implementation": "eager"}), ("flash_attention_2", {})]
)
def test_lora_and_attention_of_the_card_are_taken(attention, values):
    page = model(card=f"```python\n{LORA_CODE % attention}```\n")
    found = config_values(research(page, "text-generation", Pages(OFFLINE)))
    lora = {"lora_r": 64, "lora_alpha": 128, "lora_target_modules": ["q_proj", "v_proj"]}
    assert found == lora | values


def test_lora_of_a_page_on_other_models_is_recorded_alone(mirror, tmp_path):
    (tmp_path / "mirror" / DOCS).write_text(f"```python\n{LORA_CODE % 'eager'}```\n")
    found = recipe(mirror)
    assert found["lora"]["value"]["r"] == 64
    assert "lora_r" not in config_values(found)


def test_search_is_the_last_resort_and_not_believed_alone():
    stranger = "https://raw.githubusercontent.com/o/tune/HEAD/src/finetune%20all.py"
    with served() as server:
        hits = {"items": [{"full_name": "../../etc"}, {"full_name": "o/tune"}, {"full_name": "o/gone"}]}
        tree = {"tree": [{"path": "docs/constraints.py"}, {"path": "src/finetune all.py"}]}
        server.pages["/api.github.com/search/repositories"] = json.dumps(hits)
        server.pages["/api.github.com/repos/o/tune/git/trees/HEAD"] = json.dumps(tree)
        server.pages["/raw.githubusercontent.com/o/tune/HEAD/src/finetune%20all.py"] = AUTHOR_CODE
        page = model(card="- learning_rate: 0.0002\n")
        page.config["model_type"] = "vit"
        found = recipe({MIRROR: server.url}, page)
    parts = found["slots"]["hyperparameters"]["parts"]
    assert (parts["batch"]["value"], parts["batch"]["source_url"]) == (64, stranger)
    assert parts["lr"]["source_url"] == CARD_URL
    assert config_values(found) == {"learning_rate": 0.0002}
    assert f"batch 64 is what a search found at {stranger}: the default is kept" in found["notes"]
    assert "/api.github.com/search/repositories?q=vit+fine-tune&sort=stars&per_page=3" in server.asked
    assert not any("etc" in path for path in server.asked)


@pytest.mark.parametrize("task", TASKS)
def test_offline_every_slot_falls_back_and_says_so(task):
    found = research(model(card=""), task, Pages(OFFLINE))
    for name in SLOTS:
        assert found["slots"][name]["fallback"]
        assert found["slots"][name]["value"]
        if name != "hyperparameters":
            assert f"fallback to scaffold — no live source for {name}" in found["notes"]
    assert found["research_sources"] == []
    assert found["reference"].startswith("scaffold fallback: the network is switched off by HF_HUB_OFFLINE")
    assert config_values(found) == {}


@pytest.mark.parametrize("method", ["dpo", "grpo"])
def test_preference_training_has_its_own_sources(method):
    found = research(model(card=""), "text-generation", Pages(OFFLINE), method)
    assert any(f"/{method}" in one["url"] for one in found["tried"])


def test_class_of_another_task_says_nothing():
    card = "```python\nm = ViTForMaskedImageModeling.from_pretrained('a/vit')\n```"
    assert recipe(OFFLINE, model(card=card))["slots"]["model_class"]["fallback"]


def test_recipe_is_written_as_json_and_as_a_page(mirror, tmp_path):
    found = recipe(mirror)
    files = write_research(tmp_path / "project", found)
    assert [file.name for file in files] == ["recipe.json", "recipe.md"]
    assert json.loads(files[0].read_text()) == found
    text = files[1].read_text()
    assert text == recipe_page(found)
    for name in SLOTS:
        assert f"| {name.replace('_', chr(92) + '_')} |" in text or f"| {name} |" in text
