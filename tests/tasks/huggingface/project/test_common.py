"""The shared parts of the scripts, apart from any model."""

import importlib.util
import json
import math
from types import SimpleNamespace

import pytest

from tasks.huggingface.project.render import FILES, _defaults, config_of


@pytest.fixture(scope="module")
def common():
    spec = importlib.util.spec_from_file_location("common", FILES / "common.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def config(tmp_path):
    return config_of(
        {
            "model_id": "owner/model",
            "model_short_name": "m",
            "task": "image-classification",
            "auto_model_class": "AutoModelForImageClassification",
            "output_dir": str(tmp_path / "checkpoints"),
        }
    )


def test_every_argument_is_one_that_this_transformers_takes(common, config):
    import transformers

    arguments = transformers.TrainingArguments(**common.training_arguments(config, smoke=False))
    assert arguments.warmup_steps == 0.1
    assert arguments.load_best_model_at_end is False
    assert arguments.learning_rate == config["learning_rate"]
    assert arguments.push_to_hub is False


def test_that_the_best_model_is_not_loaded_back_is_said(common, config, caplog):
    with caplog.at_level("INFO", logger="project"):
        assert "load_best_model_at_end" not in common.training_arguments(
            config | {"load_best_model_at_end": True}, smoke=False
        )
    assert "load_best_model_at_end is left out" in caplog.text


@pytest.mark.parametrize("there", [True, False])
def test_what_is_saved_is_said_to_be_the_best_checkpoint_only_where_it_is_there(
    common, config, tmp_path, caplog, there
):
    model = SimpleNamespace(save_pretrained=lambda folder: folder.mkdir(parents=True))
    trainer = SimpleNamespace(
        state=SimpleNamespace(best_model_checkpoint=str(tmp_path / "checkpoint-5")),
        accelerator=SimpleNamespace(unwrap_model=lambda given: given),
        model=model,
    )
    if there:
        checkpoint(tmp_path, 5)
    with caplog.at_level("INFO", logger="project"):
        common.save_final(config, trainer, SimpleNamespace(save_pretrained=lambda folder: None))
    assert ("checkpoint-5" in caplog.text, "the last step" in caplog.text) == (there, not there)


def test_a_smoke_test_takes_one_step_and_leaves_no_checkpoint(common, config):
    arguments = common.training_arguments(config | {"report_to": "wandb"}, smoke=True)
    assert arguments["max_steps"] == 1
    assert arguments["save_strategy"] == arguments["eval_strategy"] == "no"
    assert arguments["report_to"] == "none"
    assert arguments["output_dir"].endswith("smoke")


def test_warmup_steps_win_over_the_ratio(common, config):
    assert common.training_arguments(config | {"warmup_steps": 7}, smoke=False)["warmup_steps"] == 7


def test_an_argument_that_is_gone_is_left_out_and_logged(common, config, caplog):
    with caplog.at_level("INFO", logger="project"):
        assert common._known({"no_such_argument": 1, "seed": 3}) == {"seed": 3}
    assert "no_such_argument" in caplog.text


@pytest.mark.parametrize(
    ("step", "method", "said"),
    [
        ({}, "sft", "the loss is nan"),
        ({"loss": math.inf, "grad_norm": 1}, "sft", "the loss is inf"),
        ({"loss": 0.0, "grad_norm": 1}, "sft", "exactly 0"),
        ({"loss": 1.0, "grad_norm": 0.0}, "sft", "nothing would be learnt"),
        ({"loss": 1.0, "grad_norm": math.nan}, "sft", "gradient is nan"),
        ({"loss": 0.0, "grad_norm": 1.0}, "grpo", None),
        ({"loss": "1.0", "grad_norm": "0.5"}, "sft", None),
    ],
)
def test_the_first_step_is_judged(common, step, method, said):
    verdict = common.smoke_verdict({"training_method": method}, step)
    assert verdict is None if said is None else said in verdict


def checkpoint(folder, step, state="{}"):
    (folder / f"checkpoint-{step}").mkdir(parents=True)
    (folder / f"checkpoint-{step}/trainer_state.json").write_text(state)


def test_only_a_run_with_the_same_settings_goes_on(common, config, tmp_path):
    folder, arguments = tmp_path / "checkpoints", {"learning_rate": 1.0}
    assert common.checkpoint_to_resume(config, arguments) is None
    common.begin(config, arguments, None)
    checkpoint(folder, 5)
    checkpoint(folder, 10)
    checkpoint(folder, 15, state='{"global_st')
    (folder / "checkpoint-20").mkdir()  # killed while it was written
    checkpoint(folder, "best")  # a person's own
    assert common.checkpoint_to_resume(config, arguments).endswith("checkpoint-10")
    assert common.checkpoint_to_resume(config, {"learning_rate": 0.1}) is None
    for other in ({"model_id": "owner/other"}, {"dataset_id": "a/b"}, {"label_names": ["a"]}, {"beta": 0.5}):
        assert common.checkpoint_to_resume(config | other, arguments) is None
    assert common.checkpoint_to_resume(config | {"notes": ["n"], "report_to": "wandb"}, arguments)
    (folder / "final").mkdir()
    assert common.checkpoint_to_resume(config, arguments) is None


def test_settings_that_a_training_does_not_depend_on_are_those_of_logging_and_of_the_flow(common):
    sections, _, _ = _defaults()
    assert set(common.NOT_OF_THE_TRAINING) == {*sections["logging"], *sections["flow"]}


def test_a_fresh_start_clears_what_an_earlier_run_left(common, config, tmp_path):
    folder = tmp_path / "checkpoints"
    checkpoint(folder, 5)
    (folder / "final").mkdir()
    (folder / "smoke").mkdir()
    checkpoint(folder, "best")
    common.begin(config, {}, None)
    assert {file.name for file in folder.iterdir()} == {"smoke", "settings.json", "checkpoint-best"}


def test_json_has_null_for_what_is_no_number(common, tmp_path):
    import numpy as np

    value = {1: [math.nan, np.float32(0.5)], "array": np.arange(2), "text": "ä"}
    file = common.write_json(tmp_path / "new" / "a.json", value)
    assert json.loads(file.read_text()) == {"1": [None, 0.5], "array": [0, 1], "text": "ä"}
    assert [one.name for one in file.parent.iterdir()] == ["a.json"]


def test_a_config_that_is_no_mapping_and_data_that_are_missing_end_the_script(common, config, tmp_path):
    (tmp_path / "config.yaml").write_text("- 1\n")
    with pytest.raises(SystemExit, match="not a list of"):
        common.read_config(tmp_path / "config.yaml")
    with pytest.raises(SystemExit, match=r"run `python prepare_data\.py"):
        common.saved_rows(config | {"local_data_dir": str(tmp_path)}, "train")
