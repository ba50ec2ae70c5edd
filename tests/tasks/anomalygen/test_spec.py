import pytest

from tasks.anomalygen.spec import GenerateSpec, IngestSpec
from tasks.errors import InputError
from tasks.spec import load_spec

CSV = {"clean_csv": "/a.csv", "images_dir": "/images", "train_yaml": "/train.yaml"}
GENERATE = {"gaps_parquet": "/gaps.parquet", "results_dir": "/out"}


def test_defaults_and_the_keys_of_the_container():
    spec = load_spec(
        GenerateSpec,
        {
            **GENERATE,
            "dataset_dir": "/d",
            "checkpoint_dir": "/c",
            "step": 14000,
            "model_size": "2B",
            "num_sdg": 7,
        },
    )
    assert (spec.project, spec.num_SDG, spec.seed, spec.guidance, spec.crop_ratio) == (
        "board",
        7,
        42,
        7.0,
        2.0,
    )


def test_one_csv_or_several():
    assert [str(file) for file in load_spec(GenerateSpec, {**GENERATE, **CSV}).clean_csv] == ["/a.csv"]
    several = load_spec(GenerateSpec, {**GENERATE, **CSV}, ["clean_csv=[/a.csv,/b.csv]"])
    assert [str(file) for file in several.clean_csv] == ["/a.csv", "/b.csv"]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "exactly one of dataset_dir and clean_csv"),
        ({**CSV, "dataset_dir": "/d"}, "exactly one of dataset_dir and clean_csv"),
        ({"clean_csv": "/a.csv"}, "needs images_dir"),
        ({"dataset_dir": "/d", "paint_on": "pass_sample"}, "no golden crops"),
        ({**CSV, "per_defect": {"a": 1}, "weights": {"a": 1}}, "exclude each other"),
        ({**CSV, "per_defect": {"a": -1}}, "per_defect.a"),
        ({**CSV, "weights": {"a": -0.1}}, "weights.a"),
        ({**CSV, "num_SDG": 0}, "num_SDG"),
        ({**CSV, "project": "a+b"}, "project"),
        ({**CSV, "allocation": "random"}, "allocation"),
    ],
)
def test_what_does_not_fit_together_is_refused(values, says):
    with pytest.raises(InputError, match=says):
        load_spec(GenerateSpec, {**GENERATE, **values})


@pytest.mark.parametrize("change", [{"name": "a/b"}, {"min_allocation_ratio": 2}, {"requested": 0}])
def test_ingest_values_out_of_range(change):
    keys = ("sdg_dir", "workspace", "train_yaml", "images_out", "results_dir")
    values = {**dict.fromkeys(keys, "/x"), "name": "iter1", **change}
    with pytest.raises(InputError, match=next(iter(change))):
        load_spec(IngestSpec, values)
