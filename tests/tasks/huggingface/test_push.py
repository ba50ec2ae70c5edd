"""The push against a hub of the test's own, through the real client."""

import pytest
import yaml

from tasks.errors import DeftError, InputError, StageFailed
from tasks.huggingface import push as pushing
from tasks.huggingface.results import read_config
from tests.tasks.huggingface import language_models as tiny
from tests.tasks.huggingface.finished_project import finished_project
from tests.tasks.huggingface.loopback_hub import TOKEN

pytest.importorskip("huggingface_hub")
REPOSITORY = "anna/tiny-vit-screws-finetuned"


@pytest.fixture
def project(tmp_path):
    return finished_project(tmp_path / "project")


def pushed(project):
    return pushing.push(project, read_config(project))


def test_model_card_and_results_arrive(hub, project):
    done = pushed(project)
    files = hub.repositories[REPOSITORY]
    assert hub.private[REPOSITORY]
    weights = (project / "checkpoints/final/model.safetensors").read_bytes()
    assert files["model.safetensors"] == weights
    assert {name.split("/")[0] for name in files} == {
        "README.md", "config.json", "model.safetensors", "preprocessor_config.json", "results",
    }  # fmt: skip
    pictures = [name for name in files if name.startswith("results/inference_samples/")]
    assert len(pictures) == 10
    assert sorted(files) == done.files
    assert done.url.endswith(REPOSITORY)
    assert pushing.read_pushed(project) == done
    front = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    assert front["base_model"] == "acme/tiny-vit"
    assert front["datasets"] == ["acme/screws"]
    assert "| accuracy | 0.3333 | 0.9000 | +0.5667 |" in files["README.md"].decode()
    assert pushed(project) == done.model_copy(update={"at": pushing.read_pushed(project).at})


def test_the_report_arrives_where_one_is_asked_for(hub, tmp_path):
    project = finished_project(tmp_path / "p", emit_report=True)
    for name in ("report.html", "report.pdf", "chart_loss.png"):
        (project / "reports" / name).write_text(name)
    pushed(project)
    files = hub.repositories[REPOSITORY]
    assert {name: files[name] for name in files if name.startswith("results/report.")} == {
        "results/report.html": b"report.html", "results/report.pdf": b"report.pdf",
    }  # fmt: skip
    assert "results/chart_loss.png" not in files


def test_a_secret_stops_the_push_before_any_request(hub, project):
    (project / "requirements.txt").write_text(f"transformers\n# token {TOKEN}\n")
    (project / "Dockerfile").write_text("ENV WANDB_API_KEY=0123456789abcdef0123456789abcdef01234567\n")
    with pytest.raises(InputError, match=r"results/requirements\.txt, line 2: a token") as said:
        pushed(project)
    assert "results/Dockerfile, line 1" in str(said.value)
    assert TOKEN not in str(said.value)
    assert hub.requests == []


@pytest.mark.parametrize("model", [tiny.llama, tiny.idefics3, tiny.llava])
def test_words_and_names_of_a_models_tokens_are_no_secrets(tmp_path, model):
    pytest.importorskip("torch")
    folder = model(tmp_path)
    (folder / "vocab.json").write_text('{\n  "Authorization": 13316,\n  "bearer": 1\n}')
    (folder / "chat_template.jinja").write_text("{%- set eos_token = '<|end|>' %}")
    assert pushing.secrets_in({file.name: file for file in folder.iterdir()}) == []
    (folder / "config.json").write_text(f'"_name_or_path": "https://anna:{TOKEN}@hub/x"')
    assert len(pushing.secrets_in({"config.json": folder / "config.json"})) == 1


@pytest.mark.parametrize(
    ("status", "words"), [(401, "set HF_TOKEN"), (403, "write access"), (500, "HfHubHTTPError")]
)
def test_the_hub_refuses(hub, project, status, words):
    hub.refuse = {"/commit/": status}
    with pytest.raises(StageFailed, match=words):
        pushed(project)
    with pytest.raises(DeftError, match="not pushed"):
        pushing.read_pushed(project)


def test_a_push_needs_a_token(hub, project, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(StageFailed, match="set HF_TOKEN"):
        pushed(project)


def test_nothing_goes_into_a_public_repository(hub, project):
    hub.repositories[REPOSITORY], hub.private[REPOSITORY] = {}, False
    with pytest.raises(StageFailed, match="is public; make it private"):
        pushed(project)
    assert hub.repositories[REPOSITORY] == {}


def test_weights_of_an_earlier_model_go(hub, project):
    old = {"model.safetensors.index.json": b"{}", "model-00001-of-00002.safetensors": b"", "notes.txt": b""}
    hub.repositories[REPOSITORY], hub.private[REPOSITORY] = old | {"pytorch_model.bin": b""}, True
    assert set(pushed(project).files) & {*old, "pytorch_model.bin"} == {"notes.txt"}


def test_a_file_that_did_not_arrive_is_noticed(hub, project):
    hub.lose = {"model.safetensors"}
    with pytest.raises(StageFailed, match=r"lacks model\.safetensors"):
        pushed(project)


def test_merged_weights_are_pushed_after_lora(hub, tmp_path):
    project = finished_project(tmp_path / "p", use_lora=True)
    with pytest.raises(InputError, match="merged"):
        pushed(project)
    (project / "checkpoints/final").rename(project / "checkpoints/merged")
    assert "model.safetensors" in pushed(project).files


def test_repository_name_is_needed(project):
    config = read_config(project) | {"hf_model_repo": None}
    with pytest.raises(InputError, match="hf_model_repo"):
        pushing.push(project, config)


def test_a_cut_off_file_of_weights(project):
    file = project / "checkpoints/final/model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(InputError, match="cut off"):
        pushing.files_to_push(project, read_config(project))


def test_folders_of_this_machine_stay_here(hub, tmp_path):
    project = finished_project(
        tmp_path / "p",
        model_id="/models/of anna/tiny-vit",
        dataset_id=None,
        local_dataset_path="/data/screws",
    )
    (project / "reports/baseline_results.json").write_text(
        (project / "reports/baseline_results.json")
        .read_text()
        .replace("acme/tiny-vit", "/models/of anna/tiny-vit")
    )
    pushed(project)
    files = hub.repositories[REPOSITORY]
    for name, content in files.items():
        for place in (b"/models/of anna", b"/data/", str(tmp_path).encode()):
            assert place not in content, name
    assert yaml.safe_load(files["results/config.yaml"])["local_dataset_path"] == "screws"
    assert "/data/screws" in (project / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"tokenizer": "/jürgen/data"}', '{"tokenizer": "data"}'),
        (r'{"name": "/j\u00fcrgen/data/set"}', '{"name": "data/set"}'),
        ("- file:///j%C3%BCrgen/data/README.md", "- data/README.md"),
        ("rows of /jürgen/data.", "rows of data."),
        ("- https://x/jürgen/data/y", "- https://x/jürgen/data/y"),
        ("/jürgen/data.csv of /jürgen/database", "/jürgen/data.csv of /jürgen/database"),
    ],
)
def test_a_folder_goes_by_its_name_where_it_stands_as_a_path(project, text, expected):
    file = project / "checkpoints/final/x.json"
    config = {"model_id": "acme/vit", "local_dataset_path": "/jürgen/data"}
    file.write_text(text)
    assert pushing._portable(project, config, file).read_text() == expected


def test_a_vocabulary_is_pushed_as_it_is(hub, tmp_path):
    project = finished_project(tmp_path / "p", dataset_id=None, local_dataset_path="/data")
    words = '{"/data": 0, "merges": ["/ data"]}'
    (project / "checkpoints/final/tokenizer.json").write_text(words)
    pushed(project)
    assert hub.repositories[REPOSITORY]["tokenizer.json"].decode() == words


@pytest.mark.parametrize(
    ("place", "changes", "shown"),
    [
        ("docker", {"gpu_count": 1}, ("bf16", "25.01-py3", "| epochs | 3 |")),
        ("process", {"gpu_count": 0, "max_steps": 30}, ("fp32", "none: processes", "| steps | 30 |")),
    ],
)
def test_the_card_says_how_it_was_trained(tmp_path, place, changes, shown):
    project = finished_project(tmp_path / "p", **changes)
    (project / "meta/image.json").write_text(f'{{"place": "{place}"}}')
    card = pushing.model_card(project, read_config(project))
    assert all(word in card for word in shown)
