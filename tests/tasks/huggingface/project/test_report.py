"""The report of a finished project: charts, PDF and a page that stands alone."""

import importlib
import json
import os
import re
import subprocess
import sys

import html5lib
import pytest
import yaml
from PIL import Image

from tasks.huggingface.project.render import FILES, config_of, render_project
from tasks.huggingface.push import files_to_push, secrets_in
from tasks.huggingface.results import read_config
from tests.tasks.huggingface.finished_project import CONFIG, finished_project, write_json

MODULES = [file.stem for file in FILES.glob("report*.py")]
CHARTS = {"loss", "lr", "metrics", "baseline", "samples"}
EVIL = "<script>alert('$a$')</script>"
ADDRESS = "https://wandb.ai/anna/screws/runs/ab12cd"


@pytest.fixture(scope="module")
def scripts():
    """The modules of the report by name, as a project imports them."""
    sys.path.insert(0, str(FILES))
    yield {name: importlib.import_module(name) for name in MODULES}
    sys.path.remove(str(FILES))
    for name in MODULES:
        sys.modules.pop(name)


@pytest.fixture
def project(tmp_path):
    return finished_project(tmp_path / "project", label_names=["good", EVIL], emit_report=True)


@pytest.fixture(scope="module")
def reported(scripts, tmp_path_factory):
    """A finished project with its report."""
    project = finished_project(tmp_path_factory.mktemp("reported"), emit_report=True)
    (project / "logs").mkdir()
    (project / "logs/train.log").write_text(
        f"wandb: View run at \x1b[34m{ADDRESS}\x1b[0m\nhttps://other.org/x"
    )
    drawn(scripts, project)
    return project


def test_folders_of_this_machine_go_by_their_names(scripts, tmp_path):
    project = finished_project(
        tmp_path / "p", model_id="/home/anna/vit", dataset_id=None, local_dataset_path="/home/anna/screws"
    )
    read = scripts["report_data"].read(project / "config.yaml")
    told = dict(scripts["report_data"].facts(read)) | dict(scripts["report_data"].settings(read))
    assert (told["Model"], told["Data set"], told["local_dataset_path"]) == ("vit", "screws", "screws")
    assert "/home" not in str(told)


def edited(project, name, **changes):
    file = project / name
    write_json(file, json.loads(file.read_text()) | changes)


def drawn(scripts, project):
    assert scripts["report"].main(["--config", str(project / "config.yaml")]) == 0


def parsed(text):
    """Strict parsing fails at the first error."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)


def page_of(scripts, project):
    """The page as text and as a tree, and the names of its charts, which are not drawn."""
    results = scripts["report_data"].read(project / "config.yaml")
    charts = scripts["report_charts"].charts_of(results)
    undrawn = {chart.name: b"png" for chart in charts if chart.draw}
    text = scripts["report_page"].page(results, charts, undrawn, undrawn)
    return text, parsed(text), {name.removeprefix("chart_") for name in undrawn}


def charts_in(project):
    return {file.stem.removeprefix("chart_") for file in (project / "reports").glob("chart_*.png")}


def pages(project):
    content = (project / "reports/report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    return len(re.findall(rb"/Type /Page\b", content))


def test_a_finished_project_gets_every_chart_a_pdf_and_a_page(reported):
    assert charts_in(reported) == CHARTS
    for name in CHARTS:
        with Image.open(reported / f"reports/chart_{name}.png") as picture:
            assert picture.width == 960
            assert 200 < picture.height < 3000
            assert len(picture.convert("L").getcolors()) > 2
    assert pages(reported) >= 4
    assert not list((reported / "reports").glob(".*"))
    text = (reported / "reports/report.html").read_text(encoding="utf-8")
    tree = parsed(text)
    assert "0.3333 → 0.9000" in text
    assert "+0.5667, better" in text
    assert len(tree.findall(".//picture")) == len(CHARTS) - 1
    assert len([one for one in tree.iter("img") if one.get("alt", "").endswith("of sample 0")]) == 2
    assert all(one.get("alt") for one in tree.iter("img"))


def test_the_page_asks_for_nothing_from_outside(reported):
    text = (reported / "reports/report.html").read_text(encoding="utf-8")
    tree = parsed(text)
    assert set(re.findall(r"\w+://[^\s\"'<]+", text)) == {ADDRESS}
    assert [one.get("href") for one in tree.iter("a")] == [ADDRESS]
    assert not list(tree.iter("script"))
    assert not list(tree.iter("link"))
    sources = [one.get(name) for one in tree.iter() for name in ("src", "srcset") if one.get(name)]
    assert sources
    assert all(source.startswith("data:image/") for source in sources)


def test_the_report_is_pushed_and_not_taken_for_a_secret(reported):
    files = files_to_push(reported, read_config(reported))
    reports = {place: file for place, file in files.items() if place.startswith("results/report.")}
    assert set(reports) == {"results/report.html", "results/report.pdf"}
    assert secrets_in(reports) == []


def test_markup_in_names_and_replies_is_text(scripts, project):
    sample = "reports/inference_samples/sample_1_meta.json"
    edited(project, sample, prediction=EVIL, reply="control \x00 lone \ud83d none \ufffe", **{EVIL: 1})
    edited(project, "reports/eval_results.json", per_class={EVIL: 0.5}, **{EVIL: 0.25})
    edited(project, "reports/baseline_results.json", **{EVIL: 0.125})
    text, tree, _ = page_of(scripts, project)
    assert "<script" not in text
    assert "control � lone � none �" in text
    said = "\n".join("".join(cell.itertext()) for cell in (*tree.iter("dd"), *tree.iter("td")))
    assert said.count(EVIL) == 3
    drawn(scripts, project)  # dollars of a name are no formula


def test_without_a_baseline_that_is_said_and_an_old_chart_goes(scripts, project):
    (project / "reports/chart_baseline.png").write_bytes(b"old")
    (project / "reports/baseline_results.json").unlink()
    drawn(scripts, project)
    assert charts_in(project) == CHARTS - {"baseline"}
    text = (project / "reports/report.html").read_text(encoding="utf-8")
    assert "There is no reports/baseline_results.json." in text
    assert ">0.9000<" in text


def test_a_baseline_that_was_skipped_does_not_count(scripts, tmp_path):
    project = finished_project(tmp_path / "p", skip_baseline=True)
    text, _, _ = page_of(scripts, project)
    assert "skip_baseline is set" in text
    assert "0.3333" not in text


def test_without_samples_and_without_a_log_that_is_said(scripts, project):
    for file in (project / "reports/inference_samples").iterdir():
        file.unlink()
    (project / "checkpoints/trainer_state.json").unlink()
    text, _, charts = page_of(scripts, project)
    assert charts == {"metrics", "baseline"}
    for words in ("infer.py left no samples", "no logged loss", "no logged learning rate"):
        assert words in text


def test_samples_of_language_are_shown_as_text(scripts, project):
    folder = project / "reports/inference_samples"
    for file in folder.iterdir():
        file.unlink()
    turns = [
        {"role": "user", "content": "Why\nso?"},
        {"role": "assistant", "content": [{"label": "b", "x": 1.5}]},
    ]
    write_json(folder / "sample_10_meta.json", {"prompt": turns, "prediction": "last"})
    write_json(folder / "sample_2_meta.json", {"rewards": {"short": 0.25, "right": True}, "reference": None})
    text, tree, charts = page_of(scripts, project)
    assert "samples" not in charts
    assert [one.text for one in tree.iter("h3")] == ["Sample 2", "Sample 10"]
    said = ["".join(one.itertext()) for one in tree.iter("dd") if one.get("class") == "said"]
    assert said == ["short 0.25, right yes", "none", "user: Why\nso?\nassistant: b, x 1.5", "last"]
    assert "Input" not in text


def test_a_picture_that_is_missing_or_broken_leaves_the_other(scripts, project):
    folder = project / "reports/inference_samples"
    (folder / "sample_0_input.jpg").unlink()
    (folder / "sample_1_pred.jpg").write_bytes(b"no picture")
    _, tree, _ = page_of(scripts, project)
    shown = [one.get("alt") for one in tree.iter("img") if "of sample" in one.get("alt")]
    assert shown[:3] == ["Prediction of sample 0", "Input of sample 1", "Input of sample 2"]
    assert len(shown) == 8


def test_figures_that_are_no_numbers_are_left_out(scripts, project):
    log = [{"step": 1, "loss": float("nan"), "learning_rate": 0.0}, {"step": 2, "loss": 1.0}]
    write_json(project / "checkpoints/trainer_state.json", {"log_history": log, "best_global_step": 2})
    results = scripts["report_data"].read(project / "config.yaml")
    assert scripts["report_data"].points(results.state, "loss") == ([2], [1.0])
    edited(project, "reports/eval_results.json", eval_loss=None, notes="text", flag=True, seconds=3.5)
    results = scripts["report_data"].read(project / "config.yaml")
    assert list(scripts["report_data"].metrics_of(results.evaluation)) == ["accuracy", "top5"]
    _, _, charts = page_of(scripts, project)
    assert charts == CHARTS


def test_metrics_of_different_kinds_do_not_share_an_axis(scripts):
    is_share = scripts["report_data"].is_share
    assert is_share("accuracy", [0.1, 0.9])
    assert is_share("reward_accuracy", [0.4])
    assert not is_share("eval_loss", [0.1])
    assert not is_share("reward_margin", [0.1])
    assert not is_share("map", [0.1, 1.5])


@pytest.mark.parametrize(
    ("before", "after", "higher", "said"),
    [
        (0.25, 0.75, True, "+0.5000, better"),
        (0.25, 0.75, False, "+0.5000, worse"),
        (0.75, 0.25, False, "−0.5000, better"),
        (0.25, 0.25, True, "+0.0000, the same"),
    ],
)
def test_a_change_is_judged_by_the_direction_of_the_metric(scripts, project, before, after, higher, said):
    for name, value in (("baseline", before), ("eval", after)):
        primary = {"name": "m", "value": value, "higher_is_better": higher}
        edited(project, f"reports/{name}_results.json", primary_metric=primary)
    assert scripts["report_data"].read(project / "config.yaml").change() == said


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.yaml", None, "config.yaml is missing"),
        ("config.yaml", "- a\n", "not a list of"),
        ("reports/eval_results.json", None, "run run_eval.py first"),
        ("reports/eval_results.json", "{", "not valid JSON"),
        ("checkpoints/trainer_state.json", "[]", "an object of names and values"),
    ],
)
def test_what_cannot_be_read_ends_in_one_line_and_writes_nothing(scripts, project, file, content, said):
    (project / file).unlink()
    if content:
        (project / file).write_text(content)
    with pytest.raises(SystemExit, match=said):
        scripts["report"].main(["--config", str(project / "config.yaml")])
    assert not list((project / "reports").glob("report.*"))


def test_a_rendered_project_writes_its_report_with_nothing_else_at_hand(project):
    values = {key: value for key, value in CONFIG.items() if key != "project_dir"}
    render_project(config_of(values | {"emit_report": True}), project)
    assert yaml.safe_load((project / "config.yaml").read_text())["emit_report"] is True
    environment = {"PATH": os.environ["PATH"], "HOME": str(project), "MPLCONFIGDIR": ".cache/matplotlib"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", "import sys; sys.path.insert(0, ''); sys.argv = ['report.py'];"
         "import report; report.main([]); assert not {'torch', 'transformers'} & set(sys.modules)"],
        cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("REPORT: ")
    assert pages(project) >= 4
