"""The registry of workarounds: each rule, the two walks, the veto."""

import logging

import pytest

from tasks.errors import InputError
from tasks.huggingface import compat
from tasks.huggingface.compat import PREDICATES, Situation, walk, workarounds

V4, V5 = {"transformers": "4.52.1"}, {"transformers": "5.23.0"}
IMAGE = {"release": "25.12", "pytorch_version": "2.10.0a0+b4e4ee81d3", "numpy": None}
ALWAYS = {"hf-hub-xet-hang", "script-name-evaluate"}


def situation(task="image-classification", config=None, **known):
    return Situation(config or {"model_type": "vit"}, task, **known)


def ids(one, skip=()):
    return {record["id"] for record in walk(one, skip)}


def versioned(*args, **known):
    """As step 2 of a run in processes sees it."""
    return situation(*args, hardware={}, **known)


def test_plain_classifier_gets_what_is_always_needed():
    assert ids(situation()) == ALWAYS


@pytest.mark.parametrize(
    ("one", "found"),
    [
        (situation(config={"model_type": "idefics2"}), "vlm-heterogeneous-pixel-values"),
        (situation(processor={"do_image_splitting": True}), "vlm-heterogeneous-pixel-values"),
        (situation("image-text-to-text"), "vlm-image-token-truncation"),
        (versioned(config={"model_type": "idefics3"}, versions=V4), "idefics3-llama-generate"),
        *(
            (versioned(config={"model_type": "x", name: {"model_type": "llama"}}, versions=V4), found)
            for name in ("text_config", "llm_config")
            for found in ["idefics3-llama-generate"]
        ),
        (versioned("text-generation", versions=V4), "trl-major"),
        (versioned(training_method="dpo", versions=V5), "trl-major"),
        (versioned(versions=V5), "trainer-best-reload"),
        (versioned(versions=V5, run={"warmup_ratio": 0.1}), "warmup-ratio-removed"),
        (versioned("depth-estimation", versions=V5), "depth-inplace-loss"),
        (versioned(versions={"torch": "2.13.0+cpu"}), "torchvision-cuda-on-cpu-torch"),
        (versioned(versions={"torch": "2.5.1"}), "transformers-5-needs-torch-2.6"),
    ],
)
def test_rule_applies(one, found):
    assert found in ids(one)


@pytest.mark.parametrize(
    ("one", "absent"),
    [
        (versioned(config={"model_type": "idefics3"}, versions=V5), "idefics3-llama-generate"),
        (
            versioned(config={"model_type": "idefics3"}, versions={"transformers": "4.50.3"}),
            "idefics3-llama-generate",
        ),
        (versioned(config={"model_type": "idefics3"}), "idefics3-llama-generate"),
        (situation(processor={"do_image_splitting": False}), "vlm-heterogeneous-pixel-values"),
        (situation("text-generation"), "vlm-image-token-truncation"),
        (versioned(versions=V5), "trl-major"),
        (versioned("text-generation"), "trl-major"),
        (versioned(versions=V4), "trainer-best-reload"),
        (versioned(versions=V5), "warmup-ratio-removed"),
        (versioned("depth-estimation", versions=V4), "depth-inplace-loss"),
        (versioned(versions={"torch": "2.13.0+cu130"}), "torchvision-cuda-on-cpu-torch"),
        (versioned(versions={"transformers": "a fork"}), "trainer-best-reload"),
        (versioned(versions={"torch": "2.6.0+cu124"}), "transformers-5-needs-torch-2.6"),
    ],
)
def test_rule_does_not_apply(one, absent):
    assert absent not in ids(one)


GROUPED = {"model_type": "x", "text_config": {"num_attention_heads": 4, "num_key_value_heads": 2}}
EQUAL = {"model_type": "x", "text_config": {"num_attention_heads": 4, "num_key_value_heads": 4}}
BIN = ["config.json", "pytorch_model.bin"]
OLD = "transformers-5-needs-torch-2.6"


@pytest.mark.parametrize(
    ("one", "found"),
    [
        (
            situation(config=GROUPED, hardware={"release": "24.09"}),
            {"pytorch-2.5-sdpa-gqa", "pip-cache-purge-ngc"},
        ),
        (situation(config=EQUAL, hardware={"release": "24.09"}), {"pip-cache-purge-ngc"}),
        (situation(config=GROUPED, hardware=IMAGE), {"pip-cache-purge-ngc", "ngc-pip-constraint"}),
        (situation(hardware={"release": "25.01", "numpy": "1"}), {"pip-cache-purge-ngc", "numpy-abi"}),
        (situation(hardware={}), set()),
        (
            situation(
                hardware={"release": "24.09", "pytorch_version": "2.5.0a0"}, versions=V4, repo_files=BIN
            ),
            {"pip-cache-purge-ngc", "bin-only-checkpoint", OLD},
        ),
        # NVIDIA's 2.6.0a0 comes before the stable 2.6.
        (
            situation(
                hardware={"release": "25.01", "pytorch_version": "2.6.0a0+ecf3bae40a.nv25.01"},
                versions=V4,
                repo_files=BIN,
            ),
            {"pip-cache-purge-ngc", "bin-only-checkpoint", OLD},
        ),
        (
            situation(
                hardware={"pytorch_version": "2.5.0"}, versions=V4, repo_files=[*BIN, "model.safetensors"]
            ),
            {OLD},
        ),
    ],
)
def test_rules_of_step_2(one, found):
    assert ids(one) == found


def test_torch_of_the_process_counts_without_an_image():
    one = situation(hardware={}, versions={"torch": "2.4.0", **V4}, repo_files=BIN)
    assert ids(one) == {"bin-only-checkpoint", OLD}


@pytest.mark.parametrize(
    ("files", "torch", "pins"),
    [
        ([], "2.6.0a0+ecf3bae40a.nv25.01", ["transformers<5", "trl>=0.17,<1"]),
        # trl 0.17 is the last that takes transformers 4.49.
        (BIN, "2.5.0", ["transformers<5", "transformers==4.49.0", "tokenizers==0.21.0", "trl>=0.17,<1"]),
        (BIN, "2.10.0a0+b4e4ee81d3", ["trl>=1"]),
        ([], None, ["trl>=1"]),
    ],
)
def test_pins_of_an_image_go_together(files, torch, pins):
    hardware = {"release": "25.01", "pytorch_version": torch}
    versions = compat.versions_when_built(torch)
    one = situation("text-generation", versions=versions, repo_files=files, hardware=hardware)
    found = [pin for record in compat.of_type(walk(one), "requirements_pin") for pin in record["content"]]
    assert found == pins


def test_rules_on_versions_wait_for_the_image():
    assert ids(situation("text-generation", versions=V5, run={"warmup_ratio": 0.1})) == ALWAYS


@pytest.mark.parametrize("versions", [{}, V4, V5])
@pytest.mark.parametrize("hardware", [None, IMAGE])
def test_no_id_applies_twice(versions, hardware):
    one = situation("text-generation", versions=versions, hardware=hardware)
    found = [record["id"] for record in walk(one)]
    assert len(found) == len(set(found))


def test_record_says_what_and_why():
    record = next(one for one in walk(situation()) if one["id"] == "hf-hub-xet-hang")
    assert record["fix_type"] == "runtime_env"
    assert record["reason"].endswith("(always)")
    assert compat.runtime_environment([record]) == {"HF_HUB_DISABLE_XET": "1"}


def test_veto_is_honoured_and_logged(caplog):
    with caplog.at_level(logging.INFO, "deft"):
        assert ids(situation(), ["hf-hub-xet-hang"]) == {"script-name-evaluate"}
    assert "hf-hub-xet-hang applies and is left out" in caplog.text
    assert "workaround script-name-evaluate" in caplog.text


def test_veto_of_an_unknown_rule():
    with pytest.raises(InputError, match="no workaround xet-hang"):
        walk(situation(), ["xet-hang"])


def test_overrides_set_and_move_values():
    run = {"warmup_ratio": 0.1, "learning_rate": 5e-5, "load_best_model_at_end": True}
    records = walk(versioned(versions=V5, run=run))
    assert compat.overridden(run, records) == {
        "learning_rate": 5e-5, "load_best_model_at_end": False, "warmup_steps": 0.1,
    }  # fmt: skip


def test_every_predicate_is_used():
    named = {name for one in workarounds() for name in (*one.detect.all, *one.detect.any)}
    assert named == set(PREDICATES)


@pytest.mark.parametrize(
    ("detect", "reason"), [("{all: [os.system]}", "unknown: os.system"), ("{}", "none, but empty")]
)
def test_registry_names_known_predicates_only(tmp_path, detect, reason):
    file = tmp_path / "compat.yaml"
    file.write_text(
        "workarounds:\n- {id: a, title: t, symptom: s, root_cause: r, references: [], "
        f"fix: {{type: naming_rule, content: x}}, detect: {detect}}}\n"
    )
    with pytest.raises(InputError, match=reason):
        workarounds(file)


def test_versions_here_are_those_of_this_environment():
    import numpy

    assert compat.versions_here()["numpy"] == numpy.__version__
