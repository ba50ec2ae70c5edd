"""The diary and the preflight box."""

import json

import pytest

from tasks.huggingface import preflight
from tasks.huggingface.progress import Bug, Progress
from tasks.huggingface.smoke import Verdict
from tests.tasks.huggingface.finished_project import CONFIG

GOOD = Verdict(passed=True, loss=2.1, grad_norm=1.0, reasons=[])


def test_diary(tmp_path):
    diary = Progress(tmp_path, CONFIG, enabled=True)
    diary.say("start", "begun")
    diary.say("train", "out of <memory>", "⚠️", Bug(symptom="OOM", root_cause="batch 8", fix="batch 4"))
    diary.say("deliver", "step 6: no", "❌")
    diary.finish("delivered", "accuracy 0.3 -> 0.9", {"Hub": None})
    text = (tmp_path / "PROGRESS.md").read_text()
    assert "acme/tiny-vit" in text
    assert "[0:00:00] ✅ begun" in text
    assert "⚠️ out of &lt;memory&gt;" in text
    assert "    - root cause: batch 8" in text
    for one in ("data", "train", "deliver"):
        assert f"| {one} | — | — |" in text, "a milestone without a good line did not happen"
    assert "| Status | delivered |" in text


def test_a_diary_that_is_off_writes_nothing(tmp_path):
    diary = Progress(tmp_path, CONFIG, enabled=False)
    diary.say("start", "begun")
    diary.finish("delivered", "x", {})
    assert list(tmp_path.iterdir()) == []


def test_box(tmp_path):
    fields = preflight.preflight(CONFIG, ["image", "label"], "https://huggingface.co/acme", GOOD)
    assert preflight.blanks(fields) == []
    assert fields["hardware"] == "1× NVIDIA A100-SXM4-80GB"
    lines = preflight.box(fields).splitlines()
    assert lines[0].startswith("┌─ PREFLIGHT ─")
    assert len({len(line) for line in lines}) == 1
    preflight.write_preflight(tmp_path, fields)
    assert (
        preflight.read_preflight(tmp_path)
        == fields
        == json.loads((tmp_path / "meta/preflight.json").read_text())
    )


@pytest.mark.parametrize(
    ("changes", "blank"),
    [
        ({"gpu_name": None}, "hardware"),
        ({"ngc_image": ""}, "ngc_image"),
        ({"hf_model_repo": None}, "push_to_hub"),
    ],
)
def test_blanks(changes, blank):
    fields = preflight.preflight(CONFIG | changes, ["image"], "url", GOOD)
    assert preflight.blanks(fields) == [blank]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "disabled"),
        ({"report_to": "wandb", "wandb_project": "p"}, "wandb p/tiny-vit-screws"),
        ({"report_to": "wandb", "wandb_mode": "offline"}, "wandb offline"),
        ({"report_to": "wandb", "wandb_mode": "disabled"}, "disabled"),
    ],
)
def test_monitoring(changes, said):
    assert preflight.monitoring(CONFIG | changes) == said
