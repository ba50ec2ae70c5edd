import pytest

from tasks.errors import InputError
from tasks.huggingface.credentials import load_env_file, needed, present, require

SECRET = "hf_not_to_be_seen"  # noqa: S105


def names(**changes):
    given = {"push_to_hub": False, "wandb": False, "environment": {}} | changes
    return [item.name for item in needed(**given)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"push_to_hub": True}, ["HF_TOKEN"]),
        ({"gated": ("owner/model",)}, ["HF_TOKEN"]),
        ({"push_to_hub": True, "gated": ("owner/model",)}, ["HF_TOKEN"]),
        ({"wandb": True}, ["WANDB_API_KEY", "WANDB_PROJECT"]),
        ({"wandb": True, "environment": {"WANDB_MODE": "offline"}}, []),
        ({"wandb": True, "environment": {"WANDB_MODE": "disabled"}}, []),
        ({"wandb": True, "environment": {"WANDB_MODE": "online"}}, ["WANDB_API_KEY", "WANDB_PROJECT"]),
        ({"pull_refused": True}, ["NGC_KEY"]),
    ],
)
def test_only_what_this_run_needs(changes, expected):
    assert names(**changes) == expected


@pytest.mark.parametrize(("value", "there"), [("x", True), ("", False), ("  ", False), (None, False)])
def test_present_means_not_empty(value, there):
    assert present("HF_TOKEN", {} if value is None else {"HF_TOKEN": value}) is there


def test_what_is_missing_is_named_with_its_reason_and_no_value_is_kept():
    found = needed(push_to_hub=True, wandb=True, environment={"WANDB_API_KEY": SECRET})
    assert SECRET not in repr(found)
    with pytest.raises(InputError, match=r"HF_TOKEN .to push the model.*WANDB_PROJECT") as caught:
        require(found)
    assert "WANDB_API_KEY" not in str(caught.value)
    require([item for item in found if item.present])


def test_an_env_file_adds_credentials_alone(tmp_path):
    file = tmp_path / "env"
    file.write_text(f"# keys\n\nexport HF_TOKEN='{SECRET}'\nPATH=/evil\nWANDB_PROJECT=boards\nNGC_KEY=new\n")
    environment = {"NGC_KEY": "old"}
    assert load_env_file(file, environment) == ["HF_TOKEN", "WANDB_PROJECT"]
    assert environment == {"NGC_KEY": "old", "HF_TOKEN": SECRET, "WANDB_PROJECT": "boards"}


def test_a_wrong_line_is_named_by_its_number_alone(tmp_path):
    file = tmp_path / "env"
    file.write_text(f"WANDB_PROJECT=x\n{SECRET}\n")
    with pytest.raises(InputError, match="line 2: not NAME=value") as caught:
        load_env_file(file, {})
    assert SECRET not in str(caught.value)
    with pytest.raises(InputError, match="No such file"):
        load_env_file(tmp_path / "absent", {})
