"""The recipe that a person repeats a run with: whole as it is written, refused where a rule is broken."""

import pytest
import yaml

from tasks.huggingface.recipe import check_recipe, render_recipe, variance, write_recipe
from tasks.huggingface.recovery import remedy_for, remember
from tasks.huggingface.results import Metric, read_config
from tests.tasks.huggingface.finished_project import finished_project


@pytest.fixture
def project(tmp_path):
    return finished_project(tmp_path / "p")


def rendered(project):
    return render_recipe(project, read_config(project), {"minutes": 12.34, "driver_version": "560.35.05"})


def test_whole(project):
    file = write_recipe(project, read_config(project), {"minutes": 12.34})
    assert file == project / "skills/run-tiny-vit-screws/SKILL.md"
    text = file.read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["metadata"] == {"author": "NVIDIA CORPORATION", "version": "0.1"}
    assert "accuracy 0.3333 -> 0.9000" in front["description"]
    assert "12.3 min on 1x NVIDIA A100-SXM4-80GB" in front["description"]
    assert "±0.0832 (95 %, n = 50)" in text
    assert "No issues" in text
    for title in ("Environment", "Run", "Expected results", "Config snapshot", "Troubleshooting",
                  "Research sources", "Provenance"):  # fmt: skip
        assert f"\n## {title}\n" in text
    assert "docker run -d --name run_train" in text
    assert "merge_lora" not in text


def test_lora_uses_the_merged_weights(tmp_path):
    project = finished_project(tmp_path / "p", use_lora=True)
    text = rendered(project)
    assert "--adapter checkpoints/final --output checkpoints/merged" in text
    assert "--checkpoint checkpoints/merged" in text


@pytest.mark.parametrize("model", ["/models/of anna/vit", "/home/jürgen/vit", "/o'brien/vit", "check"])
def test_a_model_is_known_by_any_name(tmp_path, model):
    project = finished_project(tmp_path / "p", model_id=model)
    assert check_recipe(rendered(project), project, read_config(project)) == []
    others = rendered(project).replace("--checkpoint check", "--checkpoint /models/check")
    assert check_recipe(others, project, read_config(project))


def test_troubles_are_told_and_words_of_logs_are_no_placeholders(project):
    remember(project, "train", "error", "ValueError: <image> token | missing", remedy_for("error", "x", {}))
    text = rendered(project)
    assert "| Command | Symptom | What was tried |" in text
    assert "`ValueError: <image> token \\| missing`" in text
    assert check_recipe(text, project, read_config(project)) == []


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("---\nname", "name", "front matter"),
        ("license: Apache-2.0\n", "", "field license is missing"),
        ("compatibility: ", "compatible: ", "field compatibility"),
        ("metadata:", "meta:", "field metadata"),
        ("allowed-tools", "tools", "field allowed-tools"),
        ("name: run-tiny", "name: run-other", "name is not"),
        ("license: Apache-2.0", "license: [", "not valid YAML"),
        ("<!--\nCopyright", "Some text\n<!--\nCopyright", "copyright notice"),
        ("# run-tiny-vit-screws", "# run-<short>", "<short> was not filled in"),
        ("cd /workspace", "cd <project>", "<project> was not filled in"),
        ("| 0.9000 |", "| 0.9100 |", "lacks 0.9000"),
        ("-> 0.9000", "-> 0.9100", "description lacks 0.9000"),
        ("run-tiny-vit-screws:latest", "run-tiny-vit:latest", "image run-tiny-vit:latest"),
        ("--checkpoint checkpoints/final", "--checkpoint checkpoints/best", "checkpoints/best is none"),
    ],
)
def test_broken_once(project, old, new, finding):
    text = rendered(project)
    assert old in text
    findings = check_recipe(text.replace(old, new), project, read_config(project))
    assert any(finding in one for one in findings), findings


def test_variance_of_shares_alone():
    metric = Metric(name="map", value=0.5, higher_is_better=True, n_eval=100, checkpoint="")
    assert "seed" in variance(metric)
    assert variance(metric.model_copy(update={"name": "accuracy"})) == "±0.0980 (95 %, n = 100)"
