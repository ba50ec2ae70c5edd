import io
import json
import os
import subprocess
import sys

import pytest
from datasets import ClassLabel, Dataset, Features, Image, Sequence, Value

from tasks.errors import InputError
from tasks.huggingface.probe import DatasetRejected, class_names, kinds_of, probe_dataset
from tasks.huggingface.settings import settings_from
from tests.tasks.huggingface import datasets as sets
from tests.tasks.huggingface.loopback_datasets import dataset_hub

MODEL = {"model_id": "google/vit-base-patch16-224"}

# The endpoint is read when the client is imported: looks at the hub are made in a process of their own.
PROGRAM = """
import json, sys
from tasks.huggingface.probe import probe_dataset
from tasks.huggingface.project.files.prepare_data import prepare
from tasks.huggingface.settings import settings_from
def look(values, config):
    try:
        found = probe_dataset(settings_from(values))
        answer = found.model_dump() | {"mapping": found.check("image-classification").mapping}
        return answer | {"prepared": prepare(config) if config else None}
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)}
print(json.dumps([look(*one) for one in json.loads(sys.argv[1])], default=str))
"""


def parquet(rows):
    stream = io.BytesIO()
    rows.to_parquet(stream)
    return stream.getvalue()


def pictures(folder, count):
    features = Features({"img": Image(), "label": ClassLabel(names=["blue", "green", "red"])})
    raw = [sets.picture(folder / f"{n}.png", sets.CLASSES[n % 3], seed=n).read_bytes() for n in range(count)]
    rows = [{"img": {"bytes": raw[n], "path": None}, "label": n % 3} for n in range(count)]
    return Dataset.from_list(rows, features=features)


def looks(url, folder, asked):
    """What the probe finds of each set, in one process."""
    environment = {"PATH": os.environ["PATH"], "HF_ENDPOINT": url, "HF_HOME": str(folder / "cache")}
    environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        json.dumps([[MODEL | values, config] for values, config in asked]),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What was found of each set of a hub of our own, by name."""
    folder = tmp_path_factory.mktemp("hub")
    with dataset_hub() as hub:
        files = {"README.md": b"# colours\n"}
        files["data/train-00000-of-00001.parquet"] = parquet(pictures(folder, 60))
        files["data/test-00000-of-00001.parquet"] = parquet(pictures(folder, 9))
        parts = b"---\nconfigs:\n" + b"".join(
            b"- config_name: %s\n  data_files: data/train-*\n" % name for name in (b"main", b"other")
        )
        hub.sets = {"ada/colours": files, "ada/closed": files}
        hub.sets["ada/script"] = {"script.py": b"class A: pass\n"}
        hub.sets["ada/empty"] = {"README.md": b"# nothing\n"}
        hub.sets["ada/parts"] = files | {"README.md": parts + b"---\n"}
        hub.gated = {"ada/closed"}
        config = {"task": "image-classification", "dataset_id": "ada/colours", "n_train": 12, "n_eval": 6,
                  "column_mapping": {"img": "image"}, "local_data_dir": str(folder / "data")}  # fmt: skip
        asked = [({"dataset_id": "ada/colours"}, config)]
        asked += [
            ({"dataset_id": f"ada/{name}"}, None) for name in ("closed", "absent", "script", "empty", "parts")
        ]
        asked += [({"dataset_id": "ada/colours", "train_split": "all"}, None)]
        answers = looks(hub.url, folder, asked)
        names = [*(values["dataset_id"] for values, _ in asked[:-1]), "split"]
        yield dict(zip(names, answers, strict=True)) | {"url": hub.url}


def test_a_set_on_the_hub_is_probed(found):
    seen = found["ada/colours"]
    assert seen.get("error") is None, seen
    assert seen["splits"] == {"train": None, "test": None}
    assert seen["columns"] == {"img": "image", "label": "class"}
    assert seen["class_names"] == {"label": ["blue", "green", "red"]}
    assert seen["mapping"] == {"img": "image"}
    assert seen["url"] == f"{found['url']}/datasets/ada/colours"
    assert len(seen["sample"]) == 3
    assert "rows" not in seen


def test_a_set_on_the_hub_is_prepared_from_its_stream(found):
    made = found["ada/colours"]["prepared"]
    assert (made["train"], made["eval"]) == (12, 6)
    assert made["train_labels"] == {"0": 4, "1": 4, "2": 4}
    assert made["label_names"] == ["blue", "green", "red"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ada/closed", "ada/closed is gated: accept its terms"),
        ("ada/absent", "ada/absent is missing or private"),
        ("ada/script", "ada/script is made by a script, which is not run"),
        ("ada/empty", "ada/empty holds no data files"),
        ("ada/parts", "set dataset_config_name to one of 'main', 'other'"),
        ("split", "no split all, only train, test"),
    ],
)
def test_what_cannot_be_used_is_rejected_with_the_reason(found, name, message):
    assert found[name].get("error") == "DatasetRejected", found[name]
    assert message in found[name]["message"]
    assert "\n" not in found[name]["message"]


def test_a_hub_that_does_not_answer_can_be_tried_again(tmp_path, monkeypatch):
    no_pause = "import time\ntime.sleep = lambda _: None  # between its tries the client would wait\n"
    monkeypatch.setattr(sys.modules[__name__], "PROGRAM", no_pause + PROGRAM)
    (answer,) = looks("http://127.0.0.1:9", tmp_path, [({"dataset_id": "ada/colours"}, None)])
    assert answer["error"] == "HubUnreachable", answer


# --- local


def probed(path, **values):
    return probe_dataset(settings_from(MODEL | {"local_dataset_path": str(path)} | values))


@pytest.mark.parametrize(
    ("writer", "task", "form", "columns", "names"),
    [
        (sets.flat_folder, "image-classification", "imagefolder", {"image": "image", "label": "class"},
         ["blue", "green", "red"]),
        (sets.voc, "object-detection", "voc", {"objects.bbox": "list of list of float"},
         ["ant", "cat", "dog"]),
        (sets.coco, "object-detection", "coco", {"objects.category_id": "list of class"}, ["glove", "mask"]),
        (sets.segmentation, "semantic-segmentation", "segmentation-folder", {"annotation": "image"},
         ["board", "chip"]),
        (sets.questions, "image-text-to-text", "jsonl", {"image": "image", "answer": "string"}, None),
    ],
)  # fmt: skip
def test_a_local_set_is_probed_by_the_loaders_of_the_project(tmp_path, writer, task, form, columns, names):
    found = probed(writer(tmp_path / "set"))
    assert found.format == form
    assert columns.items() <= found.columns.items()
    assert found.label_names == names
    assert len(found.rows) <= 20
    check = found.check(task)
    assert check.problems == ()
    assert found.config_values(check)["label_names"] == names
    assert found.url.startswith("file://")


def test_conversations_fit_a_language_task(tmp_path):
    found = probed(sets.chats(tmp_path / "chats.jsonl"))
    assert found.check("text-generation").columns == ("messages",)
    assert not found.check("text-generation", "dpo").fits


def test_a_wrong_local_set_is_rejected(tmp_path):
    with pytest.raises(DatasetRejected, match="not a data set in a known layout"):
        probed(tmp_path)
    folder = sets.flat_folder(tmp_path / "set")
    with pytest.raises(DatasetRejected, match="no split all, only train; set train_split"):
        probed(folder, train_split="all")
    with pytest.raises(DatasetRejected, match="no split held, only train; set eval_split"):
        probed(folder, eval_split="held[:10]")


def test_no_data_set_is_an_error():
    with pytest.raises(InputError, match="neither dataset_id nor local_dataset_path"):
        probe_dataset(settings_from(MODEL))


def test_kinds_are_plain_words():
    features = Features({
        "image": Image(), "label": ClassLabel(names=["a"]), "id": Value("uint8"), "score": Value("float64"),
        "text": Value("large_string"), "tags": Sequence(Value("string")),
        "objects": {"bbox": Sequence(Sequence(Value("float32"))),
                    "kind": Sequence(ClassLabel(names=["x", "y"]))},
    })  # fmt: skip
    assert kinds_of(features) == {
        "image": "image", "label": "class", "id": "int", "score": "float", "text": "string",
        "tags": "list of string", "objects": "struct", "objects.bbox": "list of list of float",
        "objects.kind": "list of class",
    }  # fmt: skip
    assert class_names(features) == {"label": ["a"], "objects.kind": ["x", "y"]}


def stored(folder, **columns):
    """A saved set of one picture and columns of two classes each, with the names given."""
    features = Features({"image": Image(), "annotation": Image()})
    features |= {name: ClassLabel(names=names) for name, names in columns.items()}
    pixels = sets.picture(folder / "pixels.png", sets.CLASSES[0], seed=0)
    row = {"image": str(pixels), "annotation": str(pixels), **dict.fromkeys(columns, 0)}
    Dataset.from_list([row], features=Features(features)).save_to_disk(folder / "set")
    return folder / "set"


def test_segments_name_their_classes(tmp_path):
    pixels = str(sets.picture(tmp_path / "pixels.png"))
    features = {"image": Image(), "annotation": Image()}
    features["segments_info"] = [{"id": Value("int64"), "category_id": ClassLabel(names=["sky", "car"])}]
    row = {"image": pixels, "annotation": pixels, "segments_info": [{"id": 1, "category_id": 0}]}
    Dataset.from_list([row], features=Features(features)).save_to_disk(tmp_path / "set")
    found = probed(tmp_path / "set")
    check = found.check("panoptic-segmentation")
    assert found.config_values(check)["label_names"] == ["sky", "car"]
    assert found.counts_classes(check)


@pytest.mark.parametrize(
    ("task", "given", "names"),
    [
        ("semantic-segmentation", {}, None),
        ("image-classification", {}, ["cat", "dog"]),
        ("image-classification", {"coarse": "label"}, ["pet", "beast"]),
    ],
)
def test_names_are_those_of_the_column_that_is_learnt(tmp_path, task, given, names):
    found = probed(stored(tmp_path, coarse=["pet", "beast"], label=["cat", "dog"]))
    check = found.check(task, given=given)
    assert found.config_values(check)["label_names"] == names
    assert found.counts_classes(check) is (names is not None)
