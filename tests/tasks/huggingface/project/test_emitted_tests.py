"""The tests that a project can carry: they pass on every task, and fail where the project is broken."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from tasks.huggingface.kinds import TASKS
from tasks.huggingface.project.render import FILES, LICENSE, config_of, render_project
from tasks.huggingface.results import failed_tests

sys.path.insert(0, str(Path(__file__).parent))
import scenes

from tests.tasks.huggingface import language_models as tiny
from tests.tasks.huggingface import warm

pytest.importorskip("torch")
datasets = pytest.importorskip("datasets")
SMALL = {"height": 64, "width": 64}
BOXES = {"image_size": {"shortest_edge": 64, "longest_edge": 96}}
CASES = {  # the model, its task, and what else config.yaml says
    "classification": ("tiny_vit", "image-classification", {}),
    "detr": ("tiny_detr", "object-detection", BOXES),
    "yolos": ("tiny_yolos", "object-detection", BOXES),
    "semantic": ("tiny_segformer", "semantic-segmentation", {"image_size": SMALL}),
    "reduced": ("tiny_segformer", "semantic-segmentation", {"image_size": SMALL, "reduce_labels": True}),
    "instances": ("tiny_mask2former", "instance-segmentation", {}),
    "panoptic": ("tiny_mask2former", "panoptic-segmentation", {}),
    "depth": ("tiny_glpn", "depth-estimation", {"image_size": SMALL}),
    "text": ("llama", "text-generation", {"lora_r": 4}),
    "whole-text": ("llama", "text-generation", {"use_lora": False}),
    "dpo": ("llama", "text-generation", {"training_method": "dpo", "lora_r": 4}),
    "grpo": ("llama", "text-generation", {"training_method": "grpo", "lora_r": 4}),
    "idefics3": ("idefics3", "image-text-to-text", {"lora_r": 4}),
    "llava": ("llava", "image-text-to-text", {"lora_r": 4}),
}
TESTS = ("dataset", "collator", "model", "smoke")
FAST = ("classification",)
PREPARED = {  # rows as prepare_data.py leaves them, where a case has any
    "classification": lambda seed: scenes.coloured_noise(6, seed),
    "detr": lambda seed: scenes.squares(6, seed, "boxes"),
    "semantic": lambda seed: scenes.squares(6, seed, "classes"),
    "instances": lambda seed: scenes.squares(6, seed, "outlines"),
    "panoptic": lambda seed: scenes.squares(6, seed, "ids"),
    "depth": lambda seed: scenes.squares(6, seed, "depth"),
    "text": lambda seed: rows(messages=[[turn("user", "one ?"), turn("assistant", "two")]] * 6),
    "whole-text": lambda seed: rows(text=["one two three"] * 6),
    "dpo": lambda seed: rows(prompt=["one ?"] * 6, chosen=["red"] * 6, rejected=["blue"] * 6),
    "grpo": lambda seed: rows(prompt=["one ?"] * 6, answer=["red"] * 6, level=[seed] * 6),
    "idefics3": lambda seed: rows(**tiny.colour_rows(6)),
}


def rows(**columns):
    return datasets.Dataset.from_dict(columns)


def turn(role, content):
    return {"role": role, "content": content}


@pytest.fixture
def made(request, tmp_path):
    """Make the project of a case, with its tests."""

    def make(name, **more):
        fixture, task, values = CASES[name]
        if hasattr(tiny, fixture):
            model = getattr(tiny, fixture)(tmp_path / "model")
        else:
            model = request.getfixturevalue(fixture)
        given = {
            "model_id": str(model),
            "model_short_name": "tiny",
            "task": task,
            "auto_model_class": TASKS[task].auto_class,
            "dataset_id": "acme/screws",
            "emit_unit_tests": True,
        }
        config = config_of({**given, **values, **more})
        render_project(config, tmp_path / "project")
        return tmp_path / "project"

    return make


def run_of(project, *more):
    """The exit status of the project's tests, what they printed, and the counts of their report."""
    status, printed = warm.python(
        project, "-m", "pytest", "-q", "tests", "--junitxml=reports/tests.xml", *more
    )
    suite = ElementTree.parse(project / "reports/tests.xml").getroot()[0]  # noqa: S314 - our own file
    figures = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    return status, printed, figures


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in CASES]
)
def test_the_tests_of_a_project_pass(name, made):
    project = made(name)
    if name in PREPARED:
        for seed, split in enumerate(("train", "eval")):
            PREPARED[name](seed).save_to_disk(str(project / "data" / split))
    status, text, figures = run_of(project)
    assert status == 0, text
    skipped = 0 if name in PREPARED else 2
    assert figures == {"tests": 9, "failures": 0, "errors": 0, "skipped": skipped}, text
    assert not (project / "checkpoints").exists(), "a test leaves nothing in the project"
    assert not (project / ".pytest_cache").exists()


BREAKS = {  # the case, the file, what is replaced in it by what, and the test that says so
    "a collator that loses the labels": (
        "classification",
        "vision.py",
        "return transformers.DefaultDataCollator()",
        'return lambda rows: {"pixel_values": torch.stack([row["pixel_values"] for row in rows])}',
        "test_rows_of_different_sizes_become_one_batch",
    ),
    "rows without a type": (
        "classification",
        "task.py",
        '"labels": rows["label"]}',
        '"labels": [str(one) for one in rows["label"]]}',
        "test_a_made_up_row_becomes_what_the_model_reads",
    ),
    "a frozen model": (
        "classification",
        "task.py",
        "load_model = vision.load_processor, vision.load_model\n",
        "load_model = vision.load_processor, lambda *given, **more: vision.load_model(*given, **more)"
        ".requires_grad_(False)\n",
        "test_there_is_something_to_learn",
    ),
    "a prompt that is learned in place of the reply": (
        "text",
        "language.py",
        "token if any(low <= start < end <= high for low, high in spans) else IGNORED",
        "IGNORED if any(low <= start < end <= high for low, high in spans) else token",
        "test_rows_of_different_sizes_become_one_batch",
    ),
    "boxes that are not brought to the padded frame": (
        "yolos",
        "task.py",
        'row["labels"] | {"boxes": row["labels"]["boxes"] * scale}',
        'row["labels"]',
        "test_rows_of_different_sizes_become_one_batch",
    ),
    "boxes with x and y exchanged": (
        "detr",
        "task.py",
        '"bbox": box,',
        '"bbox": [box[1], box[0], box[3], box[2]],',
        "test_rows_of_different_sizes_become_one_batch",
    ),
}


@pytest.mark.parametrize(
    "what",
    [pytest.param(what, marks=[pytest.mark.slow] if number else []) for number, what in enumerate(BREAKS)],
)
def test_what_is_broken_fails(what, made):
    case, file, good, bad, test = BREAKS[what]
    project = made(case)
    text = (project / file).read_text()
    assert text.count(good) == 1
    (project / file).write_text(text.replace(good, bad))
    status, printed, _ = run_of(project)
    assert status == 1, printed
    assert any(f"the unit test {test}" in one for one in failed_tests(project)), printed


@pytest.mark.slow
def test_a_model_too_large_for_this_machine_is_not_loaded(made, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    project = made("classification")
    model_id = yaml.safe_load((project / "config.yaml").read_text())["model_id"]
    facts = {"model_id": model_id, "parameters": 7_000_000_000}
    (project / "meta").mkdir()
    (project / "meta/model.json").write_text(json.dumps(facts))
    status, printed, figures = run_of(project, "-rs")
    assert status == 0
    assert figures["skipped"] == 7
    assert "has 7,000 million parameters: its tests need a GPU" in printed


@pytest.mark.parametrize("name", ["classification", "text"])
def test_only_what_the_task_needs_is_there_and_read_by_the_linter(name, made):
    project = made(name)
    scripts = {"conftest.py", "kind.py", *(f"test_{what}.py" for what in TESTS)}
    pictures = {"made_up.py"} if name == "classification" else set()
    assert {file.name for file in (project / "tests").iterdir()} == {"pytest.ini", *scripts, *pictures}
    assert all(file.read_text().startswith(LICENSE) for file in (project / "tests").glob("*.py"))
    assert "COPY tests/ tests/" in (project / "Dockerfile").read_text()
    assert "pytest" in (project / "requirements.txt").read_text().split()
    rules = ["--select", "E,F,W,I,UP,B,C4,RET,SIM,RUF", "--ignore", "E501,RUF001,RUF002,RUF100"]
    line = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", *rules, "."]
    done = subprocess.run(line, cwd=project, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


def test_every_task_has_its_kind():
    modules = {file.stem.removeprefix("task_") for file in FILES.glob("task_*.py")}
    assert modules == {file.stem.removeprefix("kind_") for file in FILES.glob("tests/kind_*.py")}


def test_without_being_asked_for_no_tests_are_there(made):
    project = made("classification", emit_unit_tests=False)
    assert not (project / "tests").exists()
    assert "COPY tests" not in (project / "Dockerfile").read_text()
