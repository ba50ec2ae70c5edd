"""Commands run, watched and mended, on programs that fail as the real ones do."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
import yaml

from tasks.errors import StageFailed
from tasks.huggingface.asking import Answer, nobody
from tasks.huggingface.executing import done_once, run_recovering, wandb_url
from tasks.huggingface.project.render import config_of, config_text
from tasks.huggingface.recovery import change_config
from tasks.huggingface.results import commands_done
from tasks.huggingface.run import Run
from tasks.huggingface.runner import ProcessRunner
from tasks.huggingface.settings import FinetuneSettings
from tasks.huggingface.steps import training_step
from tests.tasks.huggingface.finished_project import safetensors

BASE = {
    "model_id": "acme/tiny-vit",
    "model_short_name": "tiny",
    "task": "image-classification",
    "auto_model_class": "AutoModelForImageClassification",
    "dataset_id": "acme/screws",
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "logging_steps": 1,
}
TRAIN = """
import json, pathlib, sys, time
config = dict(line.split(": ", 1) for line in open("config.yaml").read().splitlines() if ": " in line)
print("https://wandb.ai/anna/project/runs/ab12cd", flush=True)
{body}
final = pathlib.Path("checkpoints/final")
final.mkdir(parents=True, exist_ok=True)
(final / "config.json").write_text("{{}}")
(final / "model.safetensors").write_bytes(pathlib.Path("weights").read_bytes())
pathlib.Path("checkpoints/trainer_state.json").write_text("{{}}")
"""
MEMORY = """
if int(config["per_device_train_batch_size"]) > 2:
    raise type("OutOfMemoryError", (RuntimeError,), {"__module__": "torch"})("CUDA out of memory")
"""
PREPARE = """
import json, pathlib, yaml
config = yaml.safe_load(open("config.yaml"))
for name in ("train", "eval"):
    pathlib.Path("data", name).mkdir(parents=True, exist_ok=True)
pathlib.Path("data/prepared.json").write_text(json.dumps({"made_from": {"n_train": config["n_train"]}}))
"""
FLAT = """
for step in range(200):
    print("{'loss': '2.3%d', 'learning_rate': '5e-05', 'epoch': '2'}" % (step % 3), flush=True)
    time.sleep(0.03)
"""


def begun(folder, body, ask=nobody):
    (folder / "config.yaml").write_text(config_text(config_of(BASE)))
    (folder / "prepare_data.py").write_text(PREPARE)
    (folder / "train.py").write_text(TRAIN.format(body=body))
    (folder / "weights").write_bytes(safetensors({"w": np.arange(4, dtype="float32")}))
    settings = FinetuneSettings(model_id="acme/tiny-vit", emit_progress_log=True)
    run = Run(project=folder, settings=settings, runner=ProcessRunner(), ask=ask, limit_seconds=30)
    run.runner.prepare(folder, run.config)
    return run


def test_out_of_memory_is_mended_and_the_training_done_once(tmp_path):
    run = begun(tmp_path, MEMORY)
    done_once(run, "train")
    assert run.config["per_device_train_batch_size"] == 2
    assert run.config["gradient_accumulation_steps"] == 4
    assert run.config["gradient_checkpointing"] is True
    attempts = json.loads((tmp_path / "meta/recovery.json").read_text())
    assert [one["kind"] for one in attempts] == ["oom", "oom"]
    assert sorted(one.name for one in (tmp_path / "logs").glob("train*")) == [
        "train.1.log",
        "train.2.log",
        "train.log",
    ]
    assert "symptom" in (tmp_path / "PROGRESS.md").read_text()
    before = commands_done(tmp_path)
    done_once(run, "train")
    assert commands_done(tmp_path) == before
    assert wandb_url(tmp_path) == "https://wandb.ai/anna/project/runs/ab12cd"


@pytest.mark.parametrize(("gpus", "count", "turns"), [(True, 1, 3), (True, 0, 0), (False, 1, 0)])
def test_each_try_with_gpus_takes_its_turn(tmp_path, gpus, count, turns):
    run = begun(tmp_path, MEMORY)
    seen = []

    @contextmanager
    def turn():
        seen.append("taken")
        yield
        seen.append("given back")

    run.turn, run.runner.gpus = turn, gpus
    change_config(tmp_path / "config.yaml", {"gpu_count": count})
    run_recovering(run, "train")
    assert seen == turns * ["taken", "given back"]


def test_a_flat_loss_ends_early_and_a_person_is_asked(tmp_path, caplog):
    caplog.set_level("INFO", logger="deft.progress")
    asked = []

    def person(question):
        asked.append(question)
        (tmp_path / "train.py").write_text(TRAIN.format(body=""))
        return Answer(approve=True, note="mended the labels")

    done_once(begun(tmp_path, FLAT, person), "train")
    assert len(asked) == 1
    said = [line for name, _, line in caplog.record_tuples if name == "deft.progress"]
    assert sum(line.startswith("train: 60 % done, loss 2.3") for line in said) == 1
    assert said[-1].startswith("train done in ")
    assert "does not fall" in asked[0].text
    assert "-100" in asked[0].text
    approvals = json.loads((tmp_path / "meta/approvals.json").read_text())
    assert approvals[0]["answer"]["note"] == "mended the labels"
    assert "nobody" not in yaml.safe_dump(approvals)


def test_the_flat_end_of_a_training_that_went_on_from_a_checkpoint_is_left_alone(tmp_path):
    went_on = "print('INFO going on from checkpoints/checkpoint-40')"
    done_once(begun(tmp_path, went_on + FLAT.replace("0.03", "0.001")), "train")
    assert not (tmp_path / "meta/recovery.json").exists()


def test_an_unknown_error_ends_the_run_where_nobody_is_asked(tmp_path):
    with pytest.raises(
        StageFailed, match=r"train failed: ValueError: strange.*not in the playbook.*logs/train\.log"
    ):
        done_once(begun(tmp_path, "raise ValueError('strange')"), "train")


def test_a_command_that_takes_too_long(tmp_path):
    run = begun(tmp_path, "time.sleep(60)")
    run.limit_seconds = 1
    with pytest.raises(StageFailed, match="its time was over"):
        done_once(run, "train")
    assert not (tmp_path / "meta/recovery.json").exists()


def test_a_command_that_leaves_nothing(tmp_path):
    with pytest.raises(StageFailed, match=r"ended without an error, but: .*config\.json"):
        done_once(begun(tmp_path, "sys.exit(0)"), "train")


STEP = """
import json, pathlib, sys
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
output = pathlib.Path(words["--output"])
said = {"primary_metric": {"name": "accuracy", "value": 1.0}, "n_eval": 2}
said["checkpoint"] = words["--checkpoint"]
if output.suffix:
    output.write_text(json.dumps(said))
else:
    output.mkdir(exist_ok=True)
    for number in (0, 1):
        (output / f"sample_{number}_meta.json").write_text("{}")
"""
STEPS = ("baseline", "train", "evaluate", "infer")


@pytest.mark.parametrize(
    ("broken", "again"),
    [
        ("checkpoints/final/model.safetensors", {"train", "evaluate", "infer"}),
        ("reports/inference_samples/sample_1_meta.json", {"infer"}),
        ("reports/eval_results.json", {"evaluate"}),
        ("reports/baseline_results.json", {"baseline"}),
    ],
)
def test_what_is_no_longer_whole_is_done_again_and_all_that_was_made_of_it(tmp_path, broken, again):
    run = begun(tmp_path, "")
    for program in ("run_eval.py", "infer.py"):
        (tmp_path / program).write_text(STEP)
    for name in STEPS:
        done_once(run, name)
    (tmp_path / broken).write_bytes((tmp_path / broken).read_bytes()[:-1])
    if "sample" in broken:
        (tmp_path / broken).unlink()
    for name in STEPS:
        done_once(run, name)
    assert {name for name in STEPS if (tmp_path / f"logs/{name}.1.log").exists()} == again


@pytest.mark.parametrize(
    ("program", "again"),
    [("train.py", {"prepare", "train", "baseline"}), ("infer.py", {*STEPS, "prepare"}), (None, {"prepare"})],
)
def test_data_settings_that_were_mended_are_prepared_and_all_of_it_is_done_with_them(
    tmp_path, program, again
):
    """Where a command failed, or, with no program that fails, before the step began."""

    def person(_question):
        change_config(tmp_path / "config.yaml", {"n_train": 50})
        return Answer(approve=True)

    run = begun(tmp_path, "", person)
    for name in ("run_eval.py", "infer.py"):
        (tmp_path / name).write_text(STEP)
    done_once(run, "prepare")
    if program:
        with (tmp_path / program).open("r+") as file:
            body = file.read()
            file.seek(0)
            file.write("if 'n_train: 50' not in open('config.yaml').read(): raise ValueError('strange')\n")
            file.write(body)
    else:
        person(None)
    training_step(run)
    assert json.loads((tmp_path / "data/prepared.json").read_text()) == {"made_from": {"n_train": 50}}
    assert set(commands_done(tmp_path)) == {*STEPS, "prepare"}
    assert {name for name in (*STEPS, "prepare") if (tmp_path / f"logs/{name}.1.log").exists()} == again


def test_a_third_equal_failure_changes_nothing_unless_a_person_does(tmp_path):
    asked = []

    def person(question):
        asked.append(question)
        change_config(tmp_path / "config.yaml", {"per_device_train_batch_size": 2})
        return Answer(approve=True)

    run = begun(tmp_path, MEMORY, person)
    run.write_config(run.config | {"per_device_train_batch_size": 64})
    done_once(run, "train")
    changes = [one["changes"] for one in json.loads((tmp_path / "meta/recovery.json").read_text())]
    assert [one.get("per_device_train_batch_size") for one in changes] == [32, 16, None]
    assert "three times in a row; not tried: out of memory: batch 16 x 4 -&gt; 8 x 8" in asked[0].text


def test_a_smoke_test_that_fails_by_its_figures_is_left_to_its_verdict(tmp_path):
    run = begun(tmp_path, "print('SMOKE FAILED: the loss is nan'); sys.exit(1)")
    assert run_recovering(run, "smoke").status == 1
    assert not (tmp_path / "meta/recovery.json").exists()


def test_a_report_is_written_once_and_only_where_one_is_asked_for(tmp_path):
    run = begun(tmp_path, "")
    (tmp_path / "report.py").write_text(
        "import pathlib\n"
        "for form in ('html', 'pdf'):\n"
        "    with pathlib.Path(f'reports/report.{form}').open('a') as file: file.write('written')\n"
    )
    done_once(run, "report")
    assert commands_done(tmp_path) == {}
    run.write_config(run.config | {"emit_report": True})
    done_once(run, "report")
    done_once(run, "report")
    assert (tmp_path / "reports/report.html").read_text() == "written"
    (tmp_path / "reports/report.pdf").unlink()
    done_once(run, "report")
    assert (tmp_path / "reports/report.html").read_text() == "writtenwritten"


def test_unit_tests_that_fail_are_no_done_command(tmp_path):
    run = begun(tmp_path, "")
    change_config(tmp_path / "config.yaml", {"emit_unit_tests": True})
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    (tmp_path / "tests/test_one.py").write_text("def test_one():\n    raise ValueError('strange')\n")
    with pytest.raises(StageFailed, match=r"tests failed.*strange.*logs/tests\.log"):
        done_once(run, "tests")
    assert not commands_done(tmp_path)
    assert run.progress.lines()[-1].milestone == "script"
    (tmp_path / "tests/test_one.py").write_text("def test_one():\n    assert True\n")
    done_once(run, "tests")
    assert list(commands_done(tmp_path)) == ["tests"]
