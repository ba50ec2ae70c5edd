"""What must hold for the repository as a whole: documentation, image tags, light imports."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from flows import FLOWS
from tasks.registry import ACTIONS, CATEGORIES

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("flow", FLOWS)
def test_readme_names_every_flow(flow):
    assert f"| `{flow}` |" in README


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.title)
def test_readme_names_every_action(action):
    assert f"`{action.name}`" in README or f"`{action.title}`" in README or f"{action.title}`" in README


@pytest.mark.parametrize("category", [*CATEGORIES[:5], "deft"])
def test_every_category_is_a_console_script(category):
    assert category in PROJECT["project"]["scripts"]


def test_only_the_versions_file_names_an_image_tag():
    code = [
        path
        for folder in ("flows", "tasks", "blocks", "deployments")
        for path in (REPOSITORY / folder).rglob("*.py")
    ]
    assert [path.name for path in code if "nvcr.io" in path.read_text(encoding="utf-8")] == []


def test_caps_without_which_the_server_does_not_start_are_declared():
    assert {"fastapi<0.151", "sqlalchemy<2.1"} <= set(PROJECT["project"]["dependencies"])


def test_the_command_line_comes_before_prefect():
    # Prefect reads its settings when it is imported, and the command line sets some; pandas takes its time.
    code = "import sys, deployments.cli; print(sorted({'prefect', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_flow_module_imports_an_engine():
    modules = sorted({code_at.split(":")[0] for code_at in [*FLOWS.values(), "deployments.cli"]})
    heavy = {"torch", "transformers", "kornia", "onnx", "matplotlib", "scipy"}
    code = (
        "import importlib, sys\n"
        f"for module in {modules}:\n"
        "    importlib.import_module(module)\n"
        f"    print(module, sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{module} []" for module in modules]
