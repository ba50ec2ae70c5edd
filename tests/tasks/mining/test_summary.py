from dataclasses import replace

from tasks.mining.summary import MiningSummary, summary_text

PLAIN = MiningSummary(
    target_queries=10,
    source_rows=60,
    topn_requested=5,
    topn=5,
    knn_metric="cosine",
    encoder_match="yes",
    total_pairs=50,
    filter_mode=None,
    kept_by_label=None,
    label_filter_noop=False,
    kept_by_distance=None,
    distance_threshold=None,
    total_candidates=50,
    unique_saved=45,
    output="/out/mined.parquet",
)


def test_lines_of_a_plain_search():
    assert summary_text(PLAIN) == (
        "Summary:\n  Target queries: 10\n  Similar items per query: 5\n  Total pairs: 50\n"
        "  Total candidates: 50\n  Duplicates removed: 5\n  Unique items saved: 45\n"
        "  Results saved to: /out/mined.parquet\n"
    )


def test_the_distance_filter_counts_from_what_the_label_filter_left():
    both = replace(
        PLAIN,
        kept_by_label=30,
        kept_by_distance=28,
        distance_threshold=0.72,
        total_candidates=28,
        unique_saved=28,
    )
    lines = summary_text(both).splitlines()
    assert lines[4] == "  After label mismatch filtering: kept 30/50 pairs, dropped 20 mismatches"
    assert lines[5] == "  After distance filtering: kept 28/30 pairs, dropped 2 exceeding threshold 0.7200"
