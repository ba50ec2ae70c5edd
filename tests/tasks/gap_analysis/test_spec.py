import logging
from pathlib import Path

import pytest

from tasks.errors import InputError
from tasks.gap_analysis.spec import BcqSpec, VcnSpec
from tasks.spec import load_spec

REQUIRED = ["inference_results_dir=i", "train_config=t.yaml", "results_dir=r"]


def test_defaults():
    spec = load_spec(VcnSpec, None, REQUIRED)
    assert (spec.recall_floor, spec.top_k_per_label, spec.threshold, spec.kpi_media_path) == (
        1.0,
        50,
        -1.0,
        "",
    )
    assert spec.swept


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("inference_csv", "inference_results_dir"),
        ("inference_dir", "inference_results_dir"),
        ("output_dir", "results_dir"),
        ("train_yaml", "train_config"),
    ],
)
def test_older_names_of_required_keys(alias, name):
    words = [f"{alias}={word.split('=')[1]}" if word.startswith(f"{name}=") else word for word in REQUIRED]
    assert getattr(load_spec(VcnSpec, None, words), name) == getattr(load_spec(VcnSpec, None, REQUIRED), name)


@pytest.mark.parametrize("alias", ["top_k", "topk_per_label"])
def test_older_names_of_top_k(alias):
    assert load_spec(VcnSpec, None, [*REQUIRED, f"{alias}=7"]).top_k_per_label == 7


@pytest.mark.parametrize("alias", ["images_dir", "media_path"])
def test_older_names_of_media_path(alias):
    assert load_spec(VcnSpec, None, [*REQUIRED, f"{alias}=/m"]).kpi_media_path == "/m"


@pytest.mark.parametrize(
    "word",
    [
        "min_recall=1.01",
        "min_recall=-0.1",
        "top_k_per_label=0",
        "top_k_per_label=ten",
        "threshold=.nan",
        "max_far=2",
        "extra=1",
    ],
)
def test_values_out_of_range_are_refused(word):
    with pytest.raises(InputError, match=word.split("=")[0]):
        load_spec(VcnSpec, None, [*REQUIRED, word])


def test_the_csv_itself_stands_for_its_folder(oracle, caplog):
    with caplog.at_level(logging.INFO, logger="deft"):
        spec = load_spec(VcnSpec, None, [*REQUIRED[1:], f"inference_csv={oracle.csv}"])
    assert spec.inference_csv == oracle.csv
    assert "its folder is used" in caplog.text


def test_another_file_is_refused(oracle):
    with pytest.raises(InputError, match=r"is a file; give the folder that holds inference\.csv"):
        load_spec(VcnSpec, None, [*REQUIRED[1:], f"inference_csv={oracle.train}"])


@pytest.mark.parametrize("given", ["", "null", "."])
def test_no_videos_dir_is_the_working_directory(given):
    spec = load_spec(BcqSpec, None, ["predictions_json=p", "results_dir=r", f"videos_dir={given}"])
    assert spec.videos_dir == Path.cwd()
