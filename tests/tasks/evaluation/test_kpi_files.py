import numpy as np
import pyarrow.csv
import pytest

from tasks.evaluation.kpi import far_at_recall
from tasks.evaluation.kpi_files import (
    lowest_defect,
    missed_samples,
    summary_text,
    threshold_table,
    write_numbers_csv,
)
from tasks.gap_analysis.scores import read_scores
from tasks.gap_analysis.sweep import sweep


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "inference.csv"
    path.write_text(
        'object_name,label,siamese_score,note\n001,PASS,0.1,\n002,shift,0.3,x\n003,Shift,0.2,"a,b"\n'
        "004,PASS,0.4,\n005,shift,0.9,\n"
    )
    return read_scores(path, required=(), every_column=True)


def test_far_is_printed_as_an_exact_fraction():
    passes = np.array([True] * 340 + [False])
    scores = np.array([0.1] * 328 + [0.9] * 12 + [0.5])
    text = summary_text(far_at_recall(scores, passes), 1.0, "far_pct < 10 % passed")
    assert "12/340 = 3.53 %" in text
    assert "Recall >= 100 %: threshold 0.1" in text
    assert "actual PASS FP 12 TN 328" in " ".join(text.split())


def test_every_candidate_survives_writing(tmp_path, rows):
    points = sweep(rows.scores, rows.is_pass)
    path = write_numbers_csv(tmp_path / "t.csv", threshold_table(points))
    table = pyarrow.csv.read_csv(path).to_pydict()
    assert path.read_text().splitlines()[0] == (
        "threshold,tp,fp,tn,fn,precision,recall,f1,accuracy,far,"
        "predicted_no_pass_count,actual_no_pass_count,actual_pass_count"
    )
    assert table["threshold"] == points.threshold.tolist()
    assert table["accuracy"] == ((points.tp + points.tn) / 5).tolist()
    assert table["predicted_no_pass_count"] == [5, 4, 3, 2, 1, 0]
    assert table["precision"][-1] is None  # how this reader shows nan
    assert table["f1"][-1] is None


def test_missed_samples_by_score_with_every_column(rows):
    missed = missed_samples(rows, 0.3)
    assert [row["analysis_row_index"] for row in missed] == [4, 3]
    assert missed[0] == {
        "object_name": "003",
        "label": "Shift",
        "siamese_score": 0.2,
        "note": "a,b",
        "analysis_row_index": 4,
        "analysis_score": 0.2,
        "analysis_threshold": 0.3,
        "analysis_actual_label_group": "NO_PASS",
        "analysis_predicted_label_group": "PASS",
        "analysis_outcome": "FN",
    }


def test_lowest_defect_names_what_the_csv_has(rows):
    assert lowest_defect(rows, 2) == {"row": 4, "object_name": "003", "label": "Shift", "score": 0.2}
