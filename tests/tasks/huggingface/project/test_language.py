import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tasks.huggingface import language_models as tiny

torch = pytest.importorskip("torch")
language = tiny.project_module("language")
rewards = tiny.project_module("rewards")

USER = {"role": "user", "content": "What colour ?"}
RED = {"role": "assistant", "content": "red"}
BLUE = {"role": "assistant", "content": "blue"}


@pytest.fixture(scope="module")
def words():
    return language.prepare_processor(tiny.tokenizer())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(tiny.llama(tmp_path_factory.mktemp("llama"))).eval()


def learned_text(words, messages, first=0):
    ids, labels = language.learned(words, *language.rendered(words, messages, first))
    assert len(ids) == len(labels)
    assert all(label in (token, -100) for token, label in zip(ids, labels, strict=True))
    return words.decode([label for label in labels if label != -100])


def test_only_what_the_assistant_says_is_learned_with_the_token_that_ends_it(words):
    assert learned_text(words, [USER, RED]) == "red<|end|>\n"


def test_every_reply_of_a_conversation_is_learned(words):
    assert learned_text(words, [USER, RED, USER, BLUE]) == "red<|end|>\nblue<|end|>\n"


def test_replies_that_belong_to_the_prompt_are_not_learned(words):
    assert learned_text(words, [USER, RED, USER, BLUE], first=3) == "blue<|end|>\n"


def test_a_template_that_rewrites_earlier_replies_leaves_the_last_one_to_learn(words):
    other = tiny.tokenizer(
        "{% for m in messages %}{{ m['role'] }}:"
        "{% if m['role'] == 'user' or loop.last %}{{ m['content'] }}{% endif %}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    assert learned_text(other, [USER, RED, USER, BLUE]) == "blue<|end|>"


@pytest.mark.parametrize("said", ["red", "<tool_call>{}", "<think>a</think>b"])
def test_what_a_template_writes_before_a_new_reply_only_is_not_learned(said):
    other = tiny.tokenizer(
        "{% for m in messages %}{{ m['role'] }}:{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant:<think>\n{% endif %}"
    )
    turns = [USER, {"role": "assistant", "content": said}, USER, BLUE]
    assert learned_text(other, turns) == f"{said}<|end|>blue<|end|>"
    text, spans = language.rendered(other, [{**turn, "content": parts(turn["content"])} for turn in turns])
    assert len(spans) == 2
    assert all(text[:low].endswith("assistant:") for low, _ in spans)


def parts(text):
    return [{"type": "text", "text": text}]


def test_a_conversation_without_a_reply_is_refused_by_name(words):
    with pytest.raises(ValueError, match="no reply of the assistant"):
        language.rendered(words, [USER])
    with pytest.raises(ValueError, match="drop the row"):
        language.up_to_reply([USER])


def test_what_follows_the_last_reply_is_left_out():
    assert language.up_to_reply([USER, RED, USER]) == [USER, RED]


def test_a_model_without_a_template_gets_a_plain_one_that_ends_each_reply(caplog):
    with caplog.at_level(logging.INFO, "project"):
        plain = language.prepare_processor(tiny.tokenizer(None))
    assert "no chat template" in caplog.text
    text, spans = language.rendered(plain, [USER, RED])
    assert text == "User: What colour ?\nAssistant: red<|end|>\n"
    assert [text[low:high] for low, high in spans] == [" red<|end|>\n"]
    assert (
        plain.apply_chat_template([USER], tokenize=False, add_generation_prompt=True) == text[: spans[0][0]]
    )


def test_the_plain_template_has_a_place_for_images():
    plain = language.prepare_processor(tiny.tokenizer(None))
    text = plain.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}], tokenize=False
    )
    assert text == "User:  ?\n"  # a tokenizer has no image token; a processor puts its own there


def test_padding_falls_back_to_the_end_token_which_is_still_learned(words):
    assert words.pad_token == words.eos_token
    batch = language.padded(
        words, [language.learned(words, *language.rendered(words, [USER, reply])) for reply in (RED, BLUE)]
    )
    assert (batch["labels"] == words.eos_token_id).sum() == 2
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()


def test_a_tokenizer_that_cannot_end_a_reply_is_refused():
    endless = tiny.tokenizer()
    endless.eos_token = None
    with pytest.raises(ValueError, match="eos_token"):
        language.prepare_processor(endless)


def test_the_start_token_is_not_written_twice(words):
    words.bos_token = "<|start|>"  # noqa: S105
    try:
        assert not language.special_tokens(words, "<|start|>user")
        assert language.special_tokens(words, "user")
    finally:
        words.bos_token = None


def test_the_loss_is_the_models_own(words, model):
    coded = [language.learned(words, *language.rendered(words, [USER, reply])) for reply in (RED, BLUE)]
    batch = language.padded(words, coded)
    with torch.no_grad():
        expected = float(model(**batch).loss)
    metrics = language.language_metrics(model, [batch])
    assert metrics["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert 0 <= metrics["token_accuracy"] <= 1


def test_scores_do_not_depend_on_the_neighbours_in_a_batch(words, model):
    coded = [
        language.learned(words, *language.rendered(words, [{"role": "user", "content": "x" * size}, RED]))
        for size in (1, 9, 40)
    ]
    together = language.token_scores(model, language.padded(words, coded))[0]
    alone = torch.cat([language.token_scores(model, language.padded(words, [one]))[0] for one in coded])
    torch.testing.assert_close(together, alone)


def test_nothing_to_predict_is_an_error(words, model):
    with pytest.raises(ValueError, match="no token to predict"):
        language.language_metrics(model, [language.padded(words, [([1, 2], [-100, -100])])])


def test_replies_do_not_depend_on_the_neighbours_in_a_batch(words, model):
    prompts = [
        words.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        for text in ("a", "a longer question ?")
    ]
    together = language.replies(model, words, prompts, None, 5)
    assert together == [language.replies(model, words, [prompt], None, 5)[0] for prompt in prompts]
    assert words.padding_side == "right"


@pytest.mark.parametrize(
    ("said", "right", "exact", "within"),
    [
        ("Red.", ["red"], 1, 1),
        ("a red car", ["red"], 0, 1),
        ("reddish", ["red"], 0, 0),
        ("", ["red"], 0, 0),
        ("two", ["one", "two"], 1, 1),
        ("anything", ["..."], 0, 0),
    ],
)
def test_answers_are_compared_without_case_and_punctuation(said, right, exact, within):
    assert language.exact_match(said, right) == exact
    assert language.contains(said, right) == within


@given(st.integers(0, 10), st.integers(0, 10))
def test_vqa_accuracy_is_a_third_for_each_person_who_agrees_up_to_one(agree, differ):
    answers = ["red"] * agree + ["blue"] * differ
    if len(answers) < 3:
        assert language.vqa_accuracy("red", answers) == float(agree > 0)
    else:
        assert language.vqa_accuracy("Red", answers) == pytest.approx(min(1.0, agree / 3))


def test_a_setting_that_trl_does_not_know_is_left_out_and_named(caplog):
    import dataclasses

    kind = dataclasses.make_dataclass("Settings", ["beta", "bf16", "gradient_checkpointing"])
    with caplog.at_level(logging.WARNING, "project"):
        made = language.trainer_arguments(
            kind, {"unheard_of": 1}, {"beta": 0.2, "other": 3}, ["beta", "absent"]
        )
    assert (made.beta, made.bf16, made.gradient_checkpointing) == (0.2, False, False)
    assert "unheard_of" in caplog.text


def test_rewards_read_the_final_answer_of_a_reply():
    said = [
        "so it is #### 1,042",
        "I count 7, no, 8 apples",
        "Blue!",
        [{"role": "assistant", "content": "8"}],
    ]
    assert rewards.answer_match(said, ["... #### 1042", "8", "blue", "9"]) == [1.0, 1.0, 1.0, 0.0]
    said, right = ["it is -5", "so x = 5.0", "10-5", "#### .5"], ["5", "5", "5", "0.50"]
    assert rewards.answer_match(said, right) == [0.0, 1.0, 1.0, 1.0]
    assert rewards.answer_match(["it is 5", "#### 2.50"], [5, 2.5]) == [1.0, 1.0]
    assert rewards.contains_answer(["it is 5"], [5]) == rewards.answer_similarity(["5"], [5]) == [1.0]
    assert rewards.contains_answer(["it is red", "blue"], ["red", "red"]) == [1.0, 0.0]
    assert rewards.answer_similarity(["red", ""], ["red", "red"]) == [1.0, 0.0]


@pytest.mark.parametrize("names", [["nobody"], []])
def test_a_reward_that_is_not_there_is_named(names):
    with pytest.raises(ValueError, match=r"reward_functions of config.yaml"):
        rewards.named(names)
