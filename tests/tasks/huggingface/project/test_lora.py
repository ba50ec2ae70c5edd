import logging
import re

import pytest

from tests.tasks.huggingface import language_models as tiny

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
lora = tiny.project_module("lora")
merging = tiny.project_module("merge_lora")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny.llama(tmp_path_factory.mktemp("llama"))


def load(config, source, *, for_training=True):
    from transformers import AutoModelForCausalLM

    return lora.load_language_model(AutoModelForCausalLM, config, str(source), for_training=for_training)


def stirred(model):
    """The model with an adapter that does something: a fresh one adds nothing."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.2)
    return model


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(20).unsqueeze(0)).logits


@pytest.mark.parametrize("kind", [tiny.idefics3, tiny.llava])
def test_only_the_projections_of_the_text_tower_learn(tmp_path, kind):
    from transformers import AutoModelForImageTextToText

    folder = kind(tmp_path / "model")
    config = tiny.configuration(tmp_path, folder)
    model = lora.load_language_model(AutoModelForImageTextToText, config, str(folder), for_training=True)
    learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert learning
    assert all(re.search(r"(language_model|text_model).*_proj\.lora_[AB]", name) for name in learning)
    assert not any("vision" in name for name in learning)


def test_all_seven_projections_of_a_text_model_learn(tmp_path, llama):
    model = load(tiny.configuration(tmp_path, llama), llama)
    adapted = {re.search(r"(\w+)_proj", name)[1] for name, _ in model.named_parameters() if "lora_A" in name}
    assert adapted == {"q", "k", "v", "o", "gate", "up", "down"}


def test_a_large_share_of_learning_parameters_is_a_warning(tmp_path, llama, caplog):
    with caplog.at_level(logging.WARNING, "project"):
        load(tiny.configuration(tmp_path, llama, lora_r=16), llama)
    assert "% of the parameters learn" in caplog.text


@pytest.mark.parametrize("targets", [r".*language_model.*\.q_proj", ["c_attn"]])
def test_targets_that_match_nothing_are_refused_with_the_layers_that_there_are(tmp_path, llama, targets):
    with pytest.raises(ValueError, match=r"matches no module of LlamaForCausalLM.*down_proj, gate_proj"):
        load(tiny.configuration(tmp_path, llama, lora_target_modules=targets), llama)


def test_a_list_of_names_is_taken_too(tmp_path, llama):
    model = load(tiny.configuration(tmp_path, llama, lora_target_modules=["q_proj"]), llama)
    assert all("q_proj" in name for name, weight in model.named_parameters() if weight.requires_grad)


def test_without_lora_everything_learns_in_float32(tmp_path, llama):
    model = load(tiny.configuration(tmp_path, llama, use_lora=False, bf16=True), llama)
    assert all(weight.requires_grad and weight.dtype == torch.float32 for weight in model.parameters())


def test_a_bf16_training_freezes_a_bf16_base_under_a_float32_adapter(tmp_path, llama):
    model = load(tiny.configuration(tmp_path, llama, bf16=True), llama)
    types = {weight.requires_grad: weight.dtype for weight in model.parameters()}
    assert types == {True: torch.float32, False: torch.bfloat16}


def test_an_adapter_is_loaded_over_its_base_and_goes_on_learning(tmp_path, llama):
    config = tiny.configuration(tmp_path, llama)
    first = stirred(load(config, llama))
    first.save_pretrained(tmp_path / "adapter")
    again = load(config, tmp_path / "adapter")
    torch.testing.assert_close(logits(again), logits(first))
    assert any(weight.requires_grad for weight in again.parameters())
    still = load(config, tmp_path / "adapter", for_training=False)
    assert not any(weight.requires_grad for weight in still.parameters())


def test_trl_gets_the_untouched_base_and_the_settings_of_the_adapter(tmp_path, llama):
    base, settings = lora.base_and_adapter(stirred(load(tiny.configuration(tmp_path, llama), llama)))
    plain = load(tiny.configuration(tmp_path, llama, use_lora=False), llama)
    assert settings.r == 4
    torch.testing.assert_close(logits(base), logits(plain))
    assert lora.base_and_adapter(plain) == (plain, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_merged_model_answers_as_the_adapter_does_in_the_type_of_its_base(tmp_path, llama, dtype):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = tmp_path / "base"
    AutoModelForCausalLM.from_pretrained(llama).to(dtype).save_pretrained(base)
    tiny.tokenizer().save_pretrained(base)
    config = tiny.configuration(tmp_path, base)
    model = stirred(load(config, base))
    model.save_pretrained(tmp_path / "adapter")
    merging.merge(str(base), tmp_path / "adapter", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert merged.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 5e-2
    torch.testing.assert_close(logits(merged).float(), logits(model), atol=tolerance, rtol=tolerance)
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template == tiny.CHAT_TEMPLATE
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    assert (tmp_path / "merged" / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_a_folder_without_an_adapter_is_refused(tmp_path, llama):
    with pytest.raises(FileNotFoundError, match=r"adapter_config\.json"):
        merging.merge(str(llama), tmp_path, tmp_path / "merged")
