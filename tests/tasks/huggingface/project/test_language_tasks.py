"""Each language task trains, is measured, merged and loaded again, on models of 70 000 parameters."""

import math
import shutil

import pytest
import yaml

from tasks.huggingface.commands import how_to_run
from tasks.huggingface.project.render import config_of, render_project, task_module
from tests.tasks.huggingface import language_models as tiny
from tests.tasks.huggingface import warm

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("trl")
common = tiny.project_module("common")
merging = tiny.project_module("merge_lora")

VLM = "task_image_text_to_text"
SFT = "task_text_generation"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    return {kind.__name__: kind(folder / kind.__name__) for kind in (tiny.llama, tiny.idefics3, tiny.llava)}


def rows_for(task, count=12):
    colours = [tiny.COLOURS[index % 3] for index in range(count)]
    if task == VLM:
        return tiny.colour_rows(count)
    if task == "task_dpo":
        return {"prompt": ["one ?"] * count, "chosen": ["red"] * count, "rejected": ["blue"] * count}
    if task == "task_grpo":
        return {"prompt": ["one ?"] * count, "answer": colours}
    return {"prompt": [f"colour {index % 3} ?" for index in range(count)], "completion": colours}


def trained(folder, model, name, resume=None, **changes):
    """Config, task module, processor and the trainer after its training."""
    import transformers

    task = tiny.project_module(name)
    config = tiny.configuration(folder, model, **changes)
    if not (folder / "data").exists():
        tiny.save_splits(folder / "data", rows_for(name), rows_for(name, 6))
    transformers.set_seed(0)
    arguments = common.training_arguments(config, smoke=False)
    if config["bf16"]:
        arguments["bf16"] = True
    processor = task.load_processor(config, config["model_id"])
    source = task.load_model(config, resume or config["model_id"], for_training=True)
    splits = (task.dataset(config, processor, split) for split in ("train", "eval"))
    trainer = task.trainer(config, source, processor, *splits, arguments)
    trainer.train(resume_from_checkpoint=resume)
    return config, task, processor, trainer


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


CASES = [
    ("llama", SFT, {}),
    ("llama", "task_dpo", {"training_method": "dpo", "beta": 0.2}),
    (
        "llama",
        "task_grpo",
        {
            "training_method": "grpo",
            "per_device_train_batch_size": 8,
            "num_generations": 8,
            "max_completion_length": 16,
            "reward_functions": ["answer_similarity", "contains_answer"],
        },
    ),
    ("idefics3", VLM, {}),
    ("idefics3", VLM, {"bf16": True, "gradient_checkpointing": True}),
    ("llava", VLM, {}),
]


@pytest.mark.parametrize(("kind", "name", "changes"), CASES)
def test_a_task_trains_and_its_merged_model_is_measured_alike(tmp_path, models, kind, name, changes):
    config, task, processor, trainer = trained(tmp_path, models[kind], name, **changes)
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(steps) == 3
    assert all(math.isfinite(step["loss"]) and step["grad_norm"] > 0 for step in steps)
    assert common.smoke_verdict(config, steps[0]) is None
    final = common.save_final(config, trainer, processor)
    assert sorted(path.name for path in final.iterdir() if path.is_dir()) == []
    merging.merge(config["model_id"], final, tmp_path / "merged")
    figures = []
    for folder in (final, tmp_path / "merged"):
        reader = task.load_processor(config, str(folder))
        model = task.load_model(config, str(folder), for_training=False).eval()
        rows = task.dataset(config, reader, "eval")
        figures.append(task.evaluate(config, model, reader, rows, limit=5))
        shown, prediction, meta = task.sample(config, model, reader, rows[0], 0)
        assert isinstance(meta["prediction"], str)
        assert (shown is not None) == (prediction is not None) == (name == VLM)
    assert figures[0]["n_eval"] == 5
    primary = figures[0]["primary_metric"]
    assert primary["value"] == figures[0][primary["name"]]
    numbers = [{k: v for k, v in figure.items() if isinstance(v, float)} for figure in figures]
    assert numbers[1] == pytest.approx(numbers[0], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("kind", ["llava", "idefics3"])
def test_answers_about_pictures_become_right(tmp_path, models, kind):
    changes = {
        "lora_r": 16,
        "lora_alpha": 32,
        "max_steps": 120,
        "warmup_steps": 5,
        "lr_scheduler_type": "cosine",
    }
    changes |= {"per_device_train_batch_size": 9, "per_device_eval_batch_size": 9, "logging_steps": 20}
    tiny.save_splits(tmp_path / "data", tiny.colour_rows(18), tiny.colour_rows(9))
    config = tiny.configuration(tmp_path, models[kind], **changes)
    task = tiny.project_module(VLM)
    processor = task.load_processor(config, config["model_id"])
    rows = task.dataset(config, processor, "eval")
    untrained = task.load_model(config, config["model_id"], for_training=False).eval()
    before = task.evaluate(config, untrained, processor, rows)
    _, _, _, trainer = trained(tmp_path, models[kind], VLM, **changes)
    after = task.evaluate(config, trainer.model, processor, rows)
    assert before["primary_metric"] == {"name": "exact_match", "value": 0.0, "higher_is_better": True}
    assert after["exact_match"] >= 0.9
    assert after["eval_loss"] < before["eval_loss"]


def test_text_answers_become_right(tmp_path, models):
    changes = {"lora_r": 16, "lora_alpha": 32, "max_steps": 60, "logging_steps": 20}
    config, task, processor, trainer = trained(tmp_path, models["llama"], SFT, **changes)
    rows = task.dataset(config, processor, "eval")
    metrics = task.evaluate(config, trainer.model, processor, rows, max_new_tokens=6)
    assert metrics["exact_match"] == 1.0
    assert metrics["primary_metric"]["name"] == "eval_loss"
    assert not metrics["primary_metric"]["higher_is_better"]


def test_before_training_a_preference_is_a_toss_up_and_after_it_the_chosen_reply_wins(tmp_path, models):
    config, task, processor, trainer = trained(tmp_path, models["llama"], "task_dpo", training_method="dpo")
    rows = task.dataset(config, processor, "eval")
    untrained = task.load_model(config, config["model_id"], for_training=False).eval()
    before = task.evaluate(config, untrained, processor, rows)
    assert before["reward_accuracy"] == 0.5
    assert before["eval_loss"] == pytest.approx(math.log(2), abs=1e-5)
    after = task.evaluate(config, trainer.model, processor, rows)
    assert after["reward_accuracy"] == 1.0
    assert after["reward_margin"] > 0


def test_our_dpo_loss_is_trls(tmp_path, models):
    config, task, processor, trainer = trained(tmp_path, models["llama"], "task_dpo", training_method="dpo")
    rows = task.dataset(config, processor, "eval")
    theirs = trainer.evaluate()
    ours = task.evaluate(config, trainer.model, processor, rows)
    assert ours["eval_loss"] == pytest.approx(theirs["eval_loss"], rel=1e-3)
    assert ours["reward_margin"] == pytest.approx(theirs["eval_rewards/margins"], rel=1e-2)


@pytest.mark.parametrize("name", [SFT, "task_dpo", VLM])
def test_a_training_that_was_cut_short_goes_on_to_the_same_weights(tmp_path, models, name):
    changes = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "lr_scheduler_type": "constant"}
    model = models["idefics3" if name == VLM else "llama"]
    _, _, _, whole = trained(tmp_path, model, name, **changes)
    resume = str(tmp_path / "checkpoints" / "checkpoint-2")
    _, _, _, resumed = trained(tmp_path, model, name, resume=resume, **changes)
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-4)
    expected = dict(whole.model.named_parameters())
    for key, weight in resumed.model.named_parameters():
        torch.testing.assert_close(weight, expected[key], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "name"), [("llama", SFT), ("llama", "task_dpo"), ("llava", VLM)])
def test_a_whole_model_is_trained_and_saved_as_it_was_in_memory(tmp_path, models, kind, name):
    changes = {"use_lora": False, "learning_rate": 1e-3}
    config, task, processor, trainer = trained(tmp_path, models[kind], name, **changes)
    final = common.save_final(config, trainer, processor)
    live = dict(trainer.model.named_parameters())
    for key, weight in task.load_model(config, str(final), for_training=False).named_parameters():
        torch.testing.assert_close(weight, live[key])


def test_pictures_of_different_sizes_share_a_batch_and_only_answers_are_learned(tmp_path, models):
    task = tiny.project_module(VLM)
    config = tiny.configuration(tmp_path, models["idefics3"])
    processor = task.load_processor(config, config["model_id"])
    rows = tiny.colour_rows(9)
    rows = [{key: rows[key][index] for key in rows} for index in range(9)]
    batch = task.collator(config, processor)(rows)
    tiles = batch["pixel_attention_mask"].flatten(2).any(-1).sum(1)
    assert len(set(tiles.tolist())) > 1
    for row, labels in zip(rows, batch["labels"], strict=True):
        assert processor.tokenizer.decode(labels[labels != -100]) == f"{row['answer']}<|end|>\n"
    image_token = processor.tokenizer.convert_tokens_to_ids("<image>")
    assert not (batch["labels"] == image_token).any()


def test_no_sample_is_cut_so_that_image_tokens_stay_whole(tmp_path, models):
    task = tiny.project_module(VLM)
    config = tiny.configuration(tmp_path, models["llava"], max_length=8)
    processor = task.load_processor(config, config["model_id"])
    rows = tiny.colour_rows(1, question=["why " * 60])
    batch = task.collator(config, processor)([{key: value[0] for key, value in rows.items()}])
    assert (batch["input_ids"] == processor.tokenizer.convert_tokens_to_ids("<image>")).sum() == 16
    assert batch["input_ids"].shape[1] > 100


ASK = [{"type": "text", "text": "What ?"}]
PICTURE = {"type": "image"}


@pytest.mark.parametrize(
    ("row", "question", "answer", "right"),
    [
        ({"question": "What ?", "answer": "red"}, [PICTURE, *ASK], "red", ["red"]),
        ({"question": "What ?", "answers": ["b", "red", "red"]}, [PICTURE, *ASK], "red", ["b", "red", "red"]),
        (
            {"question": "What ?", "multiple_choice_answer": "b", "answers": [{"answer": "red"}] * 3},
            [PICTURE, *ASK],
            "b",
            ["red"] * 3,
        ),
        (
            {"caption": "A dog."},
            [PICTURE, {"type": "text", "text": "Describe the image."}],
            "A dog.",
            ["A dog."],
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "What ?<image>"},
                    {"role": "assistant", "content": "b"},
                ]
            },
            [*ASK, PICTURE],
            "b",
            ["b"],
        ),
        (
            {"messages": [{"role": "user", "content": "What ?"}, {"role": "assistant", "content": "b"}]},
            [PICTURE, *ASK],
            "b",
            ["b"],
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image", "text": None}, *ASK]},
                    {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
                    {"role": "user", "content": [{"type": "text", "text": "thanks"}]},
                ]
            },
            [PICTURE, *ASK],
            "b",
            ["b"],
        ),
    ],
)
def test_rows_of_every_form_become_a_conversation(row, question, answer, right):
    task = tiny.project_module(VLM)
    turns = task.conversation({}, row)
    assert [turn["role"] for turn in turns] == ["user", "assistant"]
    assert turns[0]["content"] == question
    assert turns[1]["content"] == [{"type": "text", "text": answer}]
    assert task.references(row) == right


def test_several_images_stand_where_the_messages_place_them(tmp_path, models):
    task = tiny.project_module(VLM)
    config = tiny.configuration(tmp_path, models["idefics3"])
    processor = task.load_processor(config, config["model_id"])
    images = tiny.colour_rows(2)["image"]
    talk = [
        {"role": "user", "content": "<image> or"},
        {"role": "assistant", "content": "red"},
        {"role": "user", "content": "<image> ?"},
        {"role": "assistant", "content": "green"},
    ]
    row = {"images": images, "messages": talk}
    assert [part["type"] for turn in task.conversation({}, row) for part in turn["content"]].count(
        "image"
    ) == 2
    labels = task.collator(config, processor)([row])["labels"][0]
    assert (
        processor.tokenizer.decode(labels[labels != -100]) == "green<|end|>\n"
    )  # a reply before an image is not


def test_answers_of_three_people_are_scored_as_vqa_does(tmp_path, models):
    from datasets import Dataset

    task = tiny.project_module(VLM)
    config = tiny.configuration(tmp_path, models["llava"])
    processor = task.load_processor(config, config["model_id"])
    columns = tiny.colour_rows(2, answers=[["red"] * 3, ["green"] * 4])
    del columns["answer"]
    model = task.load_model(config, config["model_id"], for_training=False).eval()
    metrics = task.evaluate(config, model, processor, Dataset.from_dict(columns))
    assert metrics["primary_metric"]["name"] == "vqa_accuracy"


def test_a_processor_whose_tokens_differ_is_refused():
    task = tiny.project_module(VLM)
    batch = {
        "input_ids": torch.tensor([[5, 6, 7]]),
        "attention_mask": torch.ones(1, 3, dtype=torch.long),
        "labels": torch.full((1, 3), -100),
    }
    with pytest.raises(ValueError, match="other tokens"):
        task.place_labels(batch, 0, [5, 9, 7], [-100, 9, 7])


def test_rows_with_nothing_to_learn_are_left_out_and_counted(tmp_path, models, caplog):
    task = tiny.project_module(SFT)
    config = tiny.configuration(tmp_path, models["llama"], max_length=60)
    processor = task.load_processor(config, config["model_id"])
    from datasets import Dataset

    rows = Dataset.from_dict({"prompt": ["short", "long " * 100], "completion": ["red", "red"]})
    with caplog.at_level("WARNING", "project"):
        assert len(task.learnable(config, processor, rows)) == 1
    assert "1 of 2 rows left out" in caplog.text
    with pytest.raises(ValueError, match="max_length 60"):
        task.learnable(config, processor, rows.select([1]))


def test_plain_text_is_learned_whole_and_ends(tmp_path, models):
    task = tiny.project_module(SFT)
    config = tiny.configuration(tmp_path, models["llama"])
    processor = task.load_processor(config, config["model_id"])
    ids, labels = task.coded(config, processor, {"text": "one two three"})
    assert ids == labels
    assert ids[-1] == processor.eos_token_id
    row = {"text": "one two three four"}
    assert task.prompt_of(processor, row) + " " + task.reference_of(row) == row["text"]


def test_a_common_beginning_of_both_replies_belongs_to_the_prompt():
    task = tiny.project_module("task_dpo")
    user, yes, no = (
        {"role": role, "content": text}
        for role, text in (("user", "?"), ("assistant", "y"), ("assistant", "n"))
    )
    expected = {"prompt": [user], "chosen": [yes], "rejected": [no]}
    assert task.preference({"prompt": "?", "chosen": [user, yes], "rejected": [user, no]}) == expected
    assert task.preference({"prompt": "?", "chosen": "y", "rejected": "n"}) == expected
    assert task.preference(expected) == expected


def test_pairs_of_equal_replies_are_left_out_and_counted(tmp_path, models, caplog):
    task = tiny.project_module("task_dpo")
    pairs = {"prompt": ["?"] * 3, "chosen": ["y"] * 3, "rejected": ["n", "y", "n"]}
    tiny.save_splits(tmp_path / "data", pairs, pairs)
    with caplog.at_level("WARNING", "project"):
        rows = task.dataset(tiny.configuration(tmp_path, models["llama"]), None, "train")
    assert [row["rejected"][0]["content"] for row in rows] == ["n", "n"]
    assert "train: 1 pairs of equal replies left out" in caplog.text


@pytest.mark.parametrize(("wanted", "per_step", "count"), [(8, 16, 8), (8, 4, 4), (8, 12, 6), (3, 4, 2)])
def test_the_group_of_replies_divides_a_step(wanted, per_step, count):
    assert tiny.project_module("task_grpo").generations({"num_generations": wanted}, per_step) == count


def test_a_step_of_one_reply_is_refused():
    with pytest.raises(ValueError, match="groups of 2"):
        tiny.project_module("task_grpo").generations({}, 1)


def test_grpo_rewards_spread_within_a_group(tmp_path, models):
    _, _, _, trainer = trained(tmp_path, models["llama"], "task_grpo", **CASES[2][2])
    steps = [entry for entry in trainer.state.log_history if "reward_std" in entry]
    assert max(step["reward_std"] for step in steps) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "task", "method", "metric"),
    [
        ("idefics3", "image-text-to-text", "sft", "exact_match"),
        ("llama", "text-generation", "dpo", "reward_accuracy"),
        ("llama", "text-generation", "grpo", "mean_reward"),
    ],
)
def test_the_lines_for_a_person_run_one_after_the_other(tmp_path, models, kind, task, method, metric):
    project, source = tmp_path / "project", tmp_path / "data"
    vision = kind == "idefics3"
    auto = "AutoModelForImageTextToText" if vision else "AutoModelForCausalLM"
    changes = {
        "local_data_dir": "data",
        "output_dir": "./checkpoints",
        "task": task,
        "auto_model_class": auto,
    }
    changes |= {"training_method": method, "per_device_train_batch_size": 8, "num_generations": 8}
    changes |= {"max_completion_length": 16, "reward_functions": ["answer_similarity"]}
    config = config_of(tiny.configuration(tmp_path, models[kind], **changes))
    render_project(config, project)
    module = task_module(config)
    tiny.save_splits(source, rows_for(module), rows_for(module, 6))
    shutil.move(source, project / "data")
    (project / "reports").mkdir()
    lines = how_to_run(config).partition("\npython prepare_data.py")[2].splitlines()[1:-1]
    assert len(lines) == 6
    for line in lines:
        status, printed = warm.python(project, *line.partition("python ")[2].split())
        assert status == 0, printed
    figures = yaml.safe_load((project / "reports" / "eval_results.json").read_text())
    assert figures["primary_metric"]["name"] == metric
    assert figures["checkpoint"] == "checkpoints/merged"
    samples = {path.name for path in (project / "reports" / "inference_samples").iterdir()}
    parts = ("input.jpg", "pred.jpg", "meta.json") if vision else ("meta.json",)
    assert samples == {f"sample_{index}_{part}" for index in range(5) for part in parts}
