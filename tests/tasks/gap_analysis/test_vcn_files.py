import pyarrow.parquet as pq
import pytest

from tasks.artifacts import read_json, sha256_of
from tasks.errors import TargetUnreachable


def test_worked_example_leaves_every_artifact(oracle):
    oracle.run()
    results = oracle.results
    assert (results / "threshold.txt").read_bytes() == b"0.2"
    assert (results / "weak_samples_breakdown.txt").read_text(encoding="utf-8") == (
        "Weak samples breakdown by label (threshold=0.2, top_k_per_label=50)\n"
        "Total KPI samples: 5\n"
        "Total weak samples kept: 5\n"
        "\n"
        "  PASS: 3 (60.0%) \N{EM DASH} 1 misclassified, 2 marginal\n"
        "  NO_PASS: 2 (40.0%) \N{EM DASH} 0 misclassified, 2 marginal\n"
    )
    gaps = pq.read_table(results / "kpi_gaps.parquet").to_pylist()
    assert [row["filepath"] for row in gaps[:4]] == [
        "/data/board/003_Top.jpg",
        "/data/board/003_Side.jpg",
        "/data/board/001_Top.jpg",
        "/data/board/001_Side.jpg",
    ]
    assert len(gaps) == 10
    assert gaps[0] == {
        "filepath": "/data/board/003_Top.jpg",
        "label": "PASS",
        "siamese_score": 0.4,
        "weakness": 0.2,
    }
    samples = pq.read_table(results / "weak_samples.parquet").to_pylist()
    assert samples[0] == {
        "input_path": "board",
        "object_name": "003",
        "label": "PASS",
        "siamese_score": 0.4,
        "weakness": 0.2,
        "misclassified": True,
        "first_filepath": "/data/board/003_Top.jpg",
    }


def test_metrics(oracle):
    oracle.run()
    facts = read_json(oracle.results / "metrics.json")
    assert facts["confusion_matrix"] == {"tp": 2, "fp": 1, "tn": 2, "fn": 0}
    assert (facts["threshold"], facts["recall"], facts["f1"]) == (0.2, 1.0, pytest.approx(0.8))
    assert facts["far"] == pytest.approx(1 / 3)
    assert facts["per_label"]["PASS"]["n_misclassified"] == 1
    assert facts["target_defects"] == ["NO_PASS"]
    assert [point["threshold"] for point in facts["runner_up"]] == [0.1, pytest.approx(0.1)]
    assert (facts["mode"], facts["threshold_origin"], facts["queue_usable"]) == ("top_k", "swept", True)
    assert (facts["n_total"], facts["n_kept_samples"], facts["n_kept_rows"]) == (5, 5, 10)
    assert (facts["min_recall"], facts["top_k_per_label"], facts["duplicates"]) == (1.0, 50, 0)
    assert facts["inputs"]["inference_csv"] == {"path": str(oracle.csv), "sha256": sha256_of(oracle.csv)}


def test_totals_reconcile(oracle):
    oracle.run(threshold=0.3)
    facts = read_json(oracle.results / "metrics.json")
    matrix, labels = facts["confusion_matrix"], facts["per_label"].values()
    assert sum(matrix.values()) == sum(entry["total"] for entry in labels) == facts["n_total"]
    misclassified = sum(entry["n_misclassified"] for entry in labels)
    assert misclassified == matrix["fp"] + matrix["fn"] - facts["n_boundary"]


def test_labels_are_grouped_upper_cased_and_written_as_spelled(inference):
    inference.write([(0.1, "PASS"), (0.5, " Missing "), (0.6, "MISSING")])
    inference.run()
    labels = pq.read_table(inference.results / "weak_samples.parquet")["label"].to_pylist()
    assert labels == ["PASS", "Missing", "MISSING"]
    assert set(read_json(inference.results / "metrics.json")["per_label"]) == {"PASS", "MISSING"}


def test_no_kept_rows_keep_their_types(inference):
    inference.write([(0.1, "PASS"), (0.5, "a")])
    inference.run(top_k_per_label=None)
    table = pq.read_table(inference.results / "kpi_gaps.parquet")
    assert table.num_rows == 0
    assert [str(kind) for kind in table.schema.types] == ["large_string", "large_string", "double", "double"]
    assert (inference.results / "weak_samples_breakdown.txt").read_text().endswith("kept: 0\n\n")


def test_null_input_map_is_one_image_without_suffix(oracle):
    oracle.train.write_text("dataset: {classify: {input_map: null, image_ext: .png}}")
    oracle.run(top_k_per_label=1)
    files = pq.read_table(oracle.results / "kpi_gaps.parquet")["filepath"].to_pylist()
    assert files == ["/data/board/003.png", "/data/board/002.png"]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"max_far": 0.1}, ["Reason: max_far", "FAR <= 0.1", "Best recall attainable: 0.5 at threshold 0.4"]),
        (
            {"threshold": 0.5, "min_recall": 1.0},
            ["Reason: pinned_threshold", "At the pinned threshold: 0.5", "attainable: 1.0 at threshold 0.2"],
        ),
    ],
)
def test_unreachable_text_says_what_can_be_had(oracle, keys, words):
    with pytest.raises(TargetUnreachable, match="recall"):
        oracle.run(**keys)
    text = (oracle.results / "unreachable_kpi.txt").read_text()
    for word in [*words, "Rows: 3 PASS, 2 NO_PASS", "Recall at best F1: 1.0", "Advice: "]:
        assert word in text
