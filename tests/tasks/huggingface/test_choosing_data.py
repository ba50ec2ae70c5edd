"""Steps 1 and 3 on models and data sets of this machine: what config.yaml then says of columns and recipe."""

import json

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Sequence, Value
from PIL import Image as PillowImage

from tasks.errors import InputError
from tasks.huggingface.asking import Answer, nobody
from tasks.huggingface.pages import Pages
from tasks.huggingface.run import Run
from tasks.huggingface.runner import ProcessRunner
from tasks.huggingface.settings import settings_from
from tasks.huggingface.steps import qualify_step, research_step

CORNERS = {"photo_rgb": "image"}
CATEGORIES = {"bbox": Sequence(Sequence(Value("float32"))), "category": Sequence(ClassLabel(names=["nut"]))}


def saved(folder, features, **row):
    """A data set of one row, whose first column is a picture of 40 x 40 pixels."""
    picture = folder / "picture.png"
    PillowImage.new("RGB", (40, 40)).save(picture)
    row = {next(iter(features)): str(picture), **row}
    Dataset.from_list([row], features=Features(features)).save_to_disk(folder / "set")
    return folder / "set"


def qualified(folder, model, data, ask=nobody, method="sft", **overrides):
    settings = {"model_id": str(model), "local_dataset_path": data and str(data), "push_to_hub": False}
    run = Run(
        project=folder / "project",
        settings=settings_from(settings | {"training_method": method}),
        runner=ProcessRunner(None, gpus=False),
        ask=ask,
        overrides=overrides,
        pages=Pages({"HF_HUB_OFFLINE": "1"}),
    )
    qualify_step(run)
    return run


def boxes(folder):
    features = {"photo_rgb": Image(), "objects": CATEGORIES}
    return saved(folder, features, objects={"bbox": [[20, 20, 39, 39]], "category": [0]})


def test_boxes_in_corners_stay_so_where_a_person_maps_the_image(tiny_detr, tmp_path):
    data = boxes(tmp_path)
    with pytest.raises(InputError, match="no image; restructure"):
        qualified(tmp_path, tiny_detr, data)
    config = qualified(tmp_path, tiny_detr, data, column_mapping=CORNERS).config
    assert config["bbox_format"] == "xyxy"
    assert config["column_mapping"] == CORNERS | {"objects.category": "objects.category_id"}
    assert config["label_names"] == ["nut"]
    config = qualified(tmp_path, tiny_detr, data, column_mapping=CORNERS, bbox_format="xywh").config
    assert config["bbox_format"] == "xywh", "what a person says counts more"


def test_a_mapping_that_leaves_something_open_is_refused(tiny_detr, tmp_path):
    with pytest.raises(InputError, match="image holds"):
        qualified(tmp_path, tiny_detr, boxes(tmp_path), column_mapping={"objects": "image"})


def test_one_of_two_columns_of_classes(tiny_vit, tmp_path):
    features = {"img": Image(), "fine": ClassLabel(names=["cat"]), "coarse": ClassLabel(names=["pet"])}
    data = saved(tmp_path, features, fine=0, coarse=0)
    config = qualified(tmp_path, tiny_vit, data, column_mapping={"coarse": "label"}).config
    assert config["column_mapping"] == {"coarse": "label", "img": "image"}
    assert config["label_names"] == ["pet"]


def test_the_label_column_and_the_column_of_pictures_are_those_that_a_person_names(tiny_vit, tmp_path):
    (tmp_path / "set").mkdir()
    lines = ["photo,fine"]
    for number in range(2):
        PillowImage.new("RGB", (40, 40)).save(tmp_path / "set" / f"{number}.png")
        lines.append(f"{number}.png,{number}")
    (tmp_path / "set" / "train.csv").write_text("\n".join(lines))
    named = {"image_column_src": "photo", "label_column": "fine", "label_names": ["cat", "dog"]}
    config = qualified(tmp_path, tiny_vit, tmp_path / "set" / "train.csv", **named).config
    assert config["column_mapping"] == {"photo": "image", "fine": "label"}


def test_classes_without_names_need_their_number(tiny_segformer, tmp_path):
    features = {"image": Image(), "annotation": Image(), "scene": ClassLabel(names=["street"])}
    data = saved(tmp_path, features, annotation=str(tmp_path / "picture.png"), scene=0)
    with pytest.raises(InputError, match=r"does not name its classes: give overrides\.label_names or num_l"):
        qualified(tmp_path, tiny_segformer, data)
    config = qualified(tmp_path, tiny_segformer, data, num_labels=3).config
    assert (config["num_labels"], config["label_names"]) == (3, None)


@pytest.fixture(scope="session")
def llama(tiny_models):
    """The config of a language model, which is all that step 1 reads."""
    from transformers import LlamaConfig

    config = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
                         vocab_size=8, architectures=["LlamaForCausalLM"])  # fmt: skip
    config.save_pretrained(tiny_models / "llama")
    return tiny_models / "llama"


PAIR = Features({name: Value("string") for name in ("prompt", "chosen", "rejected")})
LABELS = Features({"img": Image(), **dict.fromkeys(("fine_label", "coarse_label"), ClassLabel(names=["a"]))})


@pytest.mark.parametrize(
    ("model", "method", "pick", "features", "values"),
    [
        ("tiny_vit", "sft", "uoft-cs/cifar100", LABELS,
         {"train_split": "train", "eval_split": "validation",
          "column_mapping": {"fine_label": "label", "img": "image"}}),
        ("llama", "dpo", "HuggingFaceH4/ultrafeedback_binarized", PAIR,
         {"train_split": "train_prefs", "eval_split": "test_prefs"}),
    ],
)  # fmt: skip
def test_a_recommended_set_brings_what_it_needs(
    request, tmp_path, monkeypatch, model, method, pick, features, values
):
    monkeypatch.chdir(tmp_path)  # a folder of this name stands for the data set on the hub
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    row = {name: 0 if isinstance(kind, ClassLabel) else None for name, kind in features.items()}
    for split in (values["train_split"], values["eval_split"]):
        (tmp_path / pick / "data").mkdir(parents=True, exist_ok=True)
        rows = Dataset.from_list([row], features=features)
        rows.to_parquet(tmp_path / pick / f"data/{split}-00000-of-00001.parquet")
    answer = Answer(approve=True, choice=pick)
    run = qualified(tmp_path, request.getfixturevalue(model), None, lambda _: answer, method)
    assert values.items() <= run.config.items()
    assert run.config["dataset_id"] == pick


LORA = """```python
config = LoraConfig(r=64)
m = AutoModelForImageClassification.from_pretrained('a', attn_implementation="eager")
TrainingArguments(learning_rate=1e-4)
```
"""


def test_recipe_fills_what_neither_a_person_nor_a_rule_set(tiny_vit, tmp_path):
    features = {"image": Image(), "label": ClassLabel(names=["cat"])}
    run = qualified(tmp_path, tiny_vit, saved(tmp_path, features, label=0), learning_rate=1e-3)
    record = tmp_path / "project/meta/model.json"
    record.write_text(record.read_text().replace('"card": ""', f'"card": {json.dumps(LORA)}'))
    run.write_config(run.config | {"attn_implementation": "sdpa"})
    research_step(run)
    config = run.config
    assert (config["learning_rate"], config["attn_implementation"], config["lora_r"]) == (1e-3, "sdpa", None)
    run.write_config(config | {"attn_implementation": None, "use_lora": True})
    research_step(run)
    assert (run.config["attn_implementation"], run.config["lora_r"]) == ("eager", 64)
