"""A model's page from a folder and from a hub on this machine, and the reasons of refusals."""

import json

import pytest

from tasks.errors import InputError
from tasks.huggingface.hub import HubUnreachable, ModelRejected, look_up, refusal
from tests.tasks.huggingface.loopback_pages import served

pytest.importorskip("huggingface_hub")
CONFIG = {"model_type": "vit", "architectures": ["ViTForImageClassification"]}


@pytest.fixture
def hub(monkeypatch):
    # The tests' own switch keeps the client off the network; this hub is on this machine.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with served() as server:
        yield server


def found(hub, model_id, tmp_path):
    return look_up(model_id, {"HF_ENDPOINT": hub.url}, tmp_path / "cache")


def test_folder_gives_config_card_and_files(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "README.md").write_text("# A card")
    (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "ViTImageProcessor"}')
    page = look_up(str(tmp_path), {})
    assert page.config == CONFIG
    assert page.card == "# A card"
    assert page.processor == {"image_processor_type": "ViTImageProcessor"}
    assert page.files == ("README.md", "config.json", "preprocessor_config.json")
    assert page.url == (tmp_path / "README.md").as_uri()


def test_folder_without_card_is_noted(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert look_up(str(tmp_path), {}).notes == ("the folder has no model card README.md",)


def test_missing_folder_is_called_a_folder(tmp_path):
    with pytest.raises(ModelRejected, match="no such folder"):
        look_up(str(tmp_path / "nowhere"), {})


def test_folder_without_config(tmp_path):
    with pytest.raises(ModelRejected, match=r"has no config\.json"):
        look_up(str(tmp_path), {})


def test_folder_with_broken_config(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelRejected, match="is not JSON"):
        look_up(str(tmp_path), {})


def test_hub_gives_config_card_tags_and_count(hub, tmp_path):
    files = {"config.json": json.dumps(CONFIG), "README.md": "# A card", "model.safetensors": "weights"}
    hub.model(
        "one/model", files, tags=["vision"], pipeline_tag="image-classification",
        gated=False, safetensors={"parameters": {"F32": 24000}, "total": 24000},
    )  # fmt: skip
    page = found(hub, "one/model", tmp_path)
    assert page.config == CONFIG
    assert page.card == "# A card"
    assert page.files == ("README.md", "config.json", "model.safetensors")
    assert (page.pipeline_tag, page.parameters) == ("image-classification", 24000)
    assert "vision" in page.tags
    assert page.url == f"{hub.url}/one/model/raw/main/README.md"
    assert page.fetched_at
    assert not any("safetensors" in path for path in hub.asked)


def test_offline_takes_the_cache_and_says_so(hub, tmp_path):
    hub.model("one/model", {"config.json": json.dumps(CONFIG), "README.md": "# A card"})
    found(hub, "one/model", tmp_path)
    asked = len(hub.asked)
    page = look_up("one/model", {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "1"}, tmp_path / "cache")
    assert page.config == CONFIG
    assert page.notes[0].startswith("offline by HF_HUB_OFFLINE")
    assert len(hub.asked) == asked


def test_offline_without_cache_can_be_tried_again(tmp_path):
    with pytest.raises(HubUnreachable, match="hub unreachable"):
        look_up("one/model", {"HF_HUB_OFFLINE": "1"}, tmp_path)


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (401, "GatedRepo", "is gated: accept its terms"),
        (403, "GatedRepo", "is gated: accept its terms"),
        (401, "RepoNotFound", "is missing or private"),
        (404, "RepoNotFound", "is missing or private"),
        (404, None, "is missing or private"),
        (403, None, "is not shown to us"),
    ],
)
def test_refusal_gives_its_own_reason(hub, tmp_path, status, code, reason):
    hub.refuses("one/model", status, code)
    with pytest.raises(ModelRejected, match=reason):
        found(hub, "one/model", tmp_path)


def test_gated_files_of_a_visible_repository(hub, tmp_path):
    hub.model("one/model", {"config.json": "{}"}, gated="manual")
    hub.pages["/one/model/resolve/main/config.json"] = (403, {"X-Error-Code": "GatedRepo"})
    with pytest.raises(ModelRejected, match="is gated"):
        found(hub, "one/model", tmp_path)


def test_repository_without_config(hub, tmp_path):
    hub.model("one/model", {"README.md": "weights of another library"})
    with pytest.raises(ModelRejected, match=r"has no config\.json"):
        found(hub, "one/model", tmp_path)


def test_hub_that_is_down_can_be_tried_again(hub, tmp_path):
    hub.refuses("one/model", 500, None)
    with pytest.raises(HubUnreachable):
        found(hub, "one/model", tmp_path)


# The client itself tries a 429 or 503 again for 20 s before it gives up in the same way.
@pytest.mark.parametrize(("status", "refused"), [(400, HubUnreachable), (403, ModelRejected)])
def test_a_file_that_the_hub_does_not_give_is_not_taken_for_missing(hub, tmp_path, status, refused):
    hub.model("one/model", {"config.json": json.dumps(CONFIG), "README.md": "# A card"})
    hub.pages["/one/model/resolve/main/README.md"] = (status, {})
    with pytest.raises(refused):
        found(hub, "one/model", tmp_path)


def test_nobody_answers(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(HubUnreachable, match="hub unreachable"):
        look_up("one/model", {"HF_ENDPOINT": "http://127.0.0.1:9"}, tmp_path)


def test_text_that_is_no_id(tmp_path):
    with pytest.raises(ModelRejected, match="is no model id"):
        look_up("one/two/three", {"HF_HUB_OFFLINE": "1"}, tmp_path)


def test_error_of_transformers_is_told_by_its_cause(hub, tmp_path):
    # It raises an OSError whose text calls a gated repository "not a local folder".
    hub.refuses("one/model", 401, "GatedRepo")
    try:
        found(hub, "one/model", tmp_path)
    except InputError as first:
        cause = first.__cause__
    wrapped = OSError("one/model is not a local folder")
    wrapped.__cause__ = cause
    assert "is gated" in str(refusal("one/model", wrapped))


def test_transformers_without_a_hub():
    error = OSError("We couldn't connect to 'https://hub' to load the files")
    assert isinstance(refusal("one/model", error), HubUnreachable)


def test_another_error_of_a_config():
    assert "its config cannot be loaded: odd" in str(refusal("one/model", ValueError("odd")))
