import pytest

from tasks.errors import InputError
from tasks.mining.spec import NeighboursSpec
from tasks.spec import load_spec

FILES = ["source_parquet=s.parquet", "target_parquet=t.parquet", "output_parquet=m.parquet"]


def spec(*words: str) -> NeighboursSpec:
    return load_spec(NeighboursSpec, None, [*FILES, *words])


@pytest.mark.parametrize("word", ["true", "True", "1", "yes", "YES"])
def test_filter_by_label_is_on(word: str):
    assert spec(f"filter_by_label={word}").filter_by_label == "true"


@pytest.mark.parametrize("word", ["false", "0", "no", "FALSE"])
def test_filter_by_label_is_off(word: str):
    assert spec(f"filter_by_label={word}").filter_by_label == "false"


def test_defaults_are_those_of_the_container():
    given = spec()
    assert (given.topn, given.knn_metric, given.distance_threshold) == (5, "euclidean", -1.0)
    assert given.to_dict()["filter_by_label"] == "false"


def test_older_names():
    given = spec("n_neighbors=3", "metric=Cosine")
    assert (given.topn, given.knn_metric) == (3, "cosine")


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("topn=0", "topn"),
        ("topn=-1", "topn"),
        ("knn_metric=hamming", "'cosine', 'euclidean' or 'manhattan'"),
        ("filter_by_label=perhaps", "filter_by_label"),
        ("distance_threshold=.nan", "distance_threshold"),
        ("results_dir=x", "unknown key results_dir"),
        ("output_parquet=s.parquet", "another file of this run"),
        ("output_parquet=mined_pairs.parquet", "another file of this run"),
    ],
)
def test_what_makes_no_sense_is_refused(word: str, says: str):
    with pytest.raises(InputError, match=says):
        spec(word)
