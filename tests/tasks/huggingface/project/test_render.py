"""The files of a project: whole, linted, and with every tunable in config.yaml."""

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib

import pytest
import yaml

from tasks.errors import InputError
from tasks.huggingface.commands import commands_of
from tasks.huggingface.kinds import TASKS
from tasks.huggingface.project.render import (
    FILES,
    LICENSE,
    config_keys,
    config_of,
    config_text,
    render_project,
)

PROJECTS = [(task, "sft") for task in TASKS] + [("text-generation", "dpo"), ("text-generation", "grpo")]


def values(task="image-classification", method="sft", **more):
    return {
        "model_id": "owner/model",
        "model_short_name": "model-data",
        "task": task,
        "auto_model_class": TASKS[task].auto_class,
        "training_method": method,
        "local_dataset_path": "/data/set",
        **more,
    }


@pytest.fixture(scope="module", params=PROJECTS, ids="-".join)
def project(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    render_project(config_of(values(*request.param, emit_report=True)), folder)
    return folder


def scripts(folder):
    return sorted(folder.glob("*.py"))


def test_a_project_holds_what_the_tree_of_outputs_names(project):
    names = {file.name for file in project.iterdir()}
    assert names >= {
        *("config.yaml", "Dockerfile", "requirements.txt", "README.md", ".gitignore", ".env.example"),
        *(
            "prepare_data.py",
            "local_loaders.py",
            "train.py",
            "run_eval.py",
            "infer.py",
            "task.py",
            "common.py",
        ),
    }
    assert "evaluate.py" not in names
    assert ("merge_lora.py" in names) == yaml.safe_load((project / "config.yaml").read_text())["use_lora"]


def test_every_script_begins_with_the_licence_and_compiles(project):
    for file in scripts(project):
        text = file.read_text()
        assert text.startswith(LICENSE)
        compile(text, file.name, "exec")


def test_every_script_passes_the_linter(project):
    rules = "E,F,W,I,UP,B,C4,RET,SIM,RUF"
    ignored = "E501,RUF001,RUF002,RUF100"
    style = ["--isolated", "--no-cache", "--line-length", "110"]
    command = [sys.executable, "-m", "ruff", "check", *style, "--select", rules, "--ignore", ignored, "."]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


def test_a_project_imports_only_what_it_holds_or_requires(project):
    required = {"PIL", "torch", "yaml", *sys.stdlib_module_names}
    required |= set((project / "requirements.txt").read_text().split())
    for file in scripts(project):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            for module in (name.split(".")[0] for name in modules):
                assert module in required or (project / f"{module}.py").is_file(), f"{file.name}: {module}"


def test_a_task_module_answers_the_scripts(project):
    body = ast.parse((project / "task.py").read_text()).body
    defined = {node.name for node in body if hasattr(node, "name")}
    assigned = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    defined |= {node.id for target in assigned for node in ast.walk(target) if isinstance(node, ast.Name)}
    asked = {"load_processor", "load_model", "dataset", "collator", "trainer", "evaluate", "sample"}
    assert asked <= defined


def test_every_setting_that_a_script_reads_stands_in_the_config():
    read = set()
    for file in FILES.glob("*.py"):
        read |= set(re.findall(r"config(?:\.get\(|\[)[\"'](\w+)[\"']", file.read_text()))
    assert read - {"default"} <= set(config_keys())


def test_the_linter_knows_every_module_as_one_of_the_project():
    known = tomllib.loads((FILES / "ruff.toml").read_text())["lint"]["isort"]["known-first-party"]
    scripts_alone = {"prepare_data", "train", "run_eval", "infer", "merge_lora", "report"}
    modules = {file.stem for file in FILES.glob("*.py") if not file.stem.startswith("task_")}
    assert set(known) == modules - scripts_alone - {"__init__"} | {"task"}


def test_no_file_of_a_project_holds_a_secret_or_a_path_of_this_machine(project):
    for file in project.iterdir():
        text = file.read_text()
        assert str(FILES) not in text
        assert not re.search(r"hf_[A-Za-z0-9]{20,}", text)


def test_config_yaml_reads_back_as_it_was():
    config = config_of(values(n_train=7, label_names=["a", "b"]))
    assert yaml.safe_load(config_text(config)) == config
    assert list(config) == config_keys()


def test_defaults_are_those_of_the_task():
    assert config_of(values())["metric_for_best_model"] == "accuracy"
    assert config_of(values("semantic-segmentation"))["learning_rate"] == 6e-5
    assert config_of(values("text-generation"))["lora_r"] == 16
    assert config_of(values("text-generation", use_lora=False))["lora_r"] is None
    assert config_of(values("text-generation", "dpo", use_lora=False))["learning_rate"] == 5e-7
    assert config_of(values(warmup_steps=0.2))["warmup_ratio"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learning_rat": 1}, "no key learning_rat"),
        ({"model_id": ""}, "set model_id"),
        ({"task": "fill-mask"}, "'fill-mask' is not one of depth-estimation"),
    ],
)
def test_a_wrong_config_is_refused_in_one_line(change, said):
    with pytest.raises(InputError, match=said):
        config_of(values() | change)


def workaround(fix_type, content):
    return {"id": "rule", "fix_type": fix_type, "reason": "a known clash", "content": content}


def test_workarounds_go_where_they_belong(tmp_path):
    records = [
        workaround("dockerfile_block", "RUN pip install a==1"),
        workaround("requirements_pin", ["numpy<2"]),
        workaround("requirements_omit", ["timm"]),
        workaround("runtime_env", {"HF_HUB_DISABLE_XET": "1"}),
    ]
    render_project(config_of(values(applicable_workarounds=records)), tmp_path)
    docker, packages = ((tmp_path / name).read_text() for name in ("Dockerfile", "requirements.txt"))
    order = [
        "pip install --no-cache-dir -r",
        "# rule: a known clash\nRUN pip install a==1",
        "ENV HF_",
        "COPY *.py",
    ]
    assert [docker.index(part) for part in order] == sorted(docker.index(part) for part in order)
    assert "# rule: a known clash\nnumpy<2\n" in packages
    assert not {"numpy", "timm"} & set(packages.split("\n"))


def test_a_line_that_a_workaround_forbids_is_refused(tmp_path):
    records = [workaround("dockerfile_lint", "pip install")]
    with pytest.raises(InputError, match="Dockerfile: holds 'pip install', see workaround rule"):
        render_project(config_of(values(applicable_workarounds=records)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_readme_names_every_script_and_the_merged_model_under_lora(tmp_path):
    files = render_project(config_of(values("text-generation")), tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert all(f"`{file.name}`" in text for file in files if file.suffix == ".py")
    assert "--checkpoint checkpoints/merged" in text


def test_the_readme_shows_the_commands_that_the_flow_runs(tmp_path):
    given = values(model_id="/models/of anna/vit", dataset_id="a/b", local_dataset_path=None, shm_size="1g")
    config = config_of(given | {"max_steps": 30, "emit_unit_tests": True})
    render_project(config, tmp_path)
    text = (tmp_path / "README.md").read_text()
    for command in commands_of(config).values():
        assert shlex.join(command.argv()) in text
        assert shlex.quote(command.shell()) in text
    assert "--shm-size=1g" in text
    assert "set -a; . ./.env; set +a" in text
    assert ".env" in (tmp_path / ".dockerignore").read_text().split()


def test_rendering_again_gives_the_same_files(tmp_path):
    config = config_of(values())
    first = {file.name: file.read_bytes() for file in render_project(config, tmp_path)}
    os.utime(tmp_path)
    assert {file.name: file.read_bytes() for file in render_project(config, tmp_path)} == first


def test_what_is_missing_is_written_and_what_a_person_mended_stays(tmp_path):
    config = config_of(values("text-generation", use_lora=False))
    render_project(config, tmp_path)
    (tmp_path / "train.py").write_text("# mended\n")
    (tmp_path / "task.py").unlink()
    written = render_project(config | {"use_lora": True}, tmp_path, only_missing=True)
    assert {file.name for file in written} == {"task.py", "merge_lora.py"}
    assert all(file.is_file() for file in written)
    assert (tmp_path / "train.py").read_text() == "# mended\n"


def test_the_report_and_what_it_needs_are_there_where_one_is_asked_for(tmp_path):
    for wanted in (True, False):
        folder = tmp_path / str(wanted)
        names = {file.name for file in render_project(config_of(values(emit_report=wanted)), folder)}
        assert ({"report.py", "report_charts.py"} <= names) == wanted
        assert ("matplotlib" in (folder / "requirements.txt").read_text().split()) == wanted
        assert ("report.py" in (folder / "README.md").read_text()) == wanted
