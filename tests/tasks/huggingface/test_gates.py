"""Each gate on a finished project, and broken once per rule."""

import json

import pytest
import yaml

from tasks.errors import StageFailed
from tasks.huggingface.gates import check_gate, gate_table, gates_in, holds, reopen
from tasks.huggingface.push import Pushed, files_to_push
from tasks.huggingface.recipe import write_recipe
from tasks.huggingface.results import read_config
from tests.tasks.huggingface.finished_project import finished_project


@pytest.fixture
def project(tmp_path):
    project = finished_project(tmp_path / "p")
    config = read_config(project)
    names = [*files_to_push(project, config), "README.md"]
    done = Pushed(repo_id=config["hf_model_repo"], url="https://hub/x", commit="a", files=names, at="now")
    (project / "meta/push.json").write_text(done.model_dump_json())
    write_recipe(project, config, {})
    return project


def changed(project, **changes):
    file = project / "config.yaml"
    config = yaml.safe_load(file.read_text()) | changes
    file.write_text(yaml.safe_dump({name: value for name, value in config.items() if value != "DROP"}))


def with_tests(project, ended):
    """As if the unit tests had been run: one test that ended so, or none."""
    changed(project, emit_unit_tests=True)
    case = "" if ended is None else f'<testcase name="test_a">{ended}</testcase>'
    (project / "reports/tests.xml").write_text(f"<testsuites><testsuite>{case}</testsuite></testsuites>")


def edited(project, name, change):
    file = project / name
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def test_all_six_hold(project):
    for step in range(1, 7):
        assert not holds(step, project)
        assert check_gate(step, project).passed
        assert holds(step, project)
    assert [gate.step for gate in gates_in(project)] == [1, 2, 3, 4, 5, 6]
    assert "| 6 | push and re-run recipe | yes |" in gate_table(gates_in(project))
    done = project / "meta/commands.json"
    done.write_text("{}")
    reopen(4, project)
    assert [gate.step for gate in gates_in(project)] == [1, 2, 3]
    assert done.exists()
    reopen(3, project)
    assert not done.exists(), "what step 3 decides may be another thing now"


BREAKS = [
    (1, lambda p: changed(p, model_id="DROP"), "model_id is missing"),
    (1, lambda p: changed(p, local_dataset_path="/data"), "one of dataset_id"),
    (1, lambda p: changed(p, applicable_workarounds="DROP"), "applicable_workarounds"),
    (1, lambda p: (p / "config.yaml").unlink(), "config.yaml"),
    (2, lambda p: changed(p, driver_major=None), "driver_major is missing"),
    (2, lambda p: edited(p, "meta/hardware.json", dict.clear), "not walked"),
    (3, lambda p: edited(p, "meta/recipe.json", lambda r: r["slots"].pop("collator")), "collator is not"),
    (3, lambda p: edited(p, "meta/recipe.json", lambda r: r["slots"]["collator"].pop("fallback")), "neither"),
    (4, lambda p: (p / "infer.py").write_text("print()"), "infer.py does not begin"),
    (4, lambda p: (p / "Dockerfile").unlink(), "Dockerfile is missing"),
    (4, lambda p: (p / "meta/image.json").unlink(), "image was not built"),
    (4, lambda p: (p / "meta/smoke.json").unlink(), "smoke test was not run"),
    (4, lambda p: edited(p, "meta/smoke.json", lambda s: s.update(passed=False, reasons=["bad"])), "bad"),
    (4, lambda p: edited(p, "meta/preflight.json", lambda f: f.update(hardware=" ")), "hardware is blank"),
    (4, lambda p: changed(p, emit_unit_tests=True), "unit tests were not run"),
    (4, lambda p: with_tests(p, "<failure/>"), "the unit test test_a failed, see logs/tests.log"),
    (4, lambda p: with_tests(p, "<error/>"), "test_a failed"),
    (4, lambda p: with_tests(p, "<"), "run the unit tests again"),
    (4, lambda p: with_tests(p, None), "no unit test was run"),
    (5, lambda p: (p / "checkpoints/final/model.safetensors").unlink(), "no weights"),
    (5, lambda p: (p / "reports/baseline_results.json").unlink(), "baseline_results.json"),
    (5, lambda p: edited(p, "reports/eval_results.json", lambda e: e["primary_metric"].update(value=None)),
     "not a number"),
    (5, lambda p: edited(p, "reports/eval_results.json", lambda e: e.update(checkpoint="checkpoints/other")),
     "is pushed"),
    (5, lambda p: (p / "reports/inference_samples/sample_4_meta.json").unlink(), "4 of 5"),
    (5, lambda p: edited(p, "checkpoints/trainer_state.json",
                         lambda s: [entry.update(loss=2.0) for entry in s["log_history"] if "loss" in entry]),
     "does not descend"),
    (5, lambda p: changed(p, emit_report=True), "report.pdf is missing, reports/report.html is"),
    (6, lambda p: edited(p, "meta/push.json", lambda s: s["files"].remove("model.safetensors")),
     "lacks model"),
    (6, lambda p: (p / "meta/push.json").unlink(), "not pushed"),
    (6, lambda p: changed(p, hf_model_repo="anna/new"), "screws-finetuned, not to anna/new"),
    (6, lambda p: (p / "skills/run-tiny-vit-screws/SKILL.md").unlink(), "recipe"),
]  # fmt: skip


@pytest.mark.parametrize(("step", "break_it", "words"), BREAKS)
def test_a_rule_that_is_broken(project, step, break_it, words):
    break_it(project)
    with pytest.raises(StageFailed, match=words):
        check_gate(step, project)
    assert not gates_in(project)[0].passed
    assert not holds(step, project)


def test_what_is_switched_off_is_not_asked_for(project):
    changed(project, push_to_hub=False, skip_baseline=True)
    (project / "meta/push.json").unlink()
    (project / "reports/baseline_results.json").unlink()
    assert check_gate(5, project).passed
    write_recipe(project, read_config(project), {})
    assert check_gate(6, project).passed


def test_unit_tests_that_passed(project):
    with_tests(project, "<skipped/>")
    assert check_gate(4, project).passed
