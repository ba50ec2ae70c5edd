import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.artifacts import write_json
from tasks.registry import find_action

SEARCH = find_action("tmm", "nearest_neighbors")
FACTS = {
    "target_queries": 2,
    "source_rows": 40,
    "topn": 5,
    "knn_metric": "cosine",
    "encoder_match": "yes",
    "total_pairs": 10,
    "kept_by_label": None,
    "kept_by_distance": None,
    "distance_threshold": None,
    "unique_saved": 0,
}


@pytest.fixture
def told(tmp_path):
    def tell(found, **facts):
        spec = SEARCH.spec(
            {
                "source_parquet": tmp_path / "source.parquet",
                "target_parquet": tmp_path / "target.parquet",
                "output_parquet": tmp_path / "mined.parquet",
            }
        )
        write_json(spec.summary_json, FACTS | facts)
        pq.write_table(pa.table({"filepath": pa.array(found, pa.string())}), spec.output_parquet)
        return SEARCH.code.headline(spec)

    return tell


def test_says_how_much_of_the_pool_is_near_and_what_each_filter_left(told):
    found = told(["/a.png"], unique_saved=1, kept_by_label=4, kept_by_distance=1, distance_threshold=0.1)
    assert found.sentence == (
        "Of the pool's images 1 of 40 (2.5 %) are among the 5 nearest of 2 weak images (cosine distance)."
    )
    assert [row[1] for row in found.rows] == [10, 4, 1, 1]
    assert [str(path) for path in found.pictures] == ["/a.png"]


def test_nothing_found_is_a_headline_too(told):
    found = told([], encoder_match="unverified")
    assert found.sentence.endswith("That both sides have one encoder is unverified.")
    assert [row[1] for row in found.rows] == [10, 0]
    assert not found.pictures
